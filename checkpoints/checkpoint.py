"""A checkpoint: one file with the weights, the configuration, the tokenizer and how far training came.

It holds nothing but tensors, numbers, strings, lists and dicts, so that loading one runs no code.
"""

import sys
from pathlib import Path

import torch
from atomic import replacing
from filelock import FileLock
from flags import UserError, shown

FORMAT = "llm-from-scratch checkpoint 2"


def save(path, kind, **contents):
    """Write e.g. save("my.pt", "gpt", model=model.state_dict(), config={...}, step=100), whole or not at all."""
    with replacing(path) as beside:
        try:
            torch.save({"format": FORMAT, "kind": kind, **contents}, beside)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OSError(f"{error}".splitlines()[0]) from error


def load(path, *kinds):
    """What `save` was given, with tensors on the CPU. Raises UserError if it is none, or not of these kinds."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}: train one first, or give another path with -l")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no exception of its own for a broken file
        raise UserError(f"{path} is damaged or no checkpoint: train one, or give another path with -l") from error
    name = contents.get("format") if isinstance(contents, dict) else None
    if isinstance(name, str) and name.startswith(FORMAT[:-1]) and name != FORMAT:
        raise UserError(f"{path} was written by an older version of this course: train it again, or give another")
    if name != FORMAT:
        raise UserError(f"{path} is no checkpoint of this course: train one with 03_gpt/lm_model.py")
    if kinds and contents["kind"] not in kinds:
        cure = "merge it first (04_training/merge.py), or give" if contents["kind"] == "adapters" else "give"
        raise UserError(f"{path} holds a model of the kind {contents['kind']!r}, not {kinds[0]!r}: {cure} another with"
                        " -l")
    return contents


def tell_unfinished(loaded, path):
    """Print how far the run of a loaded checkpoint came, if it was stopped."""
    if not loaded["progress"]["finished"]:
        print(f"{shown(path)} is unfinished: step {loaded['progress']['step']:,} of {loaded['run']['steps']:,}")


def is_finished(path, *kinds):
    """Whether a checkpoint is there whose run was not stopped; one without a progress was written at the end."""
    return path.exists() and load(path, *kinds).get("progress", {"finished": True})["finished"]


def ensured(path, train, *kinds, first="training it first"):
    """The path of a checkpoint; if there is none, `train` makes it now, called with the flags that say where.

    With `kinds`, a run of theirs that was stopped goes on first; without, what it left is taken as it is.
    """
    with FileLock(f"{path}.lock"):  # a second script waits for the first one's training
        if not (is_finished(path, *kinds) if kinds else path.exists()):
            print(f"no{' finished' if path.exists() else ''} {shown(path)} yet: {first}")
            if train([*(["-l", str(path)] if path.exists() else []), "-s", str(path)]) is None:
                sys.exit(130)
    return path

