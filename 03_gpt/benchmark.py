"""Measure writing beside Hugging Face's generate, and the loss in chunks beside the plain one.

    python 03_gpt/benchmark.py      # ten minutes; figures/benchmark.json, and the table in README.md

transformers is needed: pip install -r .ci/oracles.txt
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import flags
import measure
import pretrained
from fast_decode import FastDecode
from gpt import GPT, SIZES
from linear_cross_entropy import linear_cross_entropy
from sampling import complete, generate
from tokenizer import BPETokenizer

HERE = Path(__file__).resolve().parent
PROMPT, NEW, LONG_PROMPT = 32, 128, 512
TOKENS, WIDTH, VOCAB = 1024, 768, 200_019


def peer(dtype):
    """(our model of GPT-2's size with random weights, the same in transformers): checked to have the same logits."""
    import transformers

    torch.manual_seed(0)
    ours = GPT(SIZES["gpt2"]).eval()
    with tempfile.TemporaryDirectory() as folder:
        pretrained.export(ours, BPETokenizer(), folder)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.randint(50257, (1, PROMPT))
    with torch.inference_mode():
        difference = (ours(ids)[0] - theirs(ids).logits).abs().max().item()
    if difference > 1e-4:
        sys.exit(f"logits differ by {difference}: the times can't be compared")
    return ours, theirs.to(dtype)


def their_generate(model, ids):
    with torch.inference_mode():
        model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)


@torch.inference_mode()
def without_cache(model, ids):
    """The whole text again for each token, in the model's own dtype."""
    for _ in range(NEW):
        logits = model.head(model.hidden(ids)[:, -1])
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)


def writing_rows(rounds):
    """Our dtypes beside Hugging Face's bfloat16, or float32 where that is all there is; one text and 16."""
    their_name, their_dtype = list(measure.dtypes().items())[-1]
    ours, theirs = peer(their_dtype)
    for name, dtype in measure.dtypes().items():
        fast = FastDecode(ours, dtype)
        for count in (1, 16):
            print(f"{name}, {count} at once", flush=True)
            ids = torch.randint(50257, (count, PROMPT))
            writing = partial(generate, fast, ids, NEW, 0)
            texts = f"{NEW} tokens, {'one text' if count == 1 else f'{count} texts at once'}, {name}"
            yield measure.seconds_in_turn(texts, writing, f"transformers, {their_name}",
                                          partial(their_generate, theirs, ids), rounds)
            if count == 1:
                yield measure.row_in_turn(f"weights read while writing, one text, {name}", "GB/s",
                                          lambda: NEW * weights_read(fast) / measure.seconds(writing) / 1e9,  # noqa: B023
                                          "torch.mv", plain_products(dtype), rounds)
                yield measure.seconds_in_turn(texts, writing, "without a cache", partial(without_cache, ours, ids),
                                              rounds)


def weights_read(fast):
    """Bytes of weights that one token needs."""
    weights = sum(parameter.nbytes for parameter in fast.model.parameters())
    return weights - fast.model.position_embedding.weight.nbytes  # of which one row is read


def plain_products(dtype):
    """A function that measures the GB/s of plain products of one row with as many other matrices as fill 0.5 GB."""
    count = 2**29 // (4 * WIDTH * WIDTH * dtype.itemsize)  # more than a cache holds
    matrices = [torch.randn(4 * WIDTH, WIDTH, dtype=dtype) for _ in range(count)]
    x = torch.randn(WIDTH, dtype=dtype)

    def products():
        for matrix in matrices:
            torch.mv(matrix, x)

    return lambda: sum(matrix.nbytes for matrix in matrices) / 1e9 / measure.seconds(products)


def samples_row(rounds):
    """16 samples of one long prompt, read once, beside the prompt 16 times."""
    torch.manual_seed(0)
    model = FastDecode(GPT(SIZES["gpt2"]))
    prompt = torch.randint(50257, (LONG_PROMPT,)).tolist()
    return measure.seconds_in_turn(f"16 samples of a prompt of {LONG_PROMPT} tokens, 8 new ones each",
                                   partial(complete, model, [prompt], 8, samples=16), "the prompt 16 times",
                                   partial(complete, model, [prompt] * 16, 8), rounds)


def loss_once(form):
    """In a process of its own: seconds of one forward and backward pass, and the extra memory at its peak."""
    torch.manual_seed(0)
    name, _, dtype = form.partition(" ")
    hidden, weight = (torch.empty(*shape, dtype=getattr(torch, dtype)).normal_(std=0.05).requires_grad_()
                      for shape in ((TOKENS, WIDTH), (VOCAB, WIDTH)))
    targets = torch.randint(VOCAB, (TOKENS,))

    def once():
        hidden.grad = weight.grad = None
        if name == "chunks":
            loss = linear_cross_entropy(hidden, weight, targets)
        else:
            loss = F.cross_entropy((hidden @ weight.T).float(), targets)
        loss.backward()

    before = measure.peak_memory()
    seconds = [measure.seconds(once) for _ in range(2)]
    extra = measure.peak_memory() - before
    gradients = (hidden.nbytes + weight.nbytes) / 2**20
    print(json.dumps({"s": min(seconds), "MB": extra - gradients}))


def loss_rows(rounds):
    for name in measure.dtypes():
        print(f"loss, {name}", flush=True)
        sides = measure.in_turn(*(partial(measure.in_process, "--loss", f"{form} {name}")
                                  for form in ("chunks", "plain")), rounds=rounds)
        what = f"head and loss, {TOKENS:,} tokens, vocabulary {VOCAB:,}, {name}"
        for unit, label in (("s", what), ("MB", "its memory beyond inputs and gradients")):
            yield measure.row(label, unit, *([one[unit] for one in sides[0]], "plain", [one[unit] for one in sides[1]]))


def main():
    if sys.argv[1:2] == ["--loss"]:
        loss_once(sys.argv[2])
        return
    parser = flags.Parser("Measure writing beside Hugging Face's generate, and the loss in chunks.")
    args = measure.arguments(parser, rounds=3)
    try:
        rows = list(writing_rows(args.rounds))
    except ImportError as error:
        raise flags.UserError("transformers is not installed: pip install -r .ci/oracles.txt") from error
    rows += [samples_row(args.rounds), *loss_rows(args.rounds)]
    results = {"machine": measure.machine("torch", "transformers"), "rounds": args.rounds, "rows": rows}
    measure.publish(results, HERE, args.print_only)


if __name__ == "__main__":
    flags.run(main)
