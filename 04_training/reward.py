"""A reward model: how good an answer is, learned from which of two answers people prefer.

    python 04_training/reward.py
    python 04_training/reward.py -l smollm2 --lora
    python 04_training/reward.py -d hh-rlhf

A language model's body reads question and answer, and a line through what it knows at the token that ends the answer
gives a number. Only differences of two rewards of the same question mean something.
Shapes: B pairs of a chosen and a rejected answer, N answers, T tokens, C = embedding size.
"""

import math
import sys
from itertools import repeat
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import docs_task
import flags
from batches import in_turn, pad_rows
from chat_data import preferences
from chat_template import conversation_tokens
from evaluation import autocast, evaluating
from fine_tuning import begin, fine_tune, fine_tuning_flags, open_model
from flags import UserError
from sft import ensure_sft

NUMBERS = {"batch_size": 16, "block_size": 256, "learning_rate": 3e-4, "steps": 150, "dropout": 0.1}
REAL_NUMBERS = {"batch_size": 4, "learning_rate": 1e-4, "steps": 100, "dropout": 0.0}


def arguments():
    parser = flags.Parser("Learn from preferences how good an answer is.")
    fine_tuning_flags(parser, "reward", "docs", NUMBERS, REAL_NUMBERS, "what 04_training/sft.py made")
    return parser


class RewardModel(nn.Module):
    """A GPT that judges instead of writing; its loss is that of pairs, both parts (B, 2, T), chosen before rejected.

    Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.5.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.config.embedding_size, 1, bias=False)  # one would cancel
        nn.init.normal_(self.head.weight, std=0.01)  # at first hardly any preference

    def rewards(self, ids, ends):
        """ids (N, T); ends (N, T), -100 but where an answer ends -> the reward of each (N,)."""
        hidden = self.model.hidden(ids)[ends != -100]  # (N, C): what comes behind was padding, and nobody saw it
        return self.head(hidden).float()[:, 0]

    def forward(self, ids, ends):
        chosen, rejected = self.rewards(ids.flatten(0, 1), ends.flatten(0, 1)).view(-1, 2).unbind(1)
        # - log sigma(r(x, y_chosen) - r(x, y_rejected)): equation 1
        return None, -F.logsigmoid(chosen - rejected).mean()


def until_end(messages, tokenizer):
    """The ids of a conversation up to the token that ends its last answer."""
    ids, counted = conversation_tokens(messages, tokenizer)
    return ids[: len(counted) - counted[::-1].index(True)]


def padded(answers):
    """(ids, ends), each (N, T), of lists of ids: [[5, 6], [7]] -> [[5, 6], [7, 0]], [[-100, 6], [7, -100]]."""
    return pad_rows(answers), pad_rows([[-100] * (len(answer) - 1) + [answer[-1]] for answer in answers], -100)


@torch.no_grad()
def scores_of(reward_model, answers, batch_size=16, dtype=torch.float32):
    """The rewards (N,) of answers, each the ids from `until_end`, without dropout."""
    device, found = reward_model.head.weight.device, []
    with evaluating(reward_model), autocast(device, dtype):
        for i in range(0, len(answers), batch_size):
            ids, ends = padded(answers[i : i + batch_size])
            found.append(reward_model.rewards(ids.to(device), ends.to(device)).cpu())
    return torch.cat(found)


def tokenised(data, split, tokenizer, block_size):
    """[(chosen ids, rejected ids, what is wrong with the second)] of the preferences that fit into a block."""
    flaws = [each.why for each in docs_task.preferences(split)] if data == "docs" else repeat("all")
    found = [(*(until_end([*asked, {"role": "assistant", "content": answer}], tokenizer) for answer in answers), flaw)
             for (asked, *answers), flaw in zip(preferences(data, split), flaws)]
    short = [each for each in found if max(map(len, each[:2])) <= block_size]
    print(f"{len(short):,} preferences of {data}, {split}, and {len(found) - len(short):,} too long for block_size")
    if not short:
        raise UserError(f"no preference of {data} fits into block_size {block_size}: give a larger one")
    return short


def load_reward_model(path):
    """(RewardModel in float32 on the CPU, tokenizer) of a checkpoint of this script."""
    model, tokenizer, loaded = open_model(path, rewards=True)
    if not loaded or "reward_head" not in loaded:
        raise UserError(f"{path} is no reward model: train one with 04_training/reward.py")
    reward_model = RewardModel(model)
    reward_model.head.load_state_dict(loaded["reward_head"])
    return reward_model.eval(), tokenizer


def train_command(args):
    """Train as the flags say; returns the history, or None after Ctrl-C."""
    start = begin(args, "reward", NUMBERS, REAL_NUMBERS, ensure_sft)
    torch.manual_seed(args.seed)
    trained = RewardModel(start.model).to(start.model.head_weight.device)
    if start.loaded:
        trained.head.load_state_dict(start.loaded["reward_head"])
    train, held_out, test = (tokenised(args.data, split, start.tokenizer, args.block_size)
                             for split in ("train", "validation", "test"))
    turn = in_turn(len(train), args.batch_size, args.seed)

    def batch(step):
        both = padded([answer for i in turn(step) for answer in train[i][:2]])  # (2 B, T)
        return [part.unflatten(0, (-1, 2)) for part in both]

    def won(pairs):
        """By how much the chosen answer of each pair has more than the other."""
        chosen, rejected, _ = zip(*pairs)
        return scores_of(trained, chosen, dtype=start.dtype) - scores_of(trained, rejected, dtype=start.dtype)

    history = fine_tune(
        start, args, "reward", batch, lambda: -F.logsigmoid(won(held_out[:200])).mean().item(), trained,
        beside={"reward_head": trained.head.state_dict}, known=("without a preference, ln 2,", math.log(2)))
    if history is not None:
        longer = mean(len(chosen) > len(rejected) for chosen, rejected, _ in test)
        print(f"pairs of the test split told apart (of {longer:.1%} the longer answer is the chosen one):")
        for flaw in dict.fromkeys(["all", *(flaw for _, _, flaw in test)]):
            margins = won([each for each in test if flaw in ("all", each[2])])
            right = (margins > 0).float().mean()
            print(f"  {flaw:10} {right:6.1%} of {len(margins):,}, mean margin {margins.mean():.2f}")
    return history


def main():
    if train_command(arguments().parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
