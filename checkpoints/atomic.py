"""Files that are either whole or not there: what every script of the course writes with."""

import contextlib
import os
from pathlib import Path

from flags import UserError


@contextlib.contextmanager
def replacing(path):
    """Yield a path to write to instead; it takes the place of `path` when all went well, else it goes.

    A kill at any moment leaves the old file or the new one. Raises UserError if it can't be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def save_figure(figure, path):
    """Write a matplotlib figure as a PNG."""
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
