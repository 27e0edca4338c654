"""Files to pieces of text: how lines are cleaned, read and joined, with END_OF_TEXT after each document."""

import csv
import gzip
import io
import json
import lzma
import re
import sys
import tarfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError

END_OF_TEXT = "<|endoftext|>"
PIECE = 1 << 20  # characters read at a time


# ---- cleaning: lines in, lines out ----


def clean_wikitext(lines):
    """Undo what the makers of WikiText did to numbers and rare words: "1 @,@ 000 <unk>" -> "1,000 [...]"."""
    for line in lines:
        yield re.sub(r" @(.)@ ", r"\1", line).replace("<unk>", "[...]").strip(" \n") + "\n"


def clean_gutenberg(lines):
    """Leave out Project Gutenberg's licence, above "*** START OF" and below "*** END OF"."""
    head, book = [], False  # the lines so far, while they may be a licence; whether a book has begun
    for line in lines:
        marker = re.match(r"\*\*\* ?(START|END) OF (THE|THIS) PROJECT GUTENBERG", line)
        if line.startswith(END_OF_TEXT):  # another document, perhaps no book
            if head and not book:
                yield from head
            yield line
            head, book = [], False
        elif marker and marker[1] == "START":
            head, book = None, True
        elif marker and book:
            head = []  # the licence's end, and perhaps the next book's head
        elif head is None:
            yield line
        elif len(head) == 1000 and not book:  # no licence is as long as that
            yield from head
            yield line
            head = None
        else:
            head.append(line)
    if head and not book:
        yield from head


# ---- reading: a path in, pieces of text out ----


def lines_of(path):
    try:
        with (gzip.open if Path(path).suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is damaged: delete it and try again") from error


def in_pieces(lines):
    """Join lines to pieces of about PIECE characters.

    A piece ends with a line that has no space at its end, where the next one begins with a letter:
    no tokenizer joins the two sides of that, so that the pieces' tokens are the whole text's.
    """
    piece, size = [], 0
    for line in lines:
        if size >= PIECE and piece[-1][-2:-1].strip() and line[0].isalpha():
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield "".join(piece)


def read_text(path, clean=clean_gutenberg):
    last = END_OF_TEXT
    for piece in in_pieces(clean(lines_of(path))):
        for part in re.split(f"({re.escape(END_OF_TEXT)})\n*", piece):
            if part and not part == last == END_OF_TEXT:
                yield part
                last = part
    if last != END_OF_TEXT:
        yield END_OF_TEXT


def read_wikitext(path):
    return read_text(path, clean_wikitext)


def fields(path, *names):
    """Yield these fields of each line of a published JSONL file, all of them text."""
    for line in lines_of(path):
        try:
            record = json.loads(line)
            found = [record[name] for name in names]
            if not all(isinstance(text, str) for text in found):
                raise ValueError("not text")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: delete it and try again") from error
        yield found


def read_gsm8k(path):
    for question, answer in fields(path, "question", "answer"):
        yield f"Question: {question}\nAnswer: {answer}\n"
        yield END_OF_TEXT


def read_dolly(path):
    for instruction, context, response in fields(path, "instruction", "context", "response"):
        yield "\n\n".join(filter(None, (instruction.strip(), context.strip(), response.strip()))) + "\n"
        yield END_OF_TEXT


def read_hh(path):
    """The conversations that people preferred."""
    for (chosen,) in fields(path, "chosen"):
        yield chosen.strip() + "\n"
        yield END_OF_TEXT


def read_mmlu(path):
    for question, *choices, answer in filter(None, csv.reader(lines_of(path))):
        listed = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", choices))
        yield f"Question: {question}\n{listed}Answer: {answer}\n"
        yield END_OF_TEXT


def read_archive(path):
    """Every .txt in a tar of tars, however they are compressed."""

    def texts(file):
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content and member.name.endswith(".txt"):
                    yield content.read().decode("utf-8", errors="replace")
                elif content and member.name.endswith((".xz", ".tar", ".gz")):
                    yield from texts(io.BytesIO(content.read()))

    try:
        with open(path, "rb") as file:
            for text in texts(file):
                yield text.strip() + "\n"
                yield END_OF_TEXT
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise UserError(f"{path} is damaged or no archive: delete it and try again") from error
