"""What every way to train a model further shares: where it begins, which weights move, and what is saved.

A script says `begin(args, ...)`, makes its loss, and calls `fine_tune(start, args, ...)`. With --lora, --qlora or
--adapter only the added weights are trained and saved, with the name of what they were added to.
"""

import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import checkpoint
import flags
import measure
from blocks import make_rotary
from chat_data import check_data
from chat_template import teach_to_talk
from flags import UserError, shown
from gpt import GPT, GPTConfig
from lm_model import placed
from lora import Peft, added_state, attach, chosen_peft, describe, load_added, merge_into, peft_flags
from optimizers import make_optimizer
from pretrained import is_pretrained, load_pretrained
from schedules import cosine
from tokenizer import Tokenizer, from_state
from training_run import train_and_keep


@dataclass
class Start:
    """Where a run of further training begins."""

    model: GPT
    tokenizer: Tokenizer
    dtype: torch.dtype
    peft: Peft | None  # what was added to the model, if it was
    base: str | None  # and to which
    base_mark: float | None  # the `mark` of that, before anything was added
    loaded: dict | None  # the checkpoint, if an unfinished run of this script may go on
    load: Path | None
    save: Path | None


# ---- the flags ----


def fine_tuning_flags(parser, method, data, numbers, real_numbers, load):
    """The flags of a script that trains further: with peft's, without those that only a new model needs.

    `numbers` are the defaults for a model trained here, `real_numbers` those for real weights.
    """
    group = parser.add_argument_group("data and checkpoints")
    group.add_argument("-d", "--data",
                       help="docs, made from Python's documentation; gsm8k, dolly, hh-rlhf (downloads); or a file of"
                            f" JSON lines in a common format (04_training/chat_data.py) (default: {data})")
    group.add_argument("-l", "--load_model", metavar="PATH",
                       help="a checkpoint, whole or adapters, or real weights such as smollm2; an unfinished run goes"
                            f" on (default: {load})")
    group.add_argument("-s", "--save_model", metavar="PATH", default="default",
                       help=f"'default' is checkpoints/04_{method}.pt, or where an unfinished run was loaded from;"
                            " 'no_save' keeps nothing")
    peft_flags(parser)
    flags.machine_flags(parser)
    flags.number_flags(parser, {name: f"{value}; {real_numbers[name]} for real weights" if name in real_numbers
                                else value for name, value in numbers.items()})
    parser.checkpointed["data"] = data


# ---- models, whole or with something added ----


def open_model(path_or_name, rewards=False):
    """(model in float32 on the CPU, tokenizer that can talk, checkpoint or None) of whatever -l may name.

    Of a checkpoint of adapters it is the model that they were added to, with them: merged if they can be. With
    `rewards` it may be a reward model's.
    """
    if is_pretrained(path_or_name):
        model, tokenizer = load_pretrained(path_or_name)
        return model, teach_to_talk(tokenizer), None
    loaded = checkpoint.load(path_or_name, "gpt", "adapters")
    if "reward_head" in loaded and not rewards:
        raise UserError(f"{path_or_name} is a reward model, which gives points and does not write: it is for ppo.py"
                        " --reward")
    if loaded["kind"] == "gpt":
        model = GPT(GPTConfig(**loaded["config"]))
        model.load_state_dict(loaded["model"])
    else:
        model = with_added(loaded, path_or_name)
        if loaded["peft"]["kind"] != "adapter":
            merge_into(model)
    return model.eval(), teach_to_talk(from_state(loaded["tokenizer"])), loaded


def mark(model):
    """A number that tells one model from another: the sum of all weights' squares."""
    # mps has no float64
    return sum(torch.linalg.vector_norm(w.detach().cpu().double()).item() ** 2 for w in model.parameters())


def beside_checkpoint(base, path):
    """Where a base stands, as seen from a checkpoint, so that both can be moved together."""
    try:
        return Path(os.path.relpath(base, path.parent)).as_posix()
    except ValueError:  # on another drive of Windows
        return Path(base).resolve().as_posix()


def with_added(loaded, path):
    """The model that a checkpoint of adapters was made for, with the adapters in it."""
    base = loaded["base"] if is_pretrained(loaded["base"]) else Path(path).parent / loaded["base"]
    if not is_pretrained(base) and not base.exists():
        raise UserError(f"{path} was trained upon {shown(base)}, which is not there: bring that back, or merge the two"
                        " before one is moved")
    model, _, _ = open_model(base)
    if not math.isclose(mark(model), loaded["base_mark"], rel_tol=1e-9):
        raise UserError(f"{shown(base)} has other weights than when {path} was trained upon it: bring these back, or"
                        " train anew")
    attach(model, Peft(**loaded["peft"]))
    load_added(model, loaded["model"])
    if loaded["config"]["block_size"] > model.config.block_size:
        stretch(model, loaded["config"]["block_size"])
    return model


def load_model(path, args):
    """(model, dtype, tokenizer) of a checkpoint or of real weights, to be used as they are."""
    model, tokenizer, loaded = open_model(path)
    if loaded:
        checkpoint.tell_unfinished(loaded, path)
    return *placed(model, args), tokenizer


def stretch(model, block_size):
    """Let a model read longer texts than it was made for. Raises UserError where positions are learned."""
    if model.config.positions == "learned":
        raise UserError(f"block_size {block_size}: this model has learned positions for {model.config.block_size}"
                        f" tokens: give block_size {model.config.block_size} or less")
    model.config.block_size = block_size
    rotary = make_rotary(model.config)  # computed, not learned
    for block in model.blocks:
        block.attention.rotary = rotary


def set_dropout(model, share):
    model.config.dropout = model.dropout.p = share
    for block in model.blocks:
        block.dropout.p = block.attention.dropout = share


# ---- a run ----


def begin(args, method, numbers, real_numbers, ensure):
    """Where the run begins that the flags mean; what they leave open is filled in. `ensure()` is the default -l.

    Of an unfinished run that goes on, all that was not typed is taken from its checkpoint.
    """
    check_data(args.typed.get("data"))
    name = args.load_model or str(ensure())
    real = is_pretrained(name)
    peft = chosen_peft(args)
    loaded = None if real else checkpoint.load(name, "gpt", "adapters")
    going_on = bool(loaded) and loaded["run"].get("method") == method and not loaded["progress"]["finished"]
    if loaded and not going_on:
        checkpoint.tell_unfinished(loaded, name)
    args.real_weights = real or bool(loaded) and loaded["run"].get("real_weights", False)  # or trained from them
    defaults = numbers | real_numbers if args.real_weights else numbers
    for flag, value in (defaults | (loaded["run"] if loaded and going_on else {})).items():
        setattr(args, flag, args.typed.get(flag, value))
    flags.check_numbers(args)

    if loaded and going_on and loaded["kind"] == "adapters":
        model, tokenizer = with_added(loaded, name), teach_to_talk(from_state(loaded["tokenizer"]))
        if peft and asdict(peft) != loaded["peft"]:
            raise UserError(f"{name} is an unfinished run with other adapters: leave out the flags of adapters")
        peft, base = Peft(**loaded["peft"]), loaded["base"]
        base, base_mark = base if is_pretrained(base) else Path(name).parent / base, loaded["base_mark"]
    else:
        if peft and going_on:
            raise UserError(f"{name} is an unfinished run without adapters: go on with it as it began, or give -s the"
                            " path of another run and -l what it began with")
        if loaded and loaded["kind"] == "adapters" and loaded["peft"]["kind"] == "adapter":
            raise UserError(f"{name} has bottleneck adapters, which can't be merged into the model to train it further:"
                            " begin with a checkpoint that is whole, or of --lora")
        model, tokenizer, _ = open_model(name, rewards=method == "reward")
        base, base_mark = (name, mark(model)) if peft else (None, None)
        torch.manual_seed(args.seed)
        if peft:
            attach(model, peft)
    if args.block_size > model.config.block_size:
        stretch(model, args.block_size)
    set_dropout(model, getattr(args, "dropout", 0.0))
    if model.config.ngram_longest:  # its many vectors would learn these few examples by heart
        model.ngram_embedding.requires_grad_(False)
    default = name if going_on else flags.CHECKPOINTS / f"04_{method}.pt"
    if args.save_model == "default":
        args.save_model = str(default)
    args.load_model = name
    load, save = flags.checkpoint_paths(args, default, real)
    if base and save and not is_pretrained(base) and save.resolve() == Path(base).resolve():
        raise UserError(f"adapters can't take the place of {base}, which they need: give another path with -s")
    model, dtype = placed(model, args)
    print(describe(model))
    return Start(model, tokenizer, dtype, peft, base and str(base), base_mark, loaded if going_on else None, load, save)


def fine_tune(start, args, method, batch, validate, trained=None, beside=None, known=None, table_rate=0.16, run=None,
              **settings):
    """Train with `trained`, the model in whatever gives its loss, and keep what moved; returns the history, or None.

    `run` has what else must be equal for an unfinished run to go on; for the rest see `training_run.train_and_keep`.
    """
    model, trained = start.model, start.model if trained is None else trained
    kept = {"data", "batch_size", "block_size", "learning_rate", "steps", "dropout", "seed", "real_weights"}
    run = {"method": method, **{name: vars(args)[name] for name in kept & vars(args).keys()}, **(run or {})}
    kind, beside = "gpt", dict(beside or {})
    if start.peft:
        kind = "adapters"
        base = start.base
        if start.save and not is_pretrained(base):
            base = beside_checkpoint(base, start.save)
        beside |= {"model": lambda: added_state(model), "peft": lambda: asdict(start.peft), "base": lambda: base,
                   "base_mark": lambda: start.base_mark}
    optimizer = make_optimizer(trained, "adamw", args.learning_rate, 0.0, (0.9, 0.999), table_rate=table_rate)
    history = train_and_keep(
        kind, model, start.tokenizer, optimizer, batch, cosine(args.learning_rate, args.steps, 0.05), validate, run,
        f"{method}: {args.data}", start.loaded, start.load, start.save, start.dtype, trained, beside=beside,
        known=known, **settings)
    if history is None:
        return None
    seconds = history[-1]["seconds"]
    validated = [row for row in history if row["validation_loss"] is not None]
    best = min(validated, key=lambda row: row["validation_loss"])
    if best["validation_loss"] < validated[-1]["validation_loss"] - 0.05:
        print(f"the validation loss was lowest at step {best['step']:,}, {best['validation_loss']:.3f}: fewer steps, or"
              " more examples, would do better")
    print(f"{seconds:,.0f} s of training, {measure.peak_memory():,.0f} MB of memory at its peak")
    if start.save:
        size = start.save.stat().st_size / 1e6
        print(f"checkpoint {shown(start.save)} ({size:,.1f} MB), loss curve {shown(start.save.with_suffix('.png'))}")
    return history
