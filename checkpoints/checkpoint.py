"""A checkpoint: one file with the weights, the configuration, the tokenizer and how far training came.

It holds nothing but tensors, numbers, strings, lists and dicts, so that loading one runs no code.
"""

from pathlib import Path

import torch
from atomic import replacing
from flags import UserError

FORMAT = "llm-from-scratch checkpoint 1"


def save(path, kind, **contents):
    """Write e.g. save("my.pt", "gpt", model=model.state_dict(), config={...}, step=100), whole or not at all."""
    with replacing(path) as beside:
        try:
            torch.save({"format": FORMAT, "kind": kind, **contents}, beside)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OSError(f"{error}".splitlines()[0]) from error


def load(path, kind):
    """What `save` was given, with tensors on the CPU. Raises UserError if the file is no checkpoint of that kind."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}: train one first, or give another path with -l")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no exception of its own for a broken file
        raise UserError(f"{path} is damaged or no checkpoint: delete it and train again, or give another") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of this course: train one with 03_gpt/lm_model.py")
    if contents["kind"] != kind:
        raise UserError(f"{path} holds a model of the kind {contents['kind']!r}, not {kind!r}: give another with -l")
    return contents


def random_states():
    """The states of torch's random generators, to continue with the same dropout after a break."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states):
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
