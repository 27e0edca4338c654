"""Reinforcement learning from verifiable rewards: a reasoner learns from which of its chains the checker finds right.

    python 07_cot/grpo.py
    python 07_cot/grpo.py --variant dapo
    python 07_cot/grpo.py --variant grpo --std sample --clip_high 0.28 --beta 0.04

There is no text to learn from and no model of rewards: many chains are drawn for each question, and those that end with
a right answer are compared with those that do not. Where all are right, or none is, nothing can be learned, and no time
is spent. Shapes: B chains, T tokens.
"""

import copy
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from chains import room
from evaluation import autocast
from policy_loss import GRPO, STDS, VARIANTS, PolicyLoss, advantages, token_weights
from problem_batches import padded
from self_training import Enough, entropy_of, self_training_arguments, train_student

NUMBERS = {"batch_size": 128, "learning_rate": 5e-5, "steps": 60}
CHOICES = {"data": "arithmetic", "questions": 48, "samples": 8, "temperature": 1.0, "optimizer": "adamw",
           "variant": "grpo", "epochs": 1, "beta": 0.0, **dict.fromkeys(GRPO)}
POOL = 20_000  # questions of the training split
TRIES = 8  # rollouts for groups with signal


def arguments():
    parser = self_training_arguments("Let a reasoner learn from which of its chains are right.", "grpo", NUMBERS,
                                     CHOICES)
    group = parser.add_argument_group("reinforcement learning")
    group.add_argument("--variant", choices=VARIANTS, help="(default: {variant})".format(**CHOICES))
    group.add_argument("--epochs", type=int, help="how often it learns from a rollout"
                       " (default: {epochs})".format(**CHOICES))
    group.add_argument("--beta", type=float, help="what distance from the reasoner as it was costs"
                       " (default: {beta})".format(**CHOICES))
    group = parser.add_argument_group("what a variant consists of (default: as it has it)")
    group.add_argument("--baseline", choices=["group", "others"], help="a chain is compared with the mean of all"
                       " chains of its question, or of the others alone")
    group.add_argument("--std", choices=STDS, help="advantages are divided by this deviation of rewards: of the group"
                       " (by n, or n - 1 for sample), of the batch, or not at all")
    group.add_argument("--average", choices=["chains", "tokens", "budget"], help="each chain weighs alike, or each"
                       " token; budget is the sum, divided by the most tokens there could be")
    group.add_argument("--ratio", choices=["token", "sequence"], help="what may not move too far: each"
                       " token, or a chain as a whole")
    group.add_argument("--clip_low", type=float, help="by how much it may fall with a gradient")
    group.add_argument("--clip_high", type=float, help="by how much it may rise with a gradient")
    group.add_argument("--dynamic", action="store_true", default=None, help="replace groups without signal")
    return parser


def check(args):
    """Raise UserError for what nothing can be learned with; fill in what the variant says."""
    for name, value in VARIANTS[args.variant].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    flags.check_ranges(args, epochs=(1, 100), beta=(0, 1000), clip_low=(0, 1), clip_high=(0, 1000))


class Groups:
    """Where batches come from: the groups with signal of a rollout, shuffled, cut in parts; then of the next rollout.

    Chance hangs on (seed, step) alone. `state`, which a checkpoint keeps, is the rollout in use, what of it is still to
    come, and how many groups there were, with signal and in all.
    """

    def __init__(self, student, policy, watch, state=None):
        self.student, self.policy, self.watch, self.args = student, policy, watch, student.args
        self.questions = [each.question for each in student.problems("train", POOL, self.args.seed)]
        self.budget = room(student.model, self.questions)
        self.reference = copy.deepcopy(policy).requires_grad_(False) if self.args.beta else None
        self.state = state or {"step": None, "order": [], "groups": 0, "with_signal": 0}

    def drawn(self, random):
        """[(question, its Chains, their rewards)] of a group for each of some questions."""
        chosen = random.choice(len(self.questions), min(self.args.questions, len(self.questions)), replace=False)
        questions = [self.questions[i] for i in chosen]
        chains = self.student.think(questions, self.args.samples, self.args.temperature)
        return [(question, its_own, [self.student.reward(question, chain) for chain in its_own])
                for question, its_own in zip(questions, chains)]

    def with_signal(self, random):
        """Groups of which some chains are right and some are not. Raises Enough if there are none."""
        found, groups = [], []
        for _ in range(TRIES):
            groups += (new := self.drawn(random))
            found += [group for group in new if 0 < sum(group[2]) < len(group[2])]
            if found and (not self.args.dynamic or len(found) >= self.args.questions):
                break
        self.state["groups"] += len(groups)
        self.state["with_signal"] += len(found)
        chains = [chain for _, its_own, _ in groups for chain in its_own]
        self.watch.state["entropy"] = entropy = entropy_of(chains)
        share = mean(reward for *_, rewards in groups for reward in rewards)
        self.line = (f"{share:.1%} of {len(chains)} chains right, {len(found)} of {len(groups)} groups with signal,"
                     f" entropy {entropy:.3f},"
                     f" {mean(map(self.student.ended, chains)):.0%} ended")
        if not found:
            raise Enough(f"no signal: in each of {len(groups)} groups all chains are right, or all wrong")
        return found[: self.args.questions]

    @torch.no_grad()
    def roll_out(self, step):
        """Let the policy think, and see what that earned: the state of a new rollout."""
        args, random = self.args, np.random.default_rng((self.args.seed, step))
        groups = self.with_signal(random)
        better = advantages(torch.tensor([rewards for *_, rewards in groups]), args.std, args.baseline).flatten()
        chains = [(question, chain) for question, its_own, _ in groups for chain in its_own]
        tokenizer = self.student.tokenizer
        ids, targets, _ = padded([(tokenizer.encode(question), chain.ids, [0] * len(chain.ids))
                                  for question, chain in chains])
        counted = targets != -100
        old, reference = torch.zeros(2, *ids.shape)
        old[counted] = torch.tensor([each for _, chain in chains for each in chain.log_probabilities])
        if self.reference is not None:
            for i in range(0, len(ids), args.batch_size):
                rows = slice(i, i + args.batch_size)
                with autocast(self.student.device, self.student.dtype):
                    said = self.reference.look(ids[rows].to(self.student.device), targets[rows].to(self.student.device))
                reference[rows][counted[rows]] = said.cpu()
        parts = ids, targets, old, better[:, None] * counted, reference
        pieces = max(1, round(len(ids) / args.batch_size))
        order = [piece.tolist() for _ in range(args.epochs)
                 for piece in np.array_split(random.permutation(len(ids)), pieces)]
        self.tell(step)
        return self.state | {"parts": list(parts), "order": order}

    def tell(self, step):
        if self.policy.seen:
            tokens, kl, clipped = np.sum(self.policy.seen, axis=0)
            self.line += f"; since the last: KL {kl / tokens:.5f} a token, {clipped / tokens:.1%} clipped"
        tqdm.write(f"step {step:,}: {self.line}")
        self.policy.seen.clear()

    def batch(self, step):
        """A part of the rollout in use, or of a new one."""
        if self.state["step"] != step or not self.state["order"]:
            self.state = self.roll_out(step)
        rows, *order = self.state["order"]
        T = int((self.state["parts"][1][rows] != -100).any(0).nonzero().max()) + 1
        self.state |= {"step": step + 1, "order": order}
        ids, targets, old, better, reference = (part[rows, :T] for part in self.state["parts"])
        return ids, targets, old, better, token_weights(targets, self.args.average, self.budget), reference

    def told(self):
        """For the record of a run."""
        print(f"{self.state['with_signal']:,} of {self.state['groups']:,} groups had a signal")
        return {name: self.state[name] for name in ("groups", "with_signal")}


def train_command(args):
    """Train as the flags say: a record of what came of it, None after Ctrl-C."""

    def teach(student, watch, state):
        check(args)
        policy = PolicyLoss(student.model, args.ratio, args.clip_low, args.clip_high, args.beta)
        return policy, Groups(student, policy, watch, state)

    return train_student(args, "grpo", CHOICES, teach)


def main():
    if train_command(arguments().parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
