"""Results as JSON lines, a record each, kept as they come: what was measured before a crash is not measured again."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError


def read_lines(path):
    """The records of a file, none if it is not there. A last line without its end was cut off, and is not read.

    Raises UserError if a line is no JSON.
    """
    path = Path(path)
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    try:
        return [json.loads(line) for line in whole.decode("utf-8").split("\n")] if whole else []
    except ValueError as error:
        raise UserError(f"{path} is no file of results, or damaged: name another, or move it away") from error


def add_lines(path, records):
    """Add records in one write, so that others see all of them or none, and see that they reach the disk.

    A last line that was cut off goes first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        file.seek(max(file.tell() - 1, 0))
        if file.read(1) not in (b"", b"\n"):
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        file.write(lines.encode("utf-8", errors="replace"))
        file.flush()
        os.fsync(file.fileno())


def measured_once(path, what, measure):
    """The record of `what` in a file; if there is none yet, what `measure()` returns is added to `what`, and kept.

    `what` says all that the result depends on, in numbers, strings, lists and dicts.
    """
    for record in read_lines(path):
        if record["what"] == what:
            return record
    add_lines(path, [{"what": what, **measure()}])
    return read_lines(path)[-1]
