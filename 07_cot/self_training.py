"""What grpo.py and star.py share: a reasoner that learns from its own chains, and is watched while it does.

The exact checker of a family gives the rewards. The weights that solve most validation problems are kept; where a model
collapses, training ends with these.
"""

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
import flags
from chain_labels import is_solved
from chains import think
from early_reasoner import ensure_trained
from evaluation import autocast, evaluating
from family import Family
from fast_decode import for_writing
from flags import UserError, shown
from gpt import GPT
from objectives import ChainLoss
from optimizers import make_optimizer
from problem_batches import example, padded
from reasoner import load_reasoner
from result_lines import add_lines
from sampling import Sampling
from schedules import constant
from tasks import draw, find
from tokenizer_base import Tokenizer
from training_run import train_and_keep

BEGINNER = {"data": "arithmetic", "difficulty": 8, "batch_size": 48, "steps": 106}  # solves .40 of validation problems
SEED = 1337  # of the beginner, and of the problems that are solved before and after
VALIDATION, TEST = 256, 400  # held-out problems
FALL, CUT_OFF, BLUR = 0.1, 0.1, 2.0  # a collapse: see Watch.collapse


class Enough(Exception):
    """Training ends early; the message says why."""


@dataclass
class Student:
    """A reasoner in training, what it solves, and the flags."""

    model: GPT
    dtype: torch.dtype
    tokenizer: Tokenizer
    family: Family
    args: argparse.Namespace
    path: Path
    run: dict

    @property
    def device(self):
        return self.model.head_weight.device

    def problems(self, split, count, seed):
        return draw(self.args.data, split, count, seed, self.run["difficulty"])

    def think(self, questions, samples=1, temperature=0.0):
        # laid out anew each time, since the weights are others
        model = for_writing(self.model, self.dtype)[0] if self.dtype == torch.float32 else self.model
        with autocast(self.device, self.dtype):
            return think(model, self.tokenizer, questions, samples, Sampling(temperature))

    def ended(self, chain):
        return chain.ids[-1:] == [self.tokenizer.end_of_text]

    def reward(self, question, chain):
        """1 for a chain that ends with a right answer, else 0."""
        return float(self.ended(chain) and is_solved(self.family, question, chain.text))

    def share_right(self, problems):
        """(the share of problems that greedy chains solve, that of chains that end)."""
        found = [(each.question, chain) for each, (chain,) in
                 zip(problems, self.think([each.question for each in problems]))]
        return (sum(self.reward(*pair) for pair in found) / len(found),
                sum(self.ended(chain) for _, chain in found) / len(found))

    @torch.no_grad()
    def perplexity(self, problems):
        """Of the texts that it was trained on before, for a character: right chains of held-out problems."""
        batch = padded([example(each, "chain", self.tokenizer) for each in problems])
        with evaluating(self.model), autocast(self.device, self.dtype):
            return math.exp(ChainLoss(self.model).to(self.device)(*(part.to(self.device) for part in batch))[1].item())


class Watch:
    """Validations of a run: what a model solves, how sure it is, and the best weights so far.

    `state` is kept in checkpoints: the points, the processor's seconds of training, the best weights, and the entropy
    of the newest chains in nats a token.
    """

    def __init__(self, student, problems, state=None):
        self.student, self.problems = student, problems
        self.state = state or {"points": [], "cpu_seconds": 0.0, "best": None, "entropy": None}
        self.began, self.newest = None, {}

    @property
    def points(self):
        return self.state["points"]

    def validate(self):
        """Minus the share of problems solved: a loss for 03_gpt/trainer.py."""
        self.count()
        right, ended = self.student.share_right(self.problems)
        self.newest = {"step": 0, "seconds": 0.0, "cpu_seconds": self.state["cpu_seconds"], "right": right,
                       "ended": ended, "entropy": self.state["entropy"]}
        if not self.points:
            self.take()
        self.began = time.process_time()
        return -right

    def count(self):
        """Add the time since the last validation, or since this was last called."""
        if self.began is not None:
            self.state["cpu_seconds"] += time.process_time() - self.began
            self.began = time.process_time()

    def take(self):
        """Keep the newest point, and the weights if it is the best one."""
        if not self.points or self.newest["right"] > max(point["right"] for point in self.points):
            self.state["best"] = {name: w.cpu().clone() for name, w in self.student.model.state_dict().items()}
        self.points.append(self.newest)

    def look(self, history):
        """At each row of a history. Raises Enough where the newest validation shows a collapse."""
        row, point = history[-1], self.newest
        if row["validation_loss"] is None:
            return
        point |= {"step": row["step"], "seconds": row["seconds"]}
        self.take()
        tqdm.write(f"step {row['step']:,}: {point['right']:.1%} of validation problems solved, {point['ended']:.0%} of"
                   f" chains ended, entropy {point['entropy']:.3f}; {row['seconds']:.0f} s")
        reason = self.collapse()
        if reason:
            raise Enough(f"a collapse at step {row['step']:,}: {reason}; the best weights so far are kept")

    def collapse(self):
        """What is wrong with the newest point; None if nothing is."""
        first, point = self.points[0], self.points[-1]
        best = max(each["right"] for each in self.points)
        entropies = [each["entropy"] for each in self.points if each["entropy"] is not None]
        if point["right"] < best - FALL:
            return f"{point['right']:.1%} of validation problems solved, and {best:.1%} before"
        if point["ended"] < first["ended"] - CUT_OFF:
            return f"{point['ended']:.0%} of chains end, and {first['ended']:.0%} did"
        if entropies and point["entropy"] > BLUR * entropies[0]:
            return f"an entropy of {point['entropy']:.3f} nats a token, and it was {entropies[0]:.3f}"
        return None


def self_training_arguments(description, name, numbers, choices):
    parser = flags.Parser(description)
    group = parser.add_argument_group("who learns what")
    group.add_argument("-d", "--data", help="the family of problems (default: {data})".format(**choices))
    group.add_argument("--reasoner", metavar="PATH", help="who learns, a checkpoint of 07_cot/train.py (default: one"
                       " of {data} that was stopped early)".format(**BEGINNER))
    group.add_argument("--questions", type=int, help="asked at a time (default: {questions})".format(**choices))
    group.add_argument("--samples", type=int, help="chains of each (default: {samples})".format(**choices))
    group.add_argument("--temperature", type=float, help="at which they are drawn"
                       " (default: {temperature})".format(**choices))
    group.add_argument("--optimizer", choices=["adamw", "muon"], help="(default: {optimizer})".format(**choices))
    group = parser.add_argument_group("checkpoints")
    group.add_argument("-l", "--load_model", metavar="PATH", default="untrained",
                       help="an unfinished run of this script to go on with where it stopped")
    group.add_argument("-s", "--save_model", metavar="PATH", default="default",
                       help=f"'default' is beside the reasoner, with _{name}; 'no_save' keeps nothing")
    group.add_argument("--results", metavar="PATH", help="file to which what came of it is added, a JSON line")
    group.add_argument("--split", choices=["test", "validation"], default="test",
                       help="which problems are solved before and after: to choose settings, take validation")
    flags.machine_flags(parser)
    flags.number_flags(parser, numbers)
    parser.checkpointed |= choices
    return parser


def settle(args, loaded, choices):
    """Fill in what was not typed, from an unfinished run or the defaults. Raises UserError for what can't be."""
    run = loaded["run"] if loaded else {}
    for name in (*choices, "batch_size", "learning_rate", "steps", "seed"):
        setattr(args, name, args.typed.get(name, run.get(name, getattr(args, name))))
    find(args.data)
    flags.check_numbers(args)
    if args.questions < 1 or args.samples < 2:
        raise UserError(f"questions {args.questions} must be at least 1, samples {args.samples} at least 2: else there"
                        " is nothing to compare")
    if not 0 < args.temperature < math.inf:
        raise UserError(f"temperature {args.temperature} must be more than 0: else all chains of a question are one")


def ensure_beginner():
    """The path of a reasoner that was stopped early; if there is none, it is trained now."""
    return ensure_trained(flags.CHECKPOINTS / "07_cot_beginner.pt", BEGINNER["data"], BEGINNER, SEED)


def open_student(args):
    if not args.reasoner and args.data != BEGINNER["data"]:
        raise UserError(f"there is a reasoner of {BEGINNER['data']} to begin with: for {args.data} train one with"
                        " 07_cot/train.py --style chain, and name it with --reasoner")
    path = Path(args.reasoner or ensure_beginner())
    model, dtype, tokenizer, run = load_reasoner(path, args)
    if run.get("data") != args.data:
        raise UserError(f"{path} solves {run.get('data')}, not {args.data}: give -d {run.get('data')}")
    return Student(model, dtype, tokenizer, find(args.data), args, path, run)


def train_student(args, name, choices, teach):
    """Train as the flags say: a record of what came of it, None after Ctrl-C.

    `teach(student, watch, state)` -> (the loss as a module, something with a `batch(step)` and a `state`).
    """
    asked = flags.checkpoint_paths(args, flags.CHECKPOINTS / f"07_cot_{name}.pt")
    loaded = checkpoint.load(asked[0], "gpt") if asked[0] else None
    settle(args, loaded, choices)
    student = open_student(args)
    load, save = flags.checkpoint_paths(args, student.path.with_stem(f"{student.path.stem}_{name}"))
    if loaded and name not in loaded:
        raise UserError(f"{load} is no run of {name}.py: give it as --reasoner to begin with its weights")
    held_out = student.problems(args.split, TEST, SEED)
    (before, _), perplexity = student.share_right(held_out), student.perplexity(held_out)
    if loaded:
        student.model.load_state_dict(loaded["model"])
    torch.manual_seed(args.seed)
    watch = Watch(student, student.problems("validation", VALIDATION, SEED + 1), loaded and loaded["watch"])
    loss_of, teacher = teach(student, watch, loaded and loaded[name])
    run = {**student.run, **{each: getattr(args, each) for each in (*choices, "batch_size", "learning_rate", "steps",
                                                                     "seed")}}

    def state():
        watch.count()
        return watch.state

    ended_early = None
    try:
        history = train_and_keep(
            "gpt", student.model, student.tokenizer, make_optimizer(loss_of, args.optimizer, args.learning_rate, 0.0),
            teacher.batch, constant(args.learning_rate, args.steps), watch.validate, run, f"{args.data}, {name}",
            loaded, load, save, student.dtype, loss_of, watch.look, micro_batch=2**14,
            beside={"watch": state, name: lambda: teacher.state}, known=("minus all", -1.0))
        if history is None:
            return None
    except Enough as reason:
        ended_early = str(reason)
        print(ended_early)
    student.model.load_state_dict(watch.state["best"])
    last = watch.points[-1]
    after, _ = student.share_right(held_out)
    record = {"what": name, "held_out": args.split, **run, "before": before, "after": after,
              "perplexity_before": perplexity, "perplexity_after": student.perplexity(held_out),
              "seconds": last["seconds"], "cpu_seconds": last["cpu_seconds"], "ended_early": ended_early,
              "points": watch.points, **teacher.told()}
    print(f"greedy, {len(held_out)} {args.split} problems: {before:.1%} before, {after:.1%} after;"
          f" {last['seconds']:.0f} s of training, {last['cpu_seconds']:.0f} s of the processor")
    print(f"perplexity of right chains, a character: {perplexity:.4f} before,"
          f" {record['perplexity_after']:.4f} after")
    if args.results:
        add_lines(args.results, [record])
    if save:
        progress = {"step": last["step"], "finished": True, "seconds": last["seconds"]}
        checkpoint.save(save, "gpt", model=student.model.state_dict(), config=asdict(student.model.config),
                        tokenizer=student.tokenizer.state(), run=run, progress=progress)
        print(f"checkpoint {shown(save)}")
    return record


def entropy_of(chains):
    """Nats a token, as drawn at temperature 1: the mean of -log p."""
    return -float(np.mean([each for chain in chains for each in chain.log_probabilities]))
