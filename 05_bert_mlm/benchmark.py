"""Measure our training steps beside those of transformers' BertForMaskedLM, in one run, with one thread.

    python 05_bert_mlm/benchmark.py     # 6 minutes; figures/benchmark.json, and the table in README.md

Without transformers (pip install transformers) there is nothing to compare with. Each side has a process of its own,
since ours sets how the C library keeps memory.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import measure
import trainer
from bert_model import BERT, BERTConfig
from bert_tokens import Marks, teach_to_mask
from flags import UserError
from masking import mask_tokens
from tokenizer import BPETokenizer
from wordpiece import WordPieceTokenizer

HERE = Path(__file__).resolve().parent
VOCAB, C, T, HEADS, LAYERS, B = 8192, 256, 128, 4, 4, 32
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STEPS = 3  # of which each round takes the mean


def batch():
    """Random tokens, 15 % of them hidden: (inputs, targets) (B, T)."""
    flat = np.zeros(VOCAB, dtype=bool)
    flat[:4] = True
    marks = Marks(0, 1, 2, 3, flat, flat, flat, flat)
    random = np.random.default_rng(0)
    return mask_tokens(random.integers(4, VOCAB, size=(B, T)), marks, random=random)


def peer(dropout=0.0):
    """transformers' model of this size."""
    try:
        from transformers import BertConfig, BertForMaskedLM
    except ImportError as error:
        raise UserError("transformers is not installed: pip install transformers, to have something to compare"
                        " with") from error
    return BertForMaskedLM(BertConfig(
        VOCAB, C, LAYERS, HEADS, 4 * C, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        max_position_embeddings=T))


def our_step(model, optimizer, ids, targets, dtype):
    trainer.add_gradients(model, (ids, targets), len(ids), dtype)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def their_step(model, optimizer, ids, targets, dtype):
    with trainer.autocast(ids.device, dtype):
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
    inputs = model, optimizer, *batch(), DTYPES[dtype]
    step(*inputs)  # in which the optimizer begins its state
    seconds = median(measure.seconds(lambda: step(*inputs)) for _ in range(STEPS))
    print(B * T / seconds)


def in_process(*words):
    process = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True, text=True)
    return float(process.stdout.split()[-1])
