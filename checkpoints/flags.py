"""The flags of the original lm_model.py, the same in every chapter, and how a script fails: in one line.

A flag means the same in every script that has it; -h says what of. Beside those that are defined here:

    --seeds N [N ...]   the seeds themselves, one run with each, where --seed would be one
    --problems N        how many problems are made, or learned from
    --limit N           how many problems, questions or tokens of a test are taken
    --split PART        which part of the data is taken
    --samples N         how many texts, chains or lines are drawn of each
    --runs M            how often all of it is done
    --show N            how many of many are printed
    --plot [FILE]       draw what was found
    --results PATH      file (or folder of files) of what was measured: it is read, and added to
    -o, --output PATH   what a script makes: a figure, a tokenizer, problems. By default it is in checkpoints/, data/ or
                        here: a reader's run changes no file of the course; only benchmark.py writes to its chapter
    --grid G [G ...]    sizes of a KAN's grid, one after the other
    --seconds S         of training, for each that is trained
"""

import argparse
import errno
import math
import os
import sys
from io import TextIOWrapper
from pathlib import Path

CHECKPOINTS = Path(__file__).resolve().parent

# The eight numbers that stand at the end of the original's command line: type, and what they mean.
NUMBERS = {
    "embedding_size": (int, "width of the model: numbers per token"),
    "batch_size": (int, "sequences per training step"),
    "block_size": (int, "tokens per sequence: the context length"),
    "learning_rate": (float, "of the optimizer, at its highest"),
    "steps": (int, "training steps"),
    "head_count": (int, "attention heads per layer"),
    "layer_count": (int, "transformer blocks"),
    "dropout": (float, "share of activations zeroed in training"),
}
SIZES = {"embedding_size", "block_size", "head_count", "layer_count"}  # those that a checkpoint fixes


class UserError(Exception):
    """A mistake that the user can mend; the message is one line and says how."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows every default but None."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    def __init__(self, description, **settings):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False, **settings)
        self.checkpointed = {}  # flags that a checkpoint can answer, and their defaults where there is none

    def error(self, message):
        """One line, without the usage text: `-h` is there for that."""
        fail(f"{message} (-h lists the flags)")

    def parse(self, words=None):
        """Parse the command line; of what a checkpoint can answer, `typed` in the result holds what was given.

        Numbers may stand between flags. The word after --no_train is taken only if it is True or False.
        """
        words = list(sys.argv[1:] if words is None else words)
        for i, word in enumerate(words):
            if word == "--no_train":
                answer = words.pop(i + 1) if words[i + 1 : i + 2] in (["True"], ["False"]) else "True"
                words[i] = f"--no_train={answer}"
        args = self.parse_intermixed_args(words)
        args.typed = {name: getattr(args, name) for name in self.checkpointed if getattr(args, name) is not None}
        for name, default in self.checkpointed.items():
            setattr(args, name, args.typed.get(name, default))
        for seed in [getattr(args, "seed", 0), *getattr(args, "seeds", [])]:
            if not 0 <= seed < 2**63:
                self.error(f"seed {seed} must be 0 or more, and less than 2^63")
        return args


def shown(path):
    """A path as short as it can be said from here."""
    return min(str(path), os.path.relpath(path), key=len) if Path(path).anchor == Path.cwd().anchor else str(path)


def fail(message):
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(2)


def run(main):
    """Call a script's main(); the user's own mistakes end in one line and exit status 2."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console that lacks a character shows a question mark
    try:
        main()
    except UserError as error:
        fail(" ".join(str(error).split()))
    except OSError as error:
        windows = os.name == "nt" and error.errno == errno.EINVAL and not error.filename
        if isinstance(error, BrokenPipeError) or windows:  # `... | head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        fail(f"{error.strerror or error}: {error.filename or 'no file'}; check that it can be read and written")
    except KeyboardInterrupt:
        print(f"\n{Path(sys.argv[0]).name}: stopped", file=sys.stderr)
        sys.exit(130)


def training_flags(parser, tokenizer="tokenizer", data="pydocs", save="no file", **numbers):
    """Add the training flags, and those of the eight numbers that are given with their defaults."""
    text_flags(parser, tokenizer, data)
    group = parser.add_argument_group("checkpoints")
    group.add_argument("-l", "--load_model", metavar="PATH", default="untrained",
                       help="checkpoint to go on from: an unfinished run where it stopped, a finished one from step 0")
    group.add_argument("-s", "--save_model", metavar="PATH", default="default",
                       help=f"'default' is where it was loaded from, or {save} when untrained;"
                            " 'no_save' keeps nothing")
    machine_flags(parser)
    number_flags(parser, numbers)


def text_flags(parser, tokenizer="tokenizer", data="pydocs"):
    """Add the flags of what is read, and in which tokens."""
    group = parser.add_argument_group("text and tokens")
    group.add_argument("-t", "--tokenizer", choices=["tokenizer", "tiktoken", "char"],
                       help="our own byte-pair encoding, OpenAI's, or one token per character;"
                            f" a checkpoint knows its own (default: {tokenizer})")
    group.add_argument("-m", "--tokenizer_model", metavar="MODEL",
                       help="path of a trained tokenizer, or a tiktoken encoding such as o200k_base"
                            " (default: o200k_base, or a tokenizer trained on the data)")
    group.add_argument("-d", "--data", default=data,
                       help="name of a corpus (python data/corpora.py lists them), text file, folder of text files,"
                            " or folder of prepared tokens")
    parser.checkpointed |= {"tokenizer": tokenizer, "tokenizer_model": None}


def number_flags(parser, numbers):
    """Add those of the eight numbers that are given, with their defaults."""
    group = parser.add_argument_group("numbers, in this order, all optional")
    for name, default in numbers.items():
        kind, meaning = NUMBERS[name]
        group.add_argument(name, nargs="?", type=kind, help=f"{meaning} (default: {default})")
    parser.checkpointed |= numbers


def true_or_false(word):
    if word not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"'{word}' is neither True nor False")
    return word == "True"


def no_train_flag(parser):
    parser.add_argument("--no_train", type=true_or_false, default=False, metavar="[True|False]",
                        help="only generate; alone it means True")


def machine_flags(parser, seed=True):
    """Add the flags of where it runs, and of chance, unless nothing is left to that or --seeds says more."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", default="auto", help="auto is cuda, else mps, else cpu")
    group.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto",
                       help="auto is bfloat16 where the hardware multiplies it faster")
    if seed:
        group.add_argument("--seed", type=int, help="the same seed gives the same numbers (default: 1337)")
        parser.checkpointed["seed"] = 1337


def check_numbers(args):
    """Raise UserError for a value that no model can have, naming the cure."""
    for name in NUMBERS.keys() & vars(args).keys():
        value = getattr(args, name)
        if name == "dropout" and not 0 <= value < 1:
            raise UserError(f"dropout {value} must be at least 0 and less than 1")
        if name != "dropout" and not 0 < value < math.inf:
            raise UserError(f"{name} {value} must be more than 0")
    if {"embedding_size", "head_count"} <= vars(args).keys() and args.embedding_size % args.head_count:
        raise UserError(f"embedding_size {args.embedding_size} must be divisible by head_count {args.head_count}")


def check_ranges(args, **ranges):
    """Raise UserError for a number that is too small, `samples=1` is at least 1, or too large, `share=(0, 1)`.

    What was not given, None, is in every range, and no infinity in any.
    """
    for name, limits in ranges.items():
        least, most = limits if isinstance(limits, tuple) else (limits, math.inf)
        value, limit = getattr(args, name), f" and at most {most}" if most < math.inf else ""
        if value is not None and not (least <= value <= most and value < math.inf):
            raise UserError(f"{name} {value} must be at least {least}{limit}")


def take_numbers(args, config, run, path):
    """Take from a checkpoint the numbers that were not typed; raise UserError if typed sizes contradict it."""
    for name in SIZES & config.keys():
        if args.typed.get(name, config[name]) != config[name]:
            raise UserError(f"{name} {args.typed[name]} contradicts {path}, which has {config[name]}: give that, or"
                            " another -l")  # not "leave it out": the numbers behind it would move up
        setattr(args, name, config[name])
    for name in (NUMBERS.keys() | {"seed"}) & run.keys():
        setattr(args, name, args.typed.get(name, run[name]))


def checkpoint_paths(args, default, real_weights=False):
    """What -l and -s mean: (the file to load or None, the file to save to or None).

    With `real_weights`, -l names no checkpoint of ours: nothing is ever saved there.
    """
    load = None if args.load_model == "untrained" or real_weights else Path(args.load_model)
    if args.save_model == "no_save":
        save = None
    else:
        save = (load or Path(default)) if args.save_model == "default" else Path(args.save_model)
    if load and not load.exists():
        if args.save_model != args.load_model:
            raise UserError(f"no checkpoint {load}: to begin a new one there add '-s {load}', else leave out -l")
        print(f"{load} does not exist yet: starting untrained")
        load = None
    if save:  # better now than after an hour of training
        try:
            save.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't write to {save}: {error.strerror}; give another path with -s") from error
        if save.is_dir() or not os.access(save.parent, os.W_OK):
            raise UserError(f"can't write to {save}: give -s the name of a file in a folder that can be written to")
        if save.exists() and save != load:
            with open(save, "rb") as file:
                if file.read(2) != b"PK":  # torch's files are zip archives
                    raise UserError(f"{save} is there, and no checkpoint: give another path with -s")
    return load, save


def choose_device(name):
    import torch

    if name == "auto":  # processes of torchrun can't speak to each other on Apple's GPU
        mps = torch.backends.mps.is_available() and "RANK" not in os.environ
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"no device '{name}' here: use --device auto") from error
    return torch.device(name)


def choose_dtype(name, device, embedding_size):
    """bfloat16 where it pays: on CUDA, and for wide models on processors with matrix units (AMX)."""
    import torch

    if name == "auto":
        processor = Path("/proc/cpuinfo")
        amx = device.type == "cpu" and processor.exists() and "amx_bf16" in processor.read_text(encoding="utf-8")
        cuda = device.type == "cuda" and torch.cuda.is_bf16_supported()
        name = "bfloat16" if cuda or (amx and embedding_size >= 256) else "float32"
    return getattr(torch, name)


def check_compiler(device):
    """Raise UserError where torch.compile can't compile anything."""
    import torch

    try:  # something small tells within seconds
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except RuntimeError as error:
        raise UserError("--compile finds no C++ compiler that torch.compile can use: install one (Linux: g++, macOS:"
                        " clang, Windows: Visual C++), or leave out --compile: the result is the same") from error
