"""What can be asked of a trained BERT: what fits into a blank, how likely a sentence is, which sentences are alike.

Shapes: T tokens, V = vocabulary size, N texts, C = embedding size.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from batches import pad_rows
from bert_model import mean_pooled
from evaluation import autocast
from flags import UserError

AT_ONCE = 64  # rows that go through the model together


def encode(text, tokenizer, marks, block_size):
    """A text, in which [MASK] is a blank -> [CLS] ids [SEP]. Raises UserError if it is too long."""
    if tokenizer.kind != "wordpiece":
        text = text.replace(" [MASK]", "[MASK]")  # a token begins with the space before it, and so does a hidden one
    ids = [marks.cls, *tokenizer.encode(text, allowed_special={"[MASK]"}, disallowed_special=()), marks.sep]
    if len(ids) > block_size:
        raise UserError(f"the text has {len(ids):,} tokens with [CLS] and [SEP], and the model takes {block_size:,}:"
                        " shorten it")
    return ids


@torch.no_grad()
def probabilities(model, rows, where, dtype=torch.float32):
    """ids (N, T), and a place in each row (N,) -> how likely each token is there, (N, V)."""
    device, found = model.head_weight.device, []
    for ids, at in zip(rows.split(AT_ONCE), where.split(AT_ONCE)):
        with autocast(device, dtype):
            hidden = model.hidden(ids.to(device))[torch.arange(len(ids)), at]
            found.append(model.head(hidden).float().softmax(-1).cpu())
    return torch.cat(found)


def fill(model, ids, marks, dtype=torch.float32):
    """[(place, probabilities (V,))] of each [MASK] of a row, all guessed at once; special tokens have none."""
    ids = torch.tensor(ids)
    places = (ids == marks.mask).nonzero()[:, 0]
    likely = probabilities(model, ids.expand(len(places), -1), places, dtype)
    likely[:, torch.from_numpy(marks.special)] = 0
    return list(zip(places.tolist(), likely / likely.sum(-1, keepdim=True)))


def fill_all(model, ids, marks, dtype=torch.float32):
    """The row with a token in every blank: the surest first, then the others are guessed anew, knowing it."""
    ids = list(ids)
    while marks.mask in ids:
        place, likely = max(fill(model, ids, marks, dtype), key=lambda found: found[1].max())
        ids[place] = int(likely.argmax())
    return ids


def pseudo_log_likelihood(model, ids, marks, dtype=torch.float32):
    """The natural log-probability of each token but [CLS] and [SEP] where it alone is hidden, (T - 2,).

    Salazar et al. 2020, "Masked Language Model Scoring", equation 1.
    """
    ids = torch.tensor(ids)
    places = torch.arange(1, len(ids) - 1)
    rows = ids.repeat(len(places), 1)
    rows[torch.arange(len(places)), places] = marks.mask
    return probabilities(model, rows, places, dtype)[torch.arange(len(places)), ids[places]].log()


@torch.no_grad()
def embed(model, texts, tokenizer, marks, dtype=torch.float32):
    """Texts -> their directions (N, C), of length 1: the mean of what the model knows at each token.

    Texts of any length are taken; of one that is too long, the beginning.
    """
    device, longest, found = model.head_weight.device, model.config.block_size - 2, []
    for i in range(0, len(texts), AT_ONCE):
        rows = [[marks.cls, *tokenizer.encode(text, disallowed_special=())[:longest], marks.sep]
                for text in texts[i : i + AT_ONCE]]
        ids = pad_rows(rows, marks.pad).to(device)
        real = pad_rows([[1] * len(row) for row in rows]).bool().to(device)
        with autocast(device, dtype):
            hidden = model.hidden(ids, mask=real[:, None, None])
        found.append(mean_pooled(hidden.float(), real).cpu())
    return torch.cat(found)
