"""What a training run costs, from counted operations: here, and on paper on larger machines.

    python 04_training/cost.py                           # GPT-2 124M on 10 billion tokens
    python 04_training/cost.py --size gpt2-xl --tokens 3e11
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from gpt import GPT, SIZES
from training_bar import duration

# name: (peak FLOP/s of dense bfloat16 products by NVIDIA's data sheets, share of it that careful code reaches)
ACCELERATORS = {"A100": (312e12, 0.4), "H100 SXM": (989e12, 0.4)}


def flops_per_token(model, block_size):
    """Floating-point operations of one forward and backward pass over a block, counted, per token.

    About 6 for each weight of a matrix: a product and a sum forward, and twice as many backward; and attention's own.
    Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1.
    """
    ids = torch.zeros(1, block_size, dtype=torch.long, device=next(model.parameters()).device)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # fused attention is not counted
        _, loss = model(ids, ids)
        loss.backward()
    model.zero_grad()
    return counter.get_total_flops() / block_size


def matrix_speed(device, dtype, size=2048, rounds=7):
    """FLOP/s of plain products of two large square matrices on this machine: what training could reach at most."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        (a @ b)[0, 0].item()  # .item() waits for the device
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / median(seconds)


def main():
    parser = flags.Parser("Say how long a model of a published size takes to train, from counted operations.")
    parser.add_argument("--size", choices=SIZES, default="gpt2", help="of the model")
    parser.add_argument("--tokens", type=float, default=1e10, help="to train on")
    parser.add_argument("--block_size", type=int, default=1024, help="tokens per sequence")
    flags.machine_flags(parser, seed=False)
    args = parser.parse()
    if not args.tokens > 0 or args.block_size < 1:
        raise flags.UserError("tokens and block_size must be more than 0")
    with FakeTensorMode():  # tensors of shapes without numbers: operations are counted, not done
        model = GPT(replace(SIZES[args.size], block_size=args.block_size))
        each = flops_per_token(model, args.block_size)
    total = each * args.tokens
    parameters = model.parameter_count()
    print(f"{args.size}: {parameters:,} parameters, {each / 1e9:.3f} GFLOP per token"
          f" ({each / parameters:.2f} per parameter), {total:.3g} for {args.tokens:,.0f} tokens")
    device = flags.choose_device(args.device)
    dtype = flags.choose_dtype(args.dtype, device, model.config.embedding_size)
    speed = matrix_speed(device, dtype)
    print(f"this machine multiplies matrices at {speed / 1e9:,.0f} GFLOP/s ({device}, {str(dtype).split('.')[1]}):"
          f" {duration(total / speed)} if it did nothing else")
    for name, (peak, share) in ACCELERATORS.items():
        for count in (1, 8):
            seconds = total / (peak * share * count)
            print(f"{count} x {name}, at {share:.0%} of {peak / 1e12:.0f} TFLOP/s: {duration(seconds)},"
                  f" {seconds * count / 3600:,.0f} GPU hours")


if __name__ == "__main__":
    flags.run(main)
