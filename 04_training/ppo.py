"""Reinforcement learning from feedback: the model answers, a judge gives points, what earned more becomes likelier.

    python 04_training/ppo.py
    python 04_training/ppo.py --reward checkpoints/04_reward.pt
    python 04_training/ppo.py -l smollm2 --lora --rollout 32

A rollout is a set of answers that the policy, the model in training, has drawn; from each rollout it learns in several
steps. The judge is that of docs_task.py, or a model made by reward.py. A frozen copy of the model, the reference, holds
the policy back from what merely pleases the judge.
Shapes: B answers in a step, T tokens, n tokens of answers.
"""

import copy
import math
import sys
from pathlib import Path
from statistics import mean

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import docs_task
import flags
from fine_tuning import begin, fine_tune, fine_tuning_flags
from flags import UserError
from reward import load_reward_model
from rollouts import Rollouts, log_probabilities, questions_of, scorer
from sft import ensure_sft

NUMBERS = {"batch_size": 16, "block_size": 256, "learning_rate": 3e-4, "steps": 120}
REAL_NUMBERS = {"batch_size": 8, "learning_rate": 1e-4, "steps": 64}

SETTINGS = {  # name: (default, the least and the most, meaning)
    "beta": (0.05, 0.0, math.inf, "what a nat of distance from the reference costs"),
    "rollout": (96, 1, math.inf, "answers between which the policy does not change"),
    "epochs": (2, 1, math.inf, "how often it learns from each"),
    "max_new_tokens": (64, 1, math.inf, "of an answer"),
    "clip_range": (0.2, 0.001, math.inf, "the share by which a token's probability may change with a gradient"),
    "gamma": (1.0, 0.0, 1.0, "how much a reward is worth one token before it comes"),
    "smoothing": (0.95, 0.0, 1.0, "lambda of the advantages: 1 trusts what came, 0 the values"),
    "entropy_weight": (0.0, 0.0, math.inf, "reward for being undecided"),
    "target_kl": (1.0, 0.001, math.inf, "a new rollout if the policy moved so far in a step, in nats a token"),
}


def arguments():
    parser = flags.Parser("Let a model answer, judge that, and make good answers likelier.")
    fine_tuning_flags(parser, "ppo", "docs", NUMBERS, REAL_NUMBERS, "what 04_training/sft.py made")
    group = parser.add_argument_group("reinforcement learning")
    group.add_argument("--reward", metavar="PATH",
                       help="a reward model (04_training/reward.py), or 'judge', which knows the answers of docs"
                            " (default: judge)")
    group.add_argument("--reward_at", choices=["end", "every"],
                       help="all at an answer's end, or at every token what it adds, which is slow with a reward model"
                            " (default: every for the judge, else end)")
    for name, (default, _, _, meaning) in SETTINGS.items():
        group.add_argument(f"--{name}", type=type(default), help=f"{meaning} (default: {default})")
    parser.checkpointed |= {"reward": "judge", "reward_at": None} | {name: each[0] for name, each in SETTINGS.items()}
    return parser


def check(args):
    """Raise UserError for a setting that nothing can be learned with; fill in what was left open."""
    args.reward_at = args.reward_at or ("every" if args.reward == "judge" else "end")
    flags.check_ranges(args, **{name: (least, most) for name, (_, least, most, _) in SETTINGS.items()})
    if args.reward != "judge":
        load_reward_model(args.reward)  # better now than after a minute
    elif args.data != "docs":
        raise UserError(f"--reward judge knows the answers of docs only, not those of {args.data}: give a reward model"
                        " (04_training/reward.py)")


class PPO(nn.Module):
    """A policy with values, which say how much reward is still to come, and the loss of both.

    Schulman et al. 2017, "Proximal Policy Optimization Algorithms", equations 7 and 9. The values are a line through
    what the policy knows; their gradient ends there, so that a bad guess of the reward can't harm the language.
    """

    def __init__(self, model, clip_range=0.2, entropy_weight=0.0):
        super().__init__()
        self.model, self.clip_range, self.entropy_weight = model, clip_range, entropy_weight
        self.value = nn.Linear(model.config.embedding_size, 1, device=model.head_weight.device)
        for weight in self.value.parameters():
            nn.init.zeros_(weight)
        self.seen = []  # (tokens, and sums over them of: KL, clipped ones) of each piece of a batch
        self.eval()

    def train(self, mode=True):
        """Never with dropout of any kind: log-probabilities are compared."""
        return super().train(False)

    def look(self, ids, targets):
        """(log-probability of the target, entropy, value), each (n,), where a target counts."""
        log_p, hidden = log_probabilities(self.model, ids, targets)
        said = log_p.gather(1, targets[targets != -100][:, None])[:, 0]
        return said, -(log_p.exp() * log_p).sum(-1), self.value(hidden.detach()).float()[:, 0]

    def forward(self, ids, targets, old, old_values, advantage, returns):
        """All (B, T): what the rollout's policy found likely and expected, what came of it -> (None, loss)."""
        old, old_values, advantage, returns = (part[targets != -100] for part in (old, old_values, advantage, returns))
        said, entropy, values = self.look(ids, targets)
        # L^CLIP = mean min(r A, clip(r, 1 - eps, 1 + eps) A), where r = pi(a | s) / pi_old(a | s): equation 7
        ratio = (said - old).exp()
        gain = torch.min(ratio * advantage, ratio.clamp(1 - self.clip_range, 1 + self.clip_range) * advantage)
        # the published code clips values, too
        near = old_values + (values - old_values).clamp(-self.clip_range, self.clip_range)
        error = torch.max((values - returns).square(), (near - returns).square()) / 2
        # KL = mean (r - 1 - log r): Schulman 2020, "Approximating KL Divergence", k3
        kl, clipped = ratio - 1 - (said - old), (ratio - 1).abs() > self.clip_range
        self.seen.append([len(said), kl.sum().item(), clipped.sum().item()])
        # L^CLIP - c1 L^VF + c2 S, to be made large: equation 9
        return None, -(gain - error + self.entropy_weight * entropy).mean()


def report(name, rollouts, model, questions):
    """The rewards of a model's greedy answers, and a line about them."""
    answers = rollouts.greedy(model, questions)
    rewards = rollouts.rewards_of(questions, answers)
    line = f"{name}: reward {mean(rewards):.3f}, {mean(len(ids) for ids, _, _ in answers):.1f} tokens an answer"
    if questions[0].pair:
        judged = mean(docs_task.reward(each.pair, text) for each, (_, text, _) in zip(questions, answers))
        copied = mean(docs_task.copy_rate(each.pair, text) for each, (_, text, _) in zip(questions, answers))
        line += f"; the judge of docs gives {judged:.3f}, and {copied:.0%} was copied"
    print(line)
    return rewards


def train_command(args):
    """Train as the flags say; returns the history, or None after Ctrl-C."""
    check(args)
    start = begin(args, "ppo", NUMBERS, REAL_NUMBERS, ensure_sft)
    if args.rollout % args.batch_size:
        raise UserError(f"rollout {args.rollout} must be divisible by batch_size {args.batch_size}")
    model, loaded = start.model, start.loaded
    # a copy of what is trained; the rest is the same memory
    reference = copy.deepcopy(model, {id(w): w for w in model.parameters() if not w.requires_grad}).eval()
    moving = [name for name, w in model.named_parameters() if w.requires_grad]
    policy = PPO(model, args.clip_range, args.entropy_weight)
    if loaded:
        reference.load_state_dict(loaded["reference"], strict=False)
        policy.value.load_state_dict(loaded["value"])
        policy.seen += loaded["rollout"].pop("seen")
    train, held_out, test = (questions_of(args.data, split, start.tokenizer, args.block_size, args.max_new_tokens)
                             for split in ("train", "validation", "test"))
    score = scorer(args.reward, model.head_weight.device, start.dtype)
    state, held_out = loaded and loaded["rollout"], held_out[:96]
    rollouts = Rollouts(policy, reference, start.tokenizer, train, score, args, start.dtype, state)
    history = fine_tune(
        start, args, "ppo", rollouts.batch,
        lambda: -mean(rollouts.rewards_of(held_out, rollouts.greedy(model, held_out))), policy,
        beside={"reference": lambda: {name: w.cpu() for name, w in reference.state_dict().items() if name in moving},
                "value": policy.value.state_dict, "rollout": lambda: rollouts.state | {"seen": policy.seen}},
        known=("minus the reward of saying nothing", -mean(score(held_out, [""] * len(held_out)))),
        run={name: getattr(args, name) for name in ("reward", "reward_at", *SETTINGS)})
    if history is not None:
        print(f"{len(test):,} greedy answers of the test split")
        before, after = (report(*side, test) for side in (("before", rollouts, reference), ("after", rollouts, model)))
        print(f"after wins {docs_task.win_rate(after, before):.1%} against before, ties counted half")
    return history


def main():
    if train_command(arguments().parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
