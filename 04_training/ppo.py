"""Reinforcement learning from feedback: the model answers, a judge gives points, what earned more becomes likelier.

    python 04_training/ppo.py
    python 04_training/ppo.py --reward checkpoints/04_reward.pt
    python 04_training/ppo.py -l smollm2 --lora --rollout 32

A rollout is a set of answers that the policy, the model in training, has drawn; from each rollout it learns in several
steps. The judge is that of docs_task.py, or a model made by reward.py. A frozen copy of the model, the reference, holds
the policy back from what merely pleases the judge.
Shapes: N answers, B of them in a step, T tokens, n tokens of answers, V = vocabulary size, C = embedding size.
"""

import copy
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import docs_task
import flags
from chat_data import conversations
from chat_template import prompt_tokens
from fine_tuning import begin, fine_tune, fine_tuning_flags
from flags import UserError
from reward import judge, load_reward_model, until_end
from sampling import Sampling, complete
from sft import ensure_sft
from trainer import autocast

NUMBERS = {"batch_size": 16, "block_size": 256, "learning_rate": 3e-4, "steps": 120}
REAL_NUMBERS = {"batch_size": 8, "learning_rate": 1e-4, "steps": 64}
NO_END = 1.0  # what an answer loses that had to be cut off


SETTINGS = {  # name: (default, the least and the most, meaning)
    "beta": (0.05, 0.0, math.inf, "what a nat of distance from the reference costs"),
    "rollout": (96, 1, math.inf, "answers between which the policy does not change"),
    "epochs": (2, 1, math.inf, "how often it learns from each"),
    "max_new_tokens": (64, 1, math.inf, "of an answer"),
    "clip": (0.2, 0.001, math.inf, "the share by which a token's probability may change with a gradient"),
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
    for name, (_, least, most, _) in SETTINGS.items():
        value, limit = getattr(args, name), f" and at most {most}" if most < math.inf else ""
        if not (least <= value <= most and value < math.inf):
            raise UserError(f"{name} {value} must be at least {least}{limit}")
    if args.reward != "judge":
        load_reward_model(args.reward)  # better now than after a minute
    elif args.data != "docs":
        raise UserError(f"--reward judge knows the answers of docs only, not those of {args.data}: give a reward model"
                        " (04_training/reward.py)")


def log_probabilities(model, ids, targets):
    """(log-probabilities of all tokens (n, V), what the model knows (n, C)) where a target counts."""
    hidden = model.hidden(ids)[targets != -100]
    return model.head(hidden).float().log_softmax(-1), hidden


def advantages(rewards, values, gamma=1.0, smoothing=0.95):
    """How much better each token was than expected, (N, T); rewards and values are 0 where no answer is.

    Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation", equation 16,
    where the smoothing is lambda.
    """
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    # delta_t = r_t + gamma V_t+1 - V_t
    surprise = rewards + gamma * following - values
    # A_t = delta_t + gamma lambda A_t+1
    found, after = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        found[:, t] = after = surprise[:, t] + gamma * smoothing * after
    return found


def whitened(x, mask):
    """x with mean 0 and variance 1 over where the mask is True, and 0 elsewhere."""
    inside = x[mask]
    return torch.where(mask, (x - inside.mean()) * (inside.var(correction=0) + 1e-8).rsqrt(), 0.0)


class PPO(nn.Module):
    """A policy with values, which say how much reward is still to come, and the loss of both.

    Schulman et al. 2017, "Proximal Policy Optimization Algorithms", equations 7 and 9. The values are a line through
    what the policy knows; their gradient ends there, so that a bad guess of the reward can't harm the language.
    """

    def __init__(self, model, clip=0.2, entropy_weight=0.0):
        super().__init__()
        self.model, self.clip, self.entropy_weight = model, clip, entropy_weight
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
        gain = torch.min(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
        # the published code clips values, too
        near = old_values + (values - old_values).clamp(-self.clip, self.clip)
        error = torch.max((values - returns).square(), (near - returns).square()) / 2
        # KL = mean (r - 1 - log r): Schulman 2020, "Approximating KL Divergence", k3
        kl, clipped = ratio - 1 - (said - old), (ratio - 1).abs() > self.clip
        self.seen.append([len(said), kl.sum().item(), clipped.sum().item()])
        # L^CLIP - c1 L^VF + c2 S, to be made large: equation 9
        return None, -(gain - error + self.entropy_weight * entropy).mean()


@dataclass
class Question:
    messages: list
    prompt: list[int]
    pair: docs_task.Pair | None  # what the judge of docs_task.py needs


def questions_of(data, split, tokenizer, block_size, max_new_tokens):
    """The questions of a split that leave room for an answer. Raises UserError if none does."""
    talks = conversations(data, split)
    pairs = docs_task.pairs(split) if data == "docs" else [None] * len(talks)
    found = [Question(talk[:-1], prompt_tokens(talk[:-1], tokenizer), pair) for talk, pair in zip(talks, pairs)]
    found = [each for each in found if len(each.prompt) + max_new_tokens <= block_size]
    if not found:
        raise UserError(f"no question of {data} leaves room for {max_new_tokens} tokens: give a larger block_size"
                        " or a smaller --max_new_tokens")
    return found


def scorer(name, device, dtype):
    """What --reward means: a function of questions and answers, texts, that gives a reward for each."""
    if name == "judge":
        return lambda questions, texts: [docs_task.reward(each.pair, text) for each, text in zip(questions, texts)]
    reward_model, tokenizer = load_reward_model(name)
    longest = reward_model.to(device).model.config.block_size  # of a longer one the end is read

    def score(questions, texts):
        answered = [until_end([*each.messages, {"role": "assistant", "content": text}], tokenizer)
                    for each, text in zip(questions, texts)]
        return judge(reward_model, [ids[-longest:] for ids in answered], 16, dtype).tolist()

    return score


class Rollouts:
    """Where batches come from: a rollout, shuffled, several times over; then the next. Chance hangs on (seed, step).

    `state`, which a checkpoint keeps, is the rollout in use and what of it is still to come.
    """

    def __init__(self, policy, reference, tokenizer, questions, score, args, dtype, state=None):
        self.policy, self.reference, self.tokenizer, self.questions = policy, reference, tokenizer, questions
        self.score, self.args, self.dtype, self.state = score, args, dtype, state or {"step": None}
        self.ends = (*tokenizer.end_tokens, tokenizer.end_of_text)

    def answer(self, model, questions, temperature=1.0, generator=None):
        """[(ids, text, whether it ended)] of a model's answers."""
        settings = Sampling(temperature, stop_tokens=self.ends)
        with autocast(model.head_weight.device, self.dtype):
            found = complete(model, [each.prompt for each in questions], self.args.max_new_tokens, settings,
                             generator=generator)
        return [(each.ids, self.text(each.ids), each.ids[-1] in self.ends) for each in found]

    def text(self, ids):
        return self.tokenizer.decode([i for i in ids if i not in self.ends]).strip()

    def greedy(self, model, questions, at_once=64):
        """The answers that a model finds likeliest, as `answer` has them."""
        return [each for i in range(0, len(questions), at_once)
                for each in self.answer(model, questions[i : i + at_once], temperature=0)]

    def rewards_of(self, questions, answers):
        """The rewards of answers; one that did not end has less."""
        scores = self.score(questions, [text for _, text, _ in answers])
        return [score - NO_END * (not ended) for score, (_, _, ended) in zip(scores, answers)]

    def steps_of_reward(self, question, answer, reward):
        """What each token of an answer earned: all at the last one, or what each added to what was there before it."""
        ids, n = answer[0], len(answer[0])
        if self.args.reward_at == "end":
            return [0.0] * (n - 1) + [reward]
        so_far = self.score([question] * n, [self.text(ids[:i]) for i in range(n)]) + [reward]
        return [after - before for before, after in zip(so_far, so_far[1:])]

    @torch.no_grad()
    def roll_out(self, step):
        """Let the policy answer and see what that earned: the state of a new rollout."""
        args, random = self.args, np.random.default_rng((self.args.seed, step))
        chosen = random.choice(len(self.questions), args.rollout, replace=args.rollout > len(self.questions))
        asked = [self.questions[i] for i in chosen]
        answers = self.answer(self.policy.model, asked, 1.0,
                              torch.Generator().manual_seed(int(random.integers(2**63))))
        rewards = self.rewards_of(asked, answers)
        if self.state["step"] is None:  # what to expect at first: else all that comes late looks good, above all to end
            self.policy.value.bias.fill_(mean(rewards))
        T = max(len(each.prompt) + len(ids) for each, (ids, _, _) in zip(asked, answers)) - 1
        ids, targets = torch.zeros(len(asked), T, dtype=torch.long), torch.full((len(asked), T), -100)
        earned = torch.zeros(len(asked), T)
        for row, (each, answer, reward) in enumerate(zip(asked, answers, rewards)):
            both, first = torch.tensor(each.prompt + answer[0]), len(each.prompt) - 1
            ids[row, : len(both) - 1], targets[row, first : len(both) - 1] = both[:-1], both[first + 1 :]
            earned[row, first : len(both) - 1] = torch.tensor(self.steps_of_reward(each, answer, reward))

        device, counted = self.policy.value.weight.device, targets != -100
        old, entropy, values, likely = (torch.zeros(len(asked), T) for _ in range(4))
        for i in range(0, len(asked), args.batch_size):
            rows, where = slice(i, i + args.batch_size), counted[i : i + args.batch_size]
            piece = ids[rows].to(device), targets[rows].to(device)
            with autocast(device, self.dtype):
                for whole, part in zip((old, entropy, values), self.policy.look(*piece)):
                    whole[rows][where] = part.cpu()
                log_p, _ = log_probabilities(self.reference, *piece)
                likely[rows][where] = log_p.gather(1, piece[1][where.to(device)][:, None])[:, 0].cpu()
        # r_t - beta log pi(a_t | s_t) / ref(a_t | s_t): Ouyang et al. 2022, equation 2
        found = advantages(earned - args.beta * (old - likely), values, args.gamma, args.smoothing)
        order = np.concatenate([random.permutation(args.rollout) for _ in range(args.epochs)])
        line = (f"step {step:,}: reward {mean(rewards):.3f}, KL {(old - likely).sum(1).mean():.2f} and"
                f" {counted.sum() / len(asked):.1f} tokens an answer, {mean(end for _, _, end in answers):.0%} ended,"
                f" entropy {entropy[counted].mean():.2f}")
        if self.policy.seen:
            tokens, kl, clipped = np.sum(self.policy.seen, axis=0)
            line += f"; since the last: KL {kl / tokens:.4f} a token, {clipped / tokens:.1%} clipped"
        tqdm.write(line)
        self.policy.seen.clear()
        parts = ids, targets, old, values, whitened(found, counted), (found + values) * counted
        return {"step": step, "parts": list(parts), "order": order.reshape(-1, args.batch_size).tolist()}

    def batch(self, step):
        """A part of the rollout in use; of a new one if that is used up, or the policy has gone too far from it."""
        tokens, kl, _ = self.policy.seen[-1] if self.policy.seen else (1, 0.0, 0)
        if self.state["step"] != step or not self.state["order"] or kl / tokens > self.args.target_kl:
            self.state = self.roll_out(step)
        rows = self.state["order"][0]
        T = int((self.state["parts"][1][rows] != -100).any(0).nonzero().max()) + 1
        self.state |= {"step": step + 1, "order": self.state["order"][1:]}
        return [part[rows, :T] for part in self.state["parts"]]


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
    policy = PPO(model, args.clip, args.entropy_weight)
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
