"""LoRA beside a model, as two pieces have it: begun or gone on with, trained, and kept with the name of that model."""

import sys
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from fine_tuning import beside_checkpoint, mark, open_model, with_added
from lm_model import placed
from lora import Peft, added_state, attach
from pretrained import is_pretrained
from thought_plan import even_batches, keep_training, unfinished
from tokenizer import from_state


def train_adapters(path, base, plan, seed, args, rows_of, settings, run):
    """Train LoRA beside what `base` names, and keep it at a path: its history, None after Ctrl-C.

    `rows_of(tokenizer)` -> (rows to learn from, rows held out).
    """
    torch.manual_seed(seed)
    peft, loaded = Peft("lora", plan.rank, alpha=2.0 * plan.rank), unfinished(path, "adapters")
    if loaded:
        model, tokenizer = with_added(loaded, path), from_state(loaded["tokenizer"])
        base_mark = loaded["base_mark"]
    else:
        model, tokenizer, _ = open_model(base)
        base_mark = mark(model)
        attach(model, peft)
    model, dtype = placed(model, args)
    train, held_out = rows_of(tokenizer)
    name = str(base) if is_pretrained(base) else beside_checkpoint(base, path)
    return keep_training(
        "adapters", model, tokenizer, model, even_batches(train, settings["tokens"], seed), held_out,
        settings | {"weight_decay": 0.0}, run, path, loaded, dtype,
        {"model": lambda: added_state(model), "peft": lambda: asdict(peft), "base": lambda: name,
         "base_mark": lambda: base_mark})
