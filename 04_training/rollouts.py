"""Rollouts: answers that a policy has drawn, what their tokens earned, and how much better that was than expected.

Shapes: N answers, T tokens, n tokens of answers, V = vocabulary size, C = embedding size.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import docs_task
from chat_data import conversations
from chat_template import prompt_tokens
from evaluation import autocast
from flags import UserError
from reward import load_reward_model, scores_of, until_end
from sampling import Sampling, complete

NO_END = 1.0  # what an answer loses that had to be cut off


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
        return scores_of(reward_model, [ids[-longest:] for ids in answered], 16, dtype).tolist()

    return score


class Rollouts:
    """Where batches come from: a rollout, shuffled, several times over; then the next. Chance hangs on (seed, step).

    `state`, which a checkpoint keeps, is the rollout in use and what of it is still to come.
    """

    def __init__(self, policy, reference, tokenizer, questions, score, args, dtype, state=None):
        self.policy, self.reference, self.tokenizer, self.questions = policy, reference, tokenizer, questions
        self.score, self.args, self.dtype = score, args, dtype
        self.state: dict = state or {"step": None}
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
