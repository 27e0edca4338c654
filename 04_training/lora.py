"""Fine-tuning a few parameters beside the frozen ones: LoRA, rsLoRA, DoRA, QLoRA, and bottleneck adapters.

    attach(model, Peft("lora", rank=8))  # then train as ever: only what was added has gradients
    state = added_state(model)           # a few MB: with asdict(peft), all that a checkpoint needs
    merge_into(model)                    # a plain GPT again
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from experts import MixtureOfExperts
from flags import UserError
from nf4 import Linear4bit, put, quantise_linears


@dataclass
class Peft:
    """What is added to a model; a checkpoint stores it beside the added weights."""

    kind: str  # "lora"; "qlora": the same beside matrices of 4 bits; "adapter"
    rank: int = 8
    alpha: float = 16.0
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0
    targets: list | None = None  # ends of names of Linear layers; None is all of the blocks
    adapter_size: int = 16


class LoRALinear(nn.Module):
    """A frozen Linear, of 4 bits or not, to whose matrix W one of low rank is added: (..., in) -> (..., out).

    W x + alpha/r B A x: Hu et al. 2021, "LoRA", equation 3 and section 4.1; `rslora`, alpha/sqrt(r): Kalajdzievski
    2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", theorem 3.2; `dora`, each row of the sum is
    brought to a length m of its own: Liu et al. 2024, "DoRA", equation 5.
    """

    def __init__(self, linear, peft):
        super().__init__()
        (out_size, in_size), device = linear.weight.shape, linear.weight.device
        self.linear, self.merged, self.dropout = linear, None, nn.Dropout(peft.dropout)
        self.scale = peft.alpha / (math.sqrt(peft.rank) if peft.rslora else peft.rank)
        self.A = nn.Parameter(torch.empty(peft.rank, in_size, device=device))
        self.B = nn.Parameter(torch.zeros(out_size, peft.rank, device=device))  # at first nothing is changed
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # the published code; the paper says normal
        self.m = nn.Parameter(linear.weight.detach().norm(dim=1)) if peft.dora else None  # (out,)

    @property
    def bias(self):
        return self.linear.bias

    def growth(self):
        """m / |W + s B A|, row by row; the length is taken for a constant (Liu et al. 2024, section 4.3)."""
        with torch.no_grad():
            length = (self.linear.weight + self.scale * self.B @ self.A).norm(dim=1)
        return self.m / length

    @property
    def weight(self):
        """The matrix (out, in) that this layer amounts to, for those who read it instead of calling the layer."""
        weight = self.linear.weight + self.scale * self.B @ self.A
        return weight if self.m is None else self.growth()[:, None] * weight

    def forward(self, x):
        if self.merged is not None:
            return self.merged(x)
        y, added = self.linear(x), F.linear(F.linear(self.dropout(x), self.A), self.B) * self.scale
        if self.m is None:
            return y + added
        # m (W + s B A) x / |W + s B A| + bias, written so that nothing is rounded where the fraction is 1
        growth, product = self.growth(), y if self.bias is None else y - self.bias
        return y + (growth - 1) * product + growth * added

    def merge(self):
        """Compute with one plain Linear from now on; `unmerge` goes back to the parts, exactly."""
        self.merged = plain_linear(self)

    def unmerge(self):
        self.merged = None


def plain_linear(layer):
    """A frozen Linear that computes what a layer with a `weight` and a `bias` does."""
    weight = layer.weight.detach()
    linear = nn.Linear(*weight.shape[::-1], bias=False, device="meta")
    linear.weight, linear.bias = nn.Parameter(weight), layer.bias
    return linear.requires_grad_(False)


class Adapter(nn.Module):
    """The last Linear of a sublayer, and a bottleneck behind it whose result is added: (..., in) -> (..., C).

    At first it adds nothing. Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", section 2.1.
    """

    def __init__(self, linear, peft):
        super().__init__()
        size, width, device = peft.adapter_size, len(linear.weight), linear.weight.device
        self.linear, self.down, self.up = linear, nn.Linear(width, size).to(device), nn.Linear(size, width).to(device)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    @property
    def weight(self):
        raise ValueError("what an adapter does is no product with a matrix: call the layer")

    def forward(self, x):
        y = self.linear(x)
        return y + self.up(F.gelu(self.down(y)))


def block_linears(model, targets=None):
    """Names of the blocks' Linear layers ("blocks.0.attention.query"): those that end with one of `targets`, or all.

    The gate that chooses among experts is not meant, and never the head. Raises UserError for a target without a match.
    """
    names = [name for name, part in model.named_modules()
             if name.startswith("blocks.") and isinstance(part, nn.Linear)
             and not isinstance(model.get_submodule(name.rpartition(".")[0]), MixtureOfExperts)]
    for target in targets or ():
        if not any(name.endswith(f".{target}") for name in names):
            known = ", ".join(dict.fromkeys(name.split(".", 2)[2] for name in names))
            raise UserError(f"no layer '{target}' in this model's blocks: choose from {known}, or their last words")
    return [name for name in names if targets is None or any(name.endswith(f".{target}") for target in targets)]


def attach(model, peft):
    """Freeze a model and add what a Peft says, in place; returns the model. Raises UserError if there is no place."""
    adapting = peft.kind == "adapter"
    names = block_linears(model, ["attention.projection", "feed_forward.projection"] if adapting else peft.targets)
    model.requires_grad_(False)
    if peft.kind == "qlora":
        quantise_linears(model, block_linears(model))
    for name in names:
        put(model, name, (Adapter if adapting else LoRALinear)(model.get_submodule(name), peft))
    return model


def merge_into(model):
    """Make a GPT plain again, in place, each matrix with what it learned; returns it. Raises UserError for adapters."""
    if any(isinstance(part, Adapter) for part in model.modules()):
        raise UserError("adapters are layers of their own and can't be merged: keep them, or train with --lora instead")
    for kind in (LoRALinear, Linear4bit):  # in this order: the second may be inside the first
        for name in [name for name, part in model.named_modules() if isinstance(part, kind)]:
            put(model, name, plain_linear(model.get_submodule(name)))
    return model.requires_grad_(True)


def added_state(model):
    """{name: tensor on the CPU} of what is trained: all that has to be saved."""
    return {name: w.detach().cpu() for name, w in model.named_parameters() if w.requires_grad}


def load_added(model, state):
    """Give what was added to a model these values. Raises UserError if they are another model's, or another Peft's."""
    own = {name: w for name, w in model.named_parameters() if w.requires_grad}
    wrong = own.keys() ^ state.keys() or {name for name in own if own[name].shape != state[name].shape}
    if wrong:
        raise UserError(f"these weights were added to another model, or with another rank or targets: see {min(wrong)}")
    model.load_state_dict(state, strict=False)


def describe(model):
    """"trainable 884,736 of 135,400,000 parameters (0.65 %); weights 540 MB"; what is in 4 bits counts as such."""
    weights, packed = list(model.parameters()), [part for part in model.modules() if isinstance(part, Linear4bit)]
    trainable = sum(w.numel() for w in weights if w.requires_grad)
    total = sum(w.numel() for w in weights) + sum(math.prod(part.shape) for part in packed)
    size = sum(w.nbytes for w in [*weights, *(buffer for part in packed for buffer in part.buffers())]) / 1e6
    return f"trainable {trainable:,} of {total:,} parameters ({100 * trainable / total:.2f} %); weights {size:,.0f} MB"


def peft_flags(parser):
    """Add --lora, --qlora, --adapter and what goes with them; `chosen_peft` reads them."""
    group = parser.add_argument_group("training few parameters instead of all")
    kinds = group.add_mutually_exclusive_group()
    for kind, meaning in (("lora", "matrices of low rank beside the model's"), ("qlora", "and the model's in 4 bits"),
                          ("adapter", "a bottleneck behind each attention and feed-forward layer")):
        kinds.add_argument(f"--{kind}", dest="peft", action="store_const", const=kind, help=meaning)
    group.add_argument("--rank", type=int, help="of the added matrices (default: 8)")
    group.add_argument("--alpha", type=float, help="they are multiplied by alpha / rank (default: 16)")
    group.add_argument("--rslora", action="store_true", default=None, help="multiply by alpha / sqrt(rank) instead")
    group.add_argument("--dora", action="store_true", default=None, help="the length of each row is learned apart, and"
                       " the low rank changes its direction (DoRA)")
    group.add_argument("--targets", type=lambda names: names.split(","), metavar="NAMES",
                       help="layers that get them, e.g. query,value (default: all of the blocks)")
    group.add_argument("--adapter_size", type=int, help="width of the bottleneck (default: 16)")


def chosen_peft(args):
    """The Peft that the flags mean, or None. Raises UserError for what does not go together, or means nothing."""
    names = "rank", "alpha", "rslora", "dora", "targets", "adapter_size"
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for name, value in given.items():
        kinds = ["adapter"] if name == "adapter_size" else ["lora", "qlora"]
        if args.peft not in kinds:
            raise UserError(f"--{name} goes with --{' or --'.join(kinds)}: add that, or leave --{name} out")
        if name != "targets" and not 0 < value < math.inf:
            raise UserError(f"{name} {value} must be more than 0")
    return args.peft and Peft(args.peft, **given)
