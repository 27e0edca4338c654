"""Measure our training steps beside those of transformers' BertForMaskedLM, in one run, with one thread.

    python 05_bert_mlm/benchmark.py     # 6 minutes; figures/benchmark.json, and the table in README.md

Its peers are installed by pip install -r .ci/oracles.txt; the vocabulary is MiniLM's (bert_pretrained.py). In training
each side has a process of its own, since ours sets how the C library keeps memory.
"""

import sys
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import corpora
import flags
import measure
import trainer
from bert_model import BERT, BERTConfig
from bert_pretrained import find
from bert_tokens import Marks
from evaluation import autocast
from flags import UserError
from masking import mask_tokens
from wordpiece import WordPieceTokenizer

HERE = Path(__file__).resolve().parent
VOCAB, C, T, HEADS, LAYERS, B = 8192, 256, 128, 4, 4, 32
STEPS = 3  # of which each round takes the mean


def batch():
    """Random tokens, 15 % of them hidden: (inputs, targets) (B, T)."""
    flat = np.zeros(VOCAB, dtype=bool)
    flat[:4] = True
    marks = Marks(0, 1, 2, 3, flat, flat, flat, flat)
    random = np.random.default_rng(0)
    return mask_tokens(random.integers(4, VOCAB, size=(B, T)), marks, random=random)


def peer():
    """transformers' model of this size."""
    try:
        from transformers import BertConfig, BertForMaskedLM
    except ImportError as error:
        raise UserError("transformers is not installed: pip install -r .ci/oracles.txt") from error
    return BertForMaskedLM(BertConfig(
        VOCAB, C, LAYERS, HEADS, 4 * C, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        max_position_embeddings=T))


def our_step(model, optimizer, ids, targets, dtype):
    trainer.add_gradients(model, (ids, targets), len(ids), dtype)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def their_step(model, optimizer, ids, targets, dtype):
    with autocast(ids.device, dtype):
        loss = model(input_ids=ids, labels=targets).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def step_once(side, dtype):
    """In a process of its own: print the tokens per second of some steps of a side."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if side == "ours":
        trainer.keep_freed_memory()
        model, step = BERT(BERTConfig(VOCAB, C, T, HEADS, LAYERS)), our_step
    else:
        model, step = peer(), their_step
    model.train()
    optimizer = trainer.make_optimizer(model, 3e-4)
    inputs = model, optimizer, *batch(), measure.dtypes()[dtype]
    step(*inputs)  # in which the optimizer begins its state
    seconds = median(measure.seconds(lambda: step(*inputs)) for _ in range(STEPS))
    print(B * T / seconds)


def step_rows(rounds):
    """Training steps of both, in turn, with each dtype."""
    for name in measure.dtypes():
        what = f"training, {LAYERS} layers, {C} wide, {B} x {T} tokens, vocabulary {VOCAB:,}, one thread, {name}"
        yield measure.row_in_turn(what, "tokens/s", partial(measure.in_process, "--step", "ours", name),
                                  "transformers' BertForMaskedLM",
                                  partial(measure.in_process, "--step", "theirs", name), rounds)


def tokenizer_row(rounds):
    """WordPiece with MiniLM's vocabulary, from reading it to the ids of a text, beside Hugging Face's in Rust."""
    from tokenizers import Tokenizer

    text, folder = corpora.load("pydocs")[:1_000_000], find("minilm")

    def ours():
        WordPieceTokenizer.load(folder).encode(text, disallowed_special=())

    def theirs():
        Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False)

    return measure.seconds_in_turn("WordPiece, a million characters of pydocs", ours, "tokenizers", theirs, rounds)


def main():
    if sys.argv[1:2] == ["--step"]:
        step_once(*sys.argv[2:])
        return
    args = measure.arguments(flags.Parser("Measure training steps beside those of transformers."), rounds=5)
    peer()  # better now than after a minute
    rows = [*step_rows(args.rounds), tokenizer_row(args.rounds)]
    notes = ["Dropout 0, AdamW on both sides. Each side has a process of its own.", ""]
    results = {"machine": measure.machine("torch", "transformers"), "rounds": args.rounds, "rows": rows, "notes": notes}
    measure.publish(results, HERE, args.print_only)


if __name__ == "__main__":
    flags.run(main)
