"""The two files of a crawl, of which a kill at any moment leaves enough to go on from.

FILE holds the text, and END_OF_TEXT on a line of its own after each document. Beside it FILE's .jsonl holds one
line for each page that was asked for, after a first line that names the crawl. A page's text is written before its
line, and the line says how long FILE is by then: what stands behind that length was cut short, and goes.
"""

import json
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from flags import UserError, shown
from reading import END_OF_TEXT


def document(text):
    """A page's text as it stands in FILE; where the page itself speaks of the separator, it gets a space."""
    return f"{text.replace(END_OF_TEXT, END_OF_TEXT.replace('<|', '<| '))}\n{END_OF_TEXT}\n"


class Journal:
    """Open FILE and its .jsonl for one crawl: `lines` are those of an earlier run. Raises UserError if it may not."""

    def __init__(self, path, start):
        self.path, self.journal_path = Path(path), Path(path).with_suffix(".jsonl")
        if self.path.is_dir():
            raise UserError(f"{shown(self.path)} is a folder: give another -o, a file in it")
        if self.path == self.journal_path:
            raise UserError(f"{shown(path)}: the .jsonl is written beside the text, give -o a name that ends in .txt")
        self.cure = f"delete {shown(self.path)} and {shown(self.journal_path)}, or give another -o"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(f"{self.path}.lock", timeout=0)
            self.lock.acquire()
            begun = self.journal_path.exists() and self.journal_path.stat().st_size > 0
            if not begun and self.path.exists() and self.path.stat().st_size:
                raise UserError(f"{shown(self.path)} exists, and is from no crawl: delete it, or give another -o")
            self.text_file, self.journal_file = self.path.open("ab"), self.journal_path.open("ab+")
        except Timeout as error:
            raise UserError(f"another crawl writes {shown(self.path)} now: wait for it, or give another -o") from error
        except OSError as error:
            raise UserError(f"can't write {shown(self.path)}: {error.strerror}; give another -o") from error
        self.first = {"crawl": start, "text": self.path.name}
        self.lines = self.read() if begun else []
        self.length = self.lines[-1]["length"] if self.lines else 0
        if self.text_file.tell() < self.length:
            raise UserError(f"{shown(self.path)} is shorter than its .jsonl says: {self.cure}")
        self.text_file.truncate(self.length)

    def read(self):
        """The lines of an earlier run; a last one that was cut short goes."""
        self.journal_file.seek(0)
        whole = self.journal_file.read().rpartition(b"\n")[0]
        self.journal_file.truncate(len(whole) + 1 if whole else 0)
        self.journal_file.seek(0, os.SEEK_END)
        try:
            first, *lines = [json.loads(line) for line in whole.split(b"\n")] if whole else [self.first]
            started, text = first["crawl"], first["text"]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{shown(self.journal_path)} is damaged: {self.cure}") from error
        if started != self.first["crawl"]:
            raise UserError(f"{shown(self.path)} holds a crawl of {started}: {self.cure}")
        if text != self.path.name:
            raise UserError(f"{shown(self.journal_path)} belongs to {text}: give another -o")
        return lines

    def write(self, line, text=None):
        """Append a page's text, if it has one to keep, then its line."""
        if text is not None:
            self.length += self.text_file.write(document(text).encode("utf-8"))
            self.text_file.flush()
        before = [self.first] if not self.journal_file.tell() else []
        for each in (*before, {**line, "length": self.length}):
            self.journal_file.write(json.dumps(each, ensure_ascii=False).encode("utf-8") + b"\n")
        self.journal_file.flush()

    def forget(self):
        """Drop what was written."""
        self.text_file.truncate(0)
        self.journal_file.truncate(0)

    def close(self):
        """Let go of the files; a crawl that came to nothing leaves none."""
        nothing = not self.journal_path.stat().st_size
        self.text_file.close()
        self.journal_file.close()
        if nothing:
            self.path.unlink()
            self.journal_path.unlink()
        self.lock.release()
