"""Preferences without a reward model: the answers that people prefer become likelier than those that they do not.

    python 04_training/dpo.py
    python 04_training/dpo.py --loss ipo --beta 0.1
    python 04_training/dpo.py -l sft_lora.pt --lora -d my_preferences.jsonl

Shapes: B pairs of a chosen and a rejected answer, T tokens.
"""

import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from batches import in_turn, pad_rows
from chat_data import preferences
from chat_template import conversation_tokens
from evaluation import autocast, evaluating
from fine_tuning import begin, fine_tune, fine_tuning_flags
from flags import UserError
from sft import ensure_sft

NUMBERS = {"batch_size": 16, "block_size": 256, "learning_rate": 5e-5, "steps": 150}
REAL_NUMBERS = {"batch_size": 4, "learning_rate": 5e-5, "steps": 60}
MICRO_BATCH = 2048  # tokens whose activations are held at a time
BETAS = {"dpo": 0.1, "ipo": 0.1, "simpo": 2.0}
SIMPO_MARGIN = 1.0  # gamma: by how much an answer should win; the paper has .3 to 1.6 of it (appendix B)


def preference_loss(kind, margin, beta):
    """The loss of each pair, from its margin (B,): how much likelier the chosen answer became, against the other's.

    Margins of dpo and ipo are log pi(chosen) / ref(chosen) - log pi(rejected) / ref(rejected). IPO takes them per
    token, as its authors do. SimPO has no reference: its margin is the difference of mean log-probabilities.
    """
    if kind == "ipo":  # (h - 1 / (2 beta))^2: Azar et al. 2023, "A General Theoretical Paradigm", equation 17
        return (margin - 1 / (2 * beta)).square()
    if kind == "simpo":  # - log sigma(beta h - gamma): Meng et al. 2024, "SimPO", equation 6
        return -F.logsigmoid(beta * margin - SIMPO_MARGIN)
    # - log sigma(beta h): Rafailov et al. 2023, "Direct Preference Optimization", equation 7
    return -F.logsigmoid(beta * margin)


def answer_log_probabilities(model, ids, targets):
    """The log-probability of each row's counted targets, summed, and how many they are: (N, T) -> (N,), (N,)."""
    counted = targets != -100
    hidden = model.hidden(ids)[counted]  # (tokens of answers, C): no logits of what was asked
    logits = model.head(hidden).float()
    each = -F.cross_entropy(logits, targets[counted], reduction="none")
    row = counted.nonzero()[:, 0]
    return torch.zeros(len(ids), device=ids.device).index_add(0, row, each), counted.sum(1)


class Preferences(nn.Module):
    """A GPT whose loss is that of pairs: ids and targets (B, 2, T), chosen before rejected; reference (B, 2)."""

    def __init__(self, model, kind="dpo", beta=0.1):
        super().__init__()
        self.model, self.kind, self.beta = model, kind, beta

    def train(self, mode=True):
        """Never with dropout of any kind: log-probabilities are compared."""
        return super().train(False)

    def gained(self, ids, targets, reference):
        """How much likelier each answer is than to the reference, (B, 2): what preference_loss takes a margin of."""
        said, length = (each.view(-1, 2) for each in answer_log_probabilities(
            self.model, ids.flatten(0, 1), targets.flatten(0, 1)))
        if self.kind == "simpo":
            return said / length
        return (said - reference) / length if self.kind == "ipo" else said - reference

    def forward(self, ids, pairs, targets, reference):
        gained = self.gained(ids, targets, reference)
        return None, preference_loss(self.kind, gained[:, 0] - gained[:, 1], self.beta).mean()


def tokenised(pairs, tokenizer, block_size):
    """[((ids, counted) of the chosen answer, of the rejected one)] of preferences that fit into a block."""
    found = [tuple(conversation_tokens([*asked, {"role": "assistant", "content": answer}], tokenizer)
                   for answer in answers) for asked, *answers in pairs]
    short = [pair for pair in found if max(len(ids) for ids, _ in pair) - 1 <= block_size]
    if len(short) < len(found):
        print(f"{len(found) - len(short):,} of {len(found):,} preferences are longer than block_size {block_size}:"
              " left out")
    if not short:
        raise UserError(f"no preference fits into block_size {block_size}: give a larger one")
    return short


def padded(pairs):
    """(ids, targets), each (B, 2, T), of pairs of (ids, counted): -100 where a target is none of an answer's."""
    rows = [row for pair in pairs for row in pair]
    ids = pad_rows([ids[:-1] for ids, _ in rows])
    targets = pad_rows([[token if counts else -100 for token, counts in zip(ids[1:], counted[1:])]
                        for ids, counted in rows], -100)
    return ids.unflatten(0, (-1, 2)), targets.unflatten(0, (-1, 2))


@torch.no_grad()
def reference_log_probabilities(model, pairs, batch_size, dtype):
    """(N, 2): what a model finds before training; the reference need not be kept in memory beside it."""
    device, found = model.head_weight.device, []
    with evaluating(model), autocast(device, dtype):
        for i in range(0, len(pairs), batch_size):
            ids, targets = (part.flatten(0, 1).to(device) for part in padded(pairs[i : i + batch_size]))
            found.append(answer_log_probabilities(model, ids, targets)[0].view(-1, 2).cpu())
    return torch.cat(found)


def pair_batches(pairs, reference, batch_size, seed):
    """step -> (ids, pairs, targets, reference); all pairs come once, in another order each time, before any again.

    `pairs` (B, 2, T) is for the trainer, which weighs parts of a batch by what counts: each pair once, however long.
    """
    turn = in_turn(len(pairs), batch_size, seed)

    def batch(step):
        chosen = turn(step)
        ids, targets = padded([pairs[i] for i in chosen])
        once = torch.full_like(ids, -100)
        once[:, 0, 0] = 0
        return ids, once, targets, reference[chosen]

    return batch


@torch.no_grad()
def score_pairs(preferences, pairs, reference, batch_size, dtype):
    """(mean loss, share of pairs whose chosen answer gained more, mean margin times beta) of held-out pairs.

    beta log pi / ref is the reward that a model trained so has learned without saying it: DPO, equation 5.
    """
    device, margins = preferences.model.head_weight.device, []
    for i in range(0, len(pairs), batch_size):
        ids, targets = (part.to(device) for part in padded(pairs[i : i + batch_size]))
        with autocast(device, dtype):
            gained = preferences.gained(ids, targets, reference[i : i + batch_size].to(device))
        margins.append((gained[:, 0] - gained[:, 1]).cpu())
    margins = torch.cat(margins)
    loss = preference_loss(preferences.kind, margins, preferences.beta).mean().item()
    # a tie is half right: before training all are
    accuracy = ((margins > 0).float() + (margins == 0) / 2).mean().item()
    return loss, accuracy, preferences.beta * margins.mean().item()


def arguments():
    parser = flags.Parser("Make the answers that people prefer likelier than the others.")
    fine_tuning_flags(parser, "dpo", "docs", NUMBERS, REAL_NUMBERS, "what 04_training/sft.py made")
    parser.add_argument("--loss", choices=BETAS, help="what is asked of a pair's margin (default: dpo)")
    usual = ", ".join(f"{beta} for {kind}" for kind, beta in BETAS.items())
    parser.add_argument("--beta", type=float, help=f"how closely the model stays by what it was (default: {usual})")
    parser.checkpointed |= {"loss": "dpo", "beta": None}
    return parser


def train_command(args):
    """Train as the flags say; returns the history, or None after Ctrl-C."""
    start = begin(args, "dpo", NUMBERS, REAL_NUMBERS, ensure_sft)
    beta = BETAS[args.loss] if args.beta is None else args.beta
    if not 0 < beta < float("inf"):
        raise UserError(f"beta {beta} must be more than 0")
    sizes = args.batch_size, start.dtype
    train, held_out = (tokenised(preferences(args.data, split), start.tokenizer, args.block_size)
                       for split in ("train", "validation"))
    print(f"{len(train):,} preferences to learn from, {len(held_out):,} held out, of {args.data}")
    random.Random(args.seed).shuffle(train)
    train, held_out = train[: args.batch_size * args.steps], held_out[: 10 * args.batch_size]  # no more than needed
    if start.loaded:
        reference = start.loaded["reference"]
    else:
        reference = [reference_log_probabilities(start.model, pairs, *sizes) for pairs in (train, held_out)]
    trained = Preferences(start.model, args.loss, beta)

    def held_out_scores():
        return score_pairs(trained, held_out, reference[1], *sizes)

    nothing = preference_loss(args.loss, torch.zeros(()), beta).item()
    history = fine_tune(
        start, args, "dpo", pair_batches(train, reference[0], args.batch_size, args.seed),
        lambda: held_out_scores()[0], trained, beside={"reference": lambda: reference},
        known=("without a preference", nothing), run={"loss": args.loss, "beta": beta}, micro_batch=MICRO_BATCH)
    if history is not None:
        _, accuracy, margin = held_out_scores()
        print(f"{accuracy:.1%} of held-out pairs are told apart, implicit reward margin {margin:.3f}")
    return history


def main():
    if train_command(arguments().parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
