"""STaR, or expert iteration: a reasoner is trained on those of its own chains that the checker finds right.

    python 07_cot/star.py

Draw chains, keep the right ones, train on them as on any text, and draw anew: reinforcement learning without wrong
chains and without ratios. Zelikman et al. 2022, "STaR: Bootstrapping Reasoning With Reasoning", algorithm 1, but for
two things. Training goes on from the newest weights, not from the first ones (expert iteration; Anthony et al. 2017,
"Thinking Fast and Slow with Deep Learning and Tree Search"), for which there is no time here. And there is no
rationalization, in which a model that failed is shown the answer and writes a chain to it: this one has never read a
hint, and what could teach it to are the right chains that it is to find by itself.
Shapes: B chains, T tokens.
"""

import sys
from pathlib import Path
from statistics import mean

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from objectives import ChainLoss
from problem_batches import padded
from self_training import Enough, entropy_of, self_training_arguments, train_student

NUMBERS = {"batch_size": 128, "learning_rate": 5e-5, "steps": 44}
CHOICES = {"data": "arithmetic", "questions": 384, "samples": 4, "temperature": 1.0, "optimizer": "adamw",
           "kept": 4, "round_steps": 4}
POOL = 20_000  # questions of the training split
TRIES = 8  # times that new questions are asked for a right chain


def arguments():
    parser = self_training_arguments("Let a reasoner learn from those of its chains that are right.", "star", NUMBERS,
                                     CHOICES)
    group = parser.add_argument_group("expert iteration")
    group.add_argument("--kept", type=int, help="at most so many different right chains of a question"
                       " (default: {kept})".format(**CHOICES))
    group.add_argument("--round_steps", type=int, help="training steps between two rounds of drawing"
                       " (default: {round_steps})".format(**CHOICES))
    return parser


def right_chains(chains, rewards, most):
    """At most so many of a question's right Chains, all different."""
    distinct = {chain.text: chain for chain, reward in zip(chains, rewards) if reward}
    return list(distinct.values())[:most]


class Rounds:
    """Where batches come from: the right chains of a round, in random order. Chance hangs on (seed, step) alone.

    `state`, which a checkpoint keeps, is the round in use and how many chains were drawn and kept so far.
    """

    def __init__(self, student, watch, state=None):
        self.student, self.watch, self.args = student, watch, student.args
        self.questions = [each.question for each in student.problems("train", POOL, self.args.seed)]
        self.state = state or {"examples": [], "drawn": 0, "kept": 0}

    def think(self, step):
        """A new round: what is to be learned, as examples for problem_batches.padded. Raises Enough without any."""
        args, random, encode = self.args, np.random.default_rng((self.args.seed, step)), self.student.tokenizer.encode
        for _ in range(TRIES):
            chosen = random.choice(len(self.questions), min(args.questions, len(self.questions)), replace=False)
            asked = [self.questions[i] for i in chosen]
            drawn = self.student.think(asked, args.samples, args.temperature)
            rewards = [[self.student.reward(question, chain) for chain in chains]
                       for question, chains in zip(asked, drawn)]
            examples = [(encode(question), chain.ids, [0] * len(chain.ids))
                        for question, chains, its_own in zip(asked, drawn, rewards)
                        for chain in right_chains(chains, its_own, args.kept)]
            if examples:
                break
        else:
            raise Enough(f"no signal: no chain of {TRIES * len(asked)} questions is right")
        chains = sum(drawn, [])
        self.watch.state["entropy"] = entropy = entropy_of(chains)
        self.state |= {"drawn": self.state["drawn"] + len(chains), "kept": self.state["kept"] + len(examples)}
        tqdm.write(f"step {step:,}: {mean(map(mean, rewards)):.1%} of {len(chains)} chains right, {len(examples)} kept,"
                   f" entropy {entropy:.3f}, {mean(map(self.student.ended, chains)):.0%} ended")
        return examples

    def batch(self, step):
        """Right chains of this round, or of a new one: ids, targets and kinds, each (B, T)."""
        begin = step - step % self.args.round_steps
        if step == begin:
            self.state["examples"] = self.think(step)
        examples = self.state["examples"]
        order = np.random.default_rng((self.args.seed, begin, 1)).permutation(len(examples))
        first = (step - begin) * self.args.batch_size
        return padded([examples[order[i % len(order)]] for i in range(first, first + self.args.batch_size)])

    def told(self):
        """For the record of a run."""
        print("{kept:,} of {drawn:,} chains were learned from".format(**self.state))
        return {name: self.state[name] for name in ("drawn", "kept")}


def train_command(args):
    """Train as the flags say: a record of what came of it, None after Ctrl-C."""

    def teach(student, watch, state):
        flags.check_ranges(args, kept=1, round_steps=1)
        return ChainLoss(student.model).to(student.device), Rounds(student, watch, state)

    return train_student(args, "star", CHOICES, teach)


def main():
    if train_command(arguments().parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
