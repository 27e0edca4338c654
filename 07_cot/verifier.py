"""Verifiers: how likely a chain is right, learned from a reasoner's own chains, which the exact checker has judged.

    python 07_cot/verifier.py                           # of both kinds, for the early model of arithmetic
    python 07_cot/verifier.py -d countdown --kind process

An outcome model has one label for a chain, whether its answer is right, and is read at its end. A process model has one
behind each step, whether all so far are right, up to the first that is not, and at the end. Both are the reasoner with
another head, and train on the same chains for as many steps, so for the same time.
Shapes: B chains, T tokens of question, chain and end, C = embedding size.
"""

import copy
import math
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
import flags
from batches import in_turn, pad_rows
from chain_labels import auc, example, is_solved, places, step_labels, with_end
from chains import room, row_generators, think
from early_reasoner import EARLY, ensure_early
from evaluation import autocast, evaluating
from flags import UserError, shown
from gpt import GPT, GPTConfig
from lm_model import placed
from optimizers import make_optimizer
from reasoner import load_reasoner
from sampling import Sampling
from schedules import linear
from tasks import draw, find
from tokenizer import from_state
from training_run import train_and_keep

KINDS = ("process", "outcome")
NUMBERS = {"batch_size": 64, "learning_rate": 5e-3, "steps": 300}
CHOICES = {"data": "arithmetic", "problems": 1500, "samples": 4, "temperature": 0.8, "all_tokens": False,
           "imitation": 1.0}
HELD_OUT = 256  # problems, with as many chains each
AT_ONCE = 128  # chains that are read together


class Verifier(nn.Module):
    """A GPT that judges. Its loss is the cross-entropy of right and wrong, and `imitation` times that of the next token
    of what was judged right: who knows what to say sees sooner that something else was said.

    Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", section 4.2 (outcome, both losses); Lightman et
    al. 2023, "Let's Verify Step by Step", section 2.6 (process).
    """

    def __init__(self, model, kind, imitation=0.0):
        super().__init__()
        self.model, self.kind, self.imitation = model, kind, imitation
        self.head = nn.Linear(model.config.embedding_size, 1)
        nn.init.normal_(self.head.weight, std=0.01)  # at first one as likely as the other
        nn.init.zeros_(self.head.bias)

    def logits(self, hidden):
        """hidden (..., C) -> (...): the log-odds that what stands up to each token is right."""
        return self.head(hidden).float()[..., 0]

    def forward(self, ids, labels, following=None):
        hidden, asked = self.model.hidden(ids), labels != -100
        loss = F.binary_cross_entropy_with_logits(self.logits(hidden[asked]), labels[asked].float())
        if following is not None and self.imitation and (counted := following != -100).any():
            said = self.model.head(hidden[counted]).float()
            loss = loss + self.imitation * F.cross_entropy(said, following[counted])
        return None, loss


@torch.no_grad()
def readings(verifier, tokenizer, pairs, dtype=torch.float32):
    """For each (question, text) what a verifier thinks at each of its `places`, as probabilities."""
    device, most, found = verifier.head.weight.device, verifier.model.config.block_size, {}
    distinct = sorted(set(pairs), key=lambda pair: len(pair[0] + pair[1]))  # many chains are drawn more than once
    with evaluating(verifier), autocast(device, dtype):
        for i in range(0, len(distinct), AT_ONCE):
            these = distinct[i : i + AT_ONCE]
            # where a chain takes all the room there is no end of it to be read, but its last character
            ids = pad_rows([with_end(question, text, tokenizer)[:most] for question, text in these]).to(device)
            for pair, row in zip(these, verifier.logits(verifier.model.hidden(ids)).sigmoid().tolist()):
                question, text = pair
                found[pair] = [row[min(len(question) + place, most - 1)] for place in places(text)]
    return [found[pair] for pair in pairs]


def score(kind, read):
    """One number for a chain: of an outcome model the last reading, of a process model the product of all.

    Each of these is how likely a step is right if those before it are, since behind a mistake nothing was learned: the
    product is how likely all are right. Lightman et al. 2023, section 2.6.
    """
    return math.prod(read) if kind == "process" else read[-1]


def scores(verifier, tokenizer, questions, texts, dtype=torch.float32):
    """For each question the scores of its texts, chains or beginnings of chains, each from 0 to 1."""
    pairs = [(question, text) for question, its_own in zip(questions, texts, strict=True) for text in its_own]
    found = iter([score(verifier.kind, read) for read in readings(verifier, tokenizer, pairs, dtype)])
    return [[next(found) for _ in its_own] for its_own in texts]


def verifier_arguments(description):
    parser = flags.Parser(description)
    group = parser.add_argument_group("what is verified")
    group.add_argument("-d", "--data", help=f"the family of problems (default: {CHOICES['data']})")
    group.add_argument("--reasoner", metavar="PATH", help="whose chains, a checkpoint of 07_cot/train.py (default: one"
                       f" that was stopped early, for {', '.join(EARLY)})")
    group.add_argument("--problems", type=int, help="of the training split (default: {problems})".format(**CHOICES))
    group.add_argument("--samples", type=int, help="chains of each (default: {samples})".format(**CHOICES))
    group.add_argument("--temperature", type=float, help="at which they are drawn"
                       " (default: {temperature})".format(**CHOICES))
    group.add_argument("--kind", choices=[*KINDS, "both"], default="both", help="of verifier; each trains as long")
    group.add_argument("--all_tokens", action="store_true", default=None,
                       help="an outcome model learns at every token of a chain, not at its end alone (default: not)")
    group.add_argument("--imitation", type=float, help="weight of the loss of a language model on what was judged right"
                       " (default: {imitation})".format(**CHOICES))
    group = parser.add_argument_group("checkpoints")
    group.add_argument("-l", "--load_model", metavar="PATH", default="untrained",
                       help="verifier to go on with: an unfinished run where it stopped, a finished one from step 0")
    group.add_argument("-s", "--save_model", metavar="PATH", default="default",
                       help="'default' is beside the reasoner, with _process or _outcome; 'no_save' keeps nothing")
    flags.machine_flags(parser)
    flags.number_flags(parser, NUMBERS)
    parser.checkpointed |= CHOICES
    return parser


def drawn_chains(reasoner, problems, samples, temperature, seed):
    """For each problem the Chains that a reasoner draws. One that gets much longer than any right one is cut off."""
    model, dtype, tokenizer = reasoner
    questions = [each.question for each in problems]
    longest = max(len(each.chain) for each in problems) * 5 // 4
    generators = row_generators(len(questions) * samples, seed)
    with autocast(model.head_weight.device, dtype):
        return think(model, tokenizer, questions, samples, Sampling(temperature),
                     min(longest, room(model, questions) - 1), generators)  # a verifier reads what ends a text, too


def judged_chains(reasoner, args, run, split, count):
    """[(question, text of a chain)] of a split, `args.samples` for each of `count` problems."""
    problems = draw(args.data, split, count, args.seed, run["difficulty"])
    found = drawn_chains(reasoner, problems, args.samples, args.temperature, args.seed)
    return [(problem.question, chain.text) for problem, chains in zip(problems, found) for chain in chains]


def open_reasoner(args):
    """((model, dtype, tokenizer), its path, its run) of the reasoner that the flags name, or the early one."""
    path = Path(args.reasoner or ensure_early(args.data))
    *reasoner, run = load_reasoner(path, args)
    if run.get("data") != args.data:
        raise UserError(f"{path} solves {run.get('data')}, not {args.data}: give -d {run.get('data')}")
    return reasoner, path, run


def check(args):
    find(args.data)
    flags.check_numbers(args)
    flags.check_ranges(args, problems=1, samples=1, imitation=0)
    if not 0 < args.temperature < math.inf:
        raise UserError(f"temperature {args.temperature} must be more than 0: else all chains of a problem are one")


def begin_verifier(model, kind, path=None, imitation=0.0):
    """(Verifier with a copy of a reasoner's weights, or those of a checkpoint, what the checkpoint holds or None)."""
    verifier = Verifier(copy.deepcopy(model), kind, imitation).to(model.head_weight.device)
    loaded = checkpoint.load(path, "verifier") if path else None
    if loaded:
        if loaded["run"]["kind"] != kind:
            raise UserError(f"{path} is a verifier of the kind {loaded['run']['kind']}: say so with --kind")
        verifier.model.load_state_dict(loaded["model"])
        verifier.head.load_state_dict(loaded["score_head"])
    return verifier, loaded


def train_verifier(args, kind, reasoner, path, train, held_out):
    """Train one on judged chains, and save it: its AUC on the held-out ones, None after Ctrl-C."""
    (model, dtype, tokenizer), family = reasoner, find(args.data)
    load, save = flags.checkpoint_paths(args, path.with_stem(f"{path.stem}_{kind}"))
    torch.manual_seed(args.seed)
    verifier, loaded = begin_verifier(model, kind, load, args.imitation)
    device = verifier.head.weight.device
    examples = [example(kind, family, question, text, tokenizer, args.all_tokens) for question, text in train]
    turn = in_turn(len(examples), args.batch_size, args.seed)

    def batch_of(rows):
        ids, labels, following = zip(*rows)
        return pad_rows(ids), pad_rows(labels, -100), pad_rows(following, -100)

    few = [example(kind, family, question, text, tokenizer) for question, text in held_out[:256]]
    held = [part.to(device) for part in batch_of(few)[:2]]

    @torch.no_grad()
    def validate():
        with evaluating(verifier), autocast(device, dtype):
            return verifier(*held)[1].item()

    kept = ("seed", *NUMBERS, *CHOICES)
    run = {"kind": kind, "reasoner": path.name, **{name: getattr(args, name) for name in kept}}
    share = (held[1] == 1).sum().item() / (held[1] != -100).sum().item()
    unknowing = -sum(p * math.log(p) for p in (share, 1 - share) if p)
    history = train_and_keep(
        "verifier", verifier.model, tokenizer, make_optimizer(verifier, "muon", args.learning_rate, 0.01),
        lambda step: batch_of([examples[i] for i in turn(step)]), linear(args.learning_rate, args.steps), validate,
        run, f"{args.data}, {kind} verifier", loaded, load, save, dtype, verifier,
        beside={"score_head": verifier.head.state_dict},
        known=(f"one that only knows that {share:.1%} are right", unknowing))
    if history is None:
        return None
    right = [is_solved(family, *pair) for pair in held_out]
    read = readings(verifier, tokenizer, held_out, dtype)
    found = auc([score(kind, each) for each in read], right)
    print(f"{kind}: AUC {found:.3f} of {len(right):,} held-out chains, of which {np.mean(right):.1%} are right;"
          f" {history[-1]['seconds']:.0f} s of training")
    if kind == "process":
        steps = [(value, label) for pair, values in zip(held_out, read)
                 for value, label in zip(values, step_labels(family, *pair)) if label != -100]
        print(f"{kind}: AUC {auc(*zip(*steps)):.3f} of {len(steps):,} steps")
    if save:
        print(f"checkpoint {shown(save)}, loss curve {shown(save.with_suffix('.png'))}")
    return found


def all_chains(args, reasoner, run):
    """(judged chains for training, held-out ones)."""
    train, held_out = (judged_chains(reasoner, args, run, split, count)
                       for split, count in (("train", args.problems), ("validation", HELD_OUT)))
    print(f"{len(train):,} chains of {args.problems:,} problems for training, {len(held_out):,} held out")
    return train, held_out


def train_verifiers(args):
    """Train what the flags say, on the same chains: [AUC of each], None after Ctrl-C."""
    check(args)
    reasoner, path, run = open_reasoner(args)
    chains, found = all_chains(args, reasoner, run), []
    for kind in KINDS if args.kind == "both" else [args.kind]:
        found.append(train_verifier(args, kind, reasoner, path, *chains))
        if found[-1] is None:
            return None
    return found


def ensure_verifiers(data="arithmetic", kinds=("process",), seed=1337):
    """The paths of verifiers of an early reasoner's chains, one for each kind; what is missing is trained now."""
    early, key = ensure_early(data, seed), zlib.crc32(repr((NUMBERS, CHOICES)).encode())
    paths = {kind: early.with_stem(f"{early.stem}_{kind}_{key:08x}") for kind in kinds}
    with FileLock(f"{early}.verifiers.lock"):
        missing = [kind for kind in kinds if not checkpoint.is_finished(paths[kind], "verifier")]
        for kind in missing:
            print(f"no finished {shown(paths[kind])} yet: training it first")
            words = ["-d", data, "--reasoner", early, "--seed", seed, "-l", paths[kind], "-s", paths[kind]]
            args = verifier_arguments("").parse(map(str, words))
            if kind == missing[0]:
                reasoner, _, run = open_reasoner(args)
                chains = all_chains(args, reasoner, run)
            if train_verifier(args, kind, reasoner, early, *chains) is None:
                sys.exit(130)
    return list(paths.values())


def load_verifier(path, args):
    """(Verifier, dtype, tokenizer) of a checkpoint. `args` says on which device and in which dtype."""
    loaded = checkpoint.load(path, "verifier")
    model, dtype = placed(GPT(GPTConfig(**loaded["config"])), args)
    verifier, _ = begin_verifier(model, loaded["run"]["kind"], path)
    return verifier.eval(), dtype, from_state(loaded["tokenizer"])


def main():
    args = verifier_arguments("Train verifiers of a reasoner's chains.").parse()
    if args.kind == "both" and not (args.load_model == "untrained" and args.save_model in ("default", "no_save")):
        raise UserError("-l and -s name one verifier: say which with --kind process or --kind outcome")
    if train_verifiers(args) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
