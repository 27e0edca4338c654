"""What each trick buys: seconds until tiny Shakespeare's loss is that of nanoGPT's recipe, one trick more in each row.

    python 04_training/tricks.py      # eight minutes

The loss is that on the last tenth of the training part: recipes may be chosen by it. Learning rates stay up once they
are there, so that every row can be stopped where it reaches the mark.
"""

import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import trainer
from batches import shuffled_batches
from evaluation import evaluate
from gpt import GPT, GPTConfig
from nanogpt_recipe import characters, nanogpt_run
from optimizers import make_optimizer
from schedules import constant

LOOKED_AT = 15_000  # validation tokens
LLAMA = {"norm": "rms_norm", "feed_forward": "swiglu"}
NGRAMS = {"tied_head": False, "ngram_longest": 6}
# where the rows begin; each of TRICKS changes the row before it, each of ALSO_TRIED the last of TRICKS
PLAIN = {"layer_count": 4, "batch_size": 12, "block_size": 64, "learning_rate": 1e-3, "optimizer": "adamw",
         "pieces": trainer.random_batches, "parts": {"bias": "none", "feed_forward": "exact_gelu"}}
TRICKS = {
    "fused AdamW, loss in chunks": {},
    "+ learning rate 4e-3": {"learning_rate": 4e-3},
    "+ Muon for matrices": {"learning_rate": 9e-3, "optimizer": "muon"},
    "+ RoPE": {"parts": {"positions": "rotary"}},
    "+ RMSNorm, SwiGLU": {"parts": LLAMA},
    "+ a table of pairs": {"parts": NGRAMS | {"ngram_longest": 2}},
    "+ tables of up to 6 characters": {"parts": NGRAMS},
    "+ one layer instead of four": {"layer_count": 1},
    "+ blocks of 256, 4 a step": {"batch_size": 4, "block_size": 256},
    "+ AdamW instead of Muon": {"learning_rate": 6e-3, "optimizer": "adamw"},
    "+ each piece once": {"pieces": shuffled_batches},
}
ALSO_TRIED = {
    "QK-norm": {"parts": {"qk_norm": True}},
    "ReLU squared": {"parts": {"feed_forward": "relu2"}},
    "two layers": {"layer_count": 2},
    "no layer at all": {"layer_count": 0},
    "twice as wide": {"embedding_size": 256},
    "half as wide": {"embedding_size": 64},
    "weight decay 0": {"weight_decay": 0.0},
}


def with_changes(settings, changes):
    return settings | changes | {"parts": settings["parts"] | changes.get("parts", {})}


def seconds_to(mark, settings, train_tokens, val_tokens, vocab_size, seed, most=2000):
    """(seconds of training, steps) until the loss on `val_tokens` is no more than the mark; inf if it never is."""
    torch.manual_seed(seed)
    sizes = settings.get("embedding_size", 128), settings["block_size"], 4, settings["layer_count"]
    model = GPT(GPTConfig(vocab_size, *sizes, **settings["parts"]))
    rate = settings["learning_rate"]
    optimizer = make_optimizer(model, settings["optimizer"], rate, settings.get("weight_decay", 0.1))
    batch = settings["pieces"](train_tokens, settings["batch_size"], settings["block_size"], seed)
    schedule, dense, spent = constant(rate, 100, warmup=0.1), trainer.dense_parameters(model), 0.0
    for step in range(most):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = schedule(step) * group.get("lr_scale", 1.0)
        trainer.add_gradients(model, batch(step), settings["batch_size"], torch.float32)
        torch.nn.utils.clip_grad_norm_(dense, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        spent += time.perf_counter() - began
        if step % max(2, step // 25) == 0:  # a twenty-fifth of the way between two looks
            loss = evaluate(model, val_tokens, 32, settings["block_size"], most=LOOKED_AT)
            if loss <= mark:
                return spent, step + 1
    return math.inf, most


def main():
    parser = flags.Parser("Measure what each trick buys on tiny Shakespeare, in seconds to the same loss.")
    parser.add_argument("--steps", type=int, default=2000, help="of nanoGPT's recipe, which sets the mark")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same numbers")
    args = parser.parse()
    flags.check_numbers(args)
    tokens, _, vocab_size = characters("tinyshakespeare")
    cut = int(0.9 * len(tokens))
    texts = tokens[:cut], tokens[cut:], vocab_size
    began, mark, _ = nanogpt_run(tokens[:cut], tokens[cut : cut + LOOKED_AT + 1], args.seed, args.steps, vocab_size)
    print(f"| nanoGPT's recipe, {args.steps:,} steps: loss {mark:.3f} | {began:.1f} s | |", flush=True)

    def tell(name, settings):
        spent, steps = seconds_to(mark, settings, *texts, args.seed, args.steps)
        ends = f"{spent:.1f} s" if spent < math.inf else "never"
        print(f"| {name} | {ends} | {steps:,} |", flush=True)

    settings = PLAIN
    for name, changes in TRICKS.items():
        settings = with_changes(settings, changes)
        tell(name, settings)
    for name, changes in ALSO_TRIED.items():
        tell(f"... {name}", with_changes(settings, changes))


if __name__ == "__main__":
    flags.run(main)
