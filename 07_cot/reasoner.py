"""A GPT that solves problems: trained to think aloud first ("chain"), or to answer at once ("direct")."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
import flags
import lm_model
from annotate import load_annotated
from chains import think
from evaluation import autocast, evaluating
from flags import UserError, shown
from objectives import ChainLoss
from optimizers import make_optimizer
from problem_batches import STYLES, example, new_tokenizer, padded, problem_batches
from schedules import linear
from tasks import FAMILIES, draw, find
from tokenizer import from_state
from training_run import train_and_keep

NUMBERS = {
    "embedding_size": 128, "batch_size": 24, "block_size": 256, "learning_rate": 5e-3,
    "steps": 600, "head_count": 4, "layer_count": 4, "dropout": 0.0,
}
# flags that an unfinished run fixes, and what they are where neither it nor the user says
CHOICES = {"data": "arithmetic", "difficulty": None, "problems": 50_000, "result_weight": 1.0, "answer_weight": 1.0,
           "second_head": 0.0, "slips": 0.0, "window": 4}
HELD_OUT = 256  # problems of each validation
WEIGHT_DECAY = 0.01  # ten times as much, as for texts, keeps tables from being learned in time
PARTS = {"positions": "rotary", "norm": "rms_norm", "attention": "grouped_query", "feed_forward": "relu2",
         "bias": "none", "qk_norm": True}  # what GPTs have today


def default_path(data, style):
    """Where a model of these problems stands: checkpoints/07_cot_arithmetic.pt, and ..._direct.pt."""
    return flags.CHECKPOINTS / f"07_cot_{Path(data).stem}{'' if style == 'chain' else '_direct'}.pt"


def training_arguments(description):
    parser = flags.Parser(description)
    group = parser.add_argument_group("problems")
    group.add_argument("-d", "--data", help=f"a family of problems, one of {', '.join(FAMILIES)}; or a file of problems"
                       f" that annotate.py wrote (default: {CHOICES['data']})")
    group.add_argument("--difficulty", type=int, help="operations, digits, lines or people of a question, half as many"
                       " at least in training (default: the family's own)")
    group.add_argument("--problems", type=int, help=f"for training, all different (default: {CHOICES['problems']})")
    group.add_argument("--style", choices=[*STYLES, "both"], default="both",
                       help="train the model that thinks first, the one that answers at once, or both for as long")
    group = parser.add_argument_group("checkpoints")
    group.add_argument("-l", "--load_model", metavar="PATH", default="untrained",
                       help="checkpoint to go on from: an unfinished run where it stopped, a finished one from step 0")
    group.add_argument("-s", "--save_model", metavar="PATH", default="default",
                       help="'default' is checkpoints/07_cot_<data>.pt, with _direct for the other; 'no_save' keeps"
                            " nothing")
    group = parser.add_argument_group("what counts in a chain")
    group.add_argument("--result_weight", type=float, help="of the results of steps, from which the next ones follow"
                       f" (default: {CHOICES['result_weight']})")
    group.add_argument("--answer_weight", type=float, help=f"of the answer (default: {CHOICES['answer_weight']})")
    group.add_argument("--second_head", type=float, help="of a second head that predicts the character after the next"
                       f" (default: {CHOICES['second_head']})")
    group.add_argument("--slips", type=float, help="share of steps before which the training text has a wrong one, and"
                       f" takes it back: 'wait' (default: {CHOICES['slips']})")
    parser.add_argument("--window", type=int, help="how many characters the first half of the blocks see: what stands"
                        f" side by side is learned first; 0 is all (default: {CHOICES['window']})")
    flags.machine_flags(parser)
    flags.number_flags(parser, NUMBERS)
    parser.checkpointed |= CHOICES
    return parser


def load_problems(args, split, count):
    """At most `count` problems of a split of what -d names. Raises UserError for what can't be.

    Those for training are of all difficulties from half of the highest on, held-out ones of the highest alone.
    """
    if Path(args.data).is_file():
        return load_annotated(args.data, split)[:count]
    if split != "train":
        return draw(args.data, split, count, args.seed, args.difficulty)
    hardest = args.difficulty or find(args.data).difficulty
    levels = range(max(find(args.data).easiest, (hardest + 1) // 2), hardest + 1)
    return [problem for level in levels
            for problem in draw(args.data, split, count // len(levels), args.seed + level, level)]


def solved(model, tokenizer, data, problems, dtype=torch.float32, settings=None):
    """For each problem whether the likeliest chain solves it, or one that is written as `settings` say."""
    family = FAMILIES.get(data)
    with autocast(model.head_weight.device, dtype):
        found = think(model, tokenizer, [each.question for each in problems], settings=settings)
    return [is_right(family, each, chain.answer) for each, (chain,) in zip(problems, found)]


def is_right(family, problem, answer):
    """Whether an answer is right, by the family's own checker if the problem is of one."""
    return answer is not None and (family.right(problem.question, answer) if family else answer == problem.answer)


def settle(args, loaded):
    """Fill in what was not typed, from an unfinished run or the defaults. Raises UserError for what can't be."""
    run = loaded["run"] if loaded else {}
    for name, default in CHOICES.items():
        setattr(args, name, args.typed.get(name, run.get(name, default)))
    if loaded:
        flags.take_numbers(args, loaded["config"], run, args.load_model)
        if args.window != (window := loaded["config"]["window"] or 0):
            raise UserError(f"window {args.window} contradicts {args.load_model}, which has {window}: leave it out")
    flags.check_numbers(args)
    flags.check_ranges(args, problems=(100, 10**7), result_weight=(0, 1000), answer_weight=(0, 1000),
                       second_head=(0, 10), slips=(0, 0.9), window=(0, args.block_size))


def build(args, tokenizer, loaded=None):
    """(model on its device, dtype), new or with a checkpoint's weights."""
    if loaded:
        return lm_model.build(args, None, loaded)
    near = {"window": args.window, "window_layers": args.layer_count // 2} if args.window else {}
    return lm_model.build(args, tokenizer.vocab_size, key_value_head_count=args.head_count, **PARTS, **near)


def train_command(args, style):
    """Train one model as the flags say, and save it: the share of held-out problems it solves, None after Ctrl-C."""
    load, save = flags.checkpoint_paths(args, default_path(args.data, style))
    loaded = checkpoint.load(load, "gpt") if load else None
    settle(args, loaded)
    tokenizer = from_state(loaded["tokenizer"]) if loaded else new_tokenizer()
    torch.manual_seed(args.seed)
    train, held_out = load_problems(args, "train", args.problems), load_problems(args, "validation", HELD_OUT)
    longest = max(len(problem.question) + len(problem.chain) for problem in train + held_out)
    if longest > args.block_size:
        raise UserError(f"the longest of these problems has {longest} characters: give a block_size of {longest}")
    model, dtype = build(args, tokenizer, loaded)
    print(f"{args.data}, {style}: {len(train):,} problems for training, {len(held_out)} held out")

    loss_of = ChainLoss(model, args.result_weight, args.answer_weight, args.second_head)
    if loaded and loaded.get("second_head"):
        loss_of.load_state_dict(loaded["second_head"], strict=False)
    loss_of, plain = (each.to(model.head_weight.device) for each in (loss_of, ChainLoss(model)))
    random = np.random.default_rng(args.seed)
    examples = [example(problem, style, tokenizer, args.slips, random) for problem in train]
    held = padded([example(problem, style, tokenizer) for problem in held_out])
    held = [part.to(model.head_weight.device) for part in held]

    @torch.no_grad()
    def validate():
        with evaluating(model), autocast(model.head_weight.device, dtype):
            return plain(*held)[1].item()

    kept = ("batch_size", "learning_rate", "steps", "dropout", "seed", *CHOICES)
    run = {"style": style, **{name: getattr(args, name) for name in kept}}
    # as many tokens in a step for both styles: both work as long, and short texts come more often
    batch = problem_batches(examples, args.batch_size * longest, args.seed)
    history = train_and_keep(
        "gpt", model, tokenizer, make_optimizer(loss_of, "muon", args.learning_rate, WEIGHT_DECAY), batch,
        linear(args.learning_rate, args.steps), validate, run, f"{args.data}, {style}", loaded, load, save, dtype,
        loss_of, beside={"second_head": loss_of.beside})
    if history is None:
        return None
    right = solved(model, tokenizer, args.data, held_out, dtype)
    share = sum(right) / len(right)
    print(f"{share:.1%} of {len(held_out)} held-out problems solved; {history[-1]['seconds']:.0f} s of training")
    if save:
        print(f"checkpoint {shown(save)}, loss curve {shown(save.with_suffix('.png'))}")
    return share


def ensure_reasoner(data="arithmetic", style="chain"):
    """The path of the model of a family; if there is none, it is trained now, with the default numbers."""
    def train(words):
        return train_command(training_arguments("").parse(["-d", data, *words]), style)

    return checkpoint.ensured(default_path(data, style), train, "gpt")


def load_reasoner(path, args):
    """(model, dtype, tokenizer, its run) of a checkpoint. `args` says on which device and in which dtype."""
    loaded = checkpoint.load(path, "gpt")
    checkpoint.tell_unfinished(loaded, path)
    model, dtype = lm_model.build(args, None, loaded)
    return model.eval(), dtype, from_state(loaded["tokenizer"]), loaded["run"]
