"""The named corpora, cleaning, and any text of the reader's own."""

import gzip
import io
import json
import subprocess
import sys
import tarfile

import corpora
import pydocs
import pytest
import reading
from corpora import END_OF_TEXT
from download import checksum
from flags import UserError
from for_tests import refuse, shared, succeed


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data/ folder."""
    monkeypatch.setattr(corpora, "DATA", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(("name", "characters", "documents", "begins"), [
    ("tinyshakespeare", 1_115_394, 1, "First Citizen:\nBefore we proceed"),
    ("tinystories", None, 2317, "One day, a little girl named Lily"),
    ("wikitext-2/valid.txt", None, 1, "\n= Homarus gammarus =\n"),
    ("gsm8k", None, 7473, "Question: Natalia sold clips to 48 of her friends"),
    ("gsm8k/test.jsonl", None, 1319, "Question: Janet"),
    ("mmlu", None, 100, "Question: "),
    ("mmlu/dev/formal_logic_dev.csv", None, 5, "Question: "),
])
def test_named_corpora_from_a_mirror(home, name, characters, documents, begins):
    mirror = str(shared("MANIFEST.md").parent)
    corpora.find(name, mirror)
    text = corpora.load(name)
    assert text.startswith(begins) and (characters is None or len(text) == characters)
    assert text.count(END_OF_TEXT) == documents - 1
    pieces = list(corpora.pieces(name))
    assert pieces.count(END_OF_TEXT) == documents and pieces[-1] == END_OF_TEXT
    assert f"{END_OF_TEXT}\n" not in text, "a story must not begin with an empty line"


def test_every_checksum_of_the_table_is_that_of_the_real_file():
    for name, corpus in corpora.CORPORA.items():
        for source in corpus.sources:
            if source.sha256:
                file = shared(f"{name}/{source.file}")
                assert (checksum(file), file.stat().st_size) == (source.sha256, source.size)


def test_archives(home, tmp_path, monkeypatch):
    """MMLU comes as one tar of which only the wanted names are written; OpenWebText as a tar of tars."""
    def tar(files, mode):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    wanted = shared("mmlu/dev/formal_logic_dev.csv").read_bytes()
    (home / "mmlu").mkdir(parents=True)
    files = {"../evil.txt": b"evil", "data/dev/formal_logic_dev.csv": wanted}
    (home / "mmlu" / "data.tar").write_bytes(tar(files, "w"))
    assert corpora.load("mmlu/dev/formal_logic_dev.csv").startswith("Question: ")
    assert not (home.parent / "evil.txt").exists() and not (home / "evil.txt").exists()
    with pytest.raises(UserError, match="has no"):
        corpora.load("mmlu/dev/college_mathematics_dev.csv")
    name = "mmlu/test/formal_logic_test.csv"
    wrong = tar({"data/test/formal_logic_test.csv": b"x"}, "w")
    for content, complaint in ((wrong, "bytes instead"), (b"<html>", "damaged")):
        (home / "mmlu" / "data.tar").write_bytes(content)
        with pytest.raises(UserError, match=complaint):
            corpora.load(name)
        assert not (home / name).exists()

    inner = tar({"one.txt": "première page".encode(), "two.txt": b"second page\n\n"}, "w:xz")
    (home / "openwebtext").mkdir()
    whole, path = tar({"openwebtext-10k/10k.xz": inner}, "w:xz"), home / "openwebtext" / "openwebtext-10k.tar.xz"
    path.write_bytes(whole)
    assert corpora.load("openwebtext") == f"première page\n{END_OF_TEXT}second page\n"
    for damaged in (whole[:100] + b"\xff" * 20 + whole[120:], tar({"openwebtext-10k/10k.xz": b"x"}, "w:xz")):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged or no archive"):
            corpora.load("openwebtext")


def test_conversations_as_plain_text(home, tmp_path):
    """Dolly and HH-RLHF, whose files are not at hand, in small files of the same layout."""
    mirror = tmp_path / "mirror"
    for name in ("dolly", "hh-rlhf"):
        (mirror / name).mkdir(parents=True)
    dolly = [{"instruction": "Who?", "context": "", "response": "I.\n", "category": "open_qa"},
             {"instruction": "Sum up.", "context": "Some text.", "response": "Ü.", "category": "summarization"}]
    lines = "".join(json.dumps(record) + "\n" for record in dolly)
    (mirror / "dolly" / "databricks-dolly-15k.jsonl").write_text(lines, encoding="utf-8")
    corpora.find("dolly", str(mirror))
    assert corpora.load("dolly") == f"Who?\n\nI.\n{END_OF_TEXT}Sum up.\n\nSome text.\n\nÜ.\n"

    talk = "\n\nHuman: Hi?\n\nAssistant: "
    whole = gzip.compress((json.dumps({"chosen": f"{talk}Hello.", "rejected": f"{talk}What?"}) + "\n").encode() * 2)
    for file in ("train.jsonl.gz", "test.jsonl.gz"):
        (mirror / "hh-rlhf" / file).write_bytes(whole)
        corpora.find(f"hh-rlhf/{file}", str(mirror))
        assert corpora.load(f"hh-rlhf/{file}") == END_OF_TEXT.join(["Human: Hi?\n\nAssistant: Hello.\n"] * 2)
    damaged = (whole[:-12], b"<html>", gzip.compress(b"{}\n"), gzip.compress(b'{"chosen": null}\n'),
               whole[:20] + b"\xff" * 20 + whole[40:])
    for content in damaged:
        (home / "hh-rlhf" / "train.jsonl.gz").write_bytes(content)
        with pytest.raises(UserError, match="train.jsonl.gz is damaged: delete it and try again"):
            corpora.load("hh-rlhf")


def test_cleaning():
    lines = ["a 1 @,@ 000 @-@ metre <unk> .\n"]
    assert list(reading.clean_wikitext(lines)) == ["a 1,000-metre [...] .\n"]
    assert list(reading.clean_wikitext([" = Title = \n"])) == ["= Title =\n"]
    start, end = "*** START OF THE PROJECT GUTENBERG EBOOK\n", "*** END OF THIS PROJECT GUTENBERG EBOOK\n"
    book = ["Licence\n", start, "Call me\n", "Ishmael.\n", end, "small print\n"]
    assert list(reading.clean_gutenberg(book * 2)) == ["Call me\n", "Ishmael.\n"] * 2
    for other in (["my log\n", "*** END OF PHASE 1\n", "rest\n"], ["a\n", end, "b\n"]):
        assert "".join(reading.clean_gutenberg(other)).startswith(other[0]), "that was no book's head"
    two = list(reading.clean_gutenberg([*book, f"{END_OF_TEXT}\n", "Another text.\n"]))
    assert two == ["Call me\n", "Ishmael.\n", f"{END_OF_TEXT}\n", "Another text.\n"]
    plain = [f"{i}\n" for i in range(3000)]
    assert list(reading.clean_gutenberg(plain)) == plain and list(reading.clean_gutenberg(plain[:5])) == plain[:5]


def test_pieces_join_to_the_text(home, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 100)
    path = tmp_path / "a.txt"
    text = "".join(f"line {i}\n" for i in range(200))
    path.write_text(text, encoding="utf-8")
    pieces = list(corpora.pieces(path))
    assert pieces[-1] == END_OF_TEXT and "".join(pieces[:-1]) == text and len(pieces) > 10
    path.write_text("Строка текста\n" * 200, encoding="utf-8")
    assert max(map(len, corpora.pieces(path))) < 200
    corpora.find("wikitext-2/valid.txt", str(shared("MANIFEST.md").parent))
    monkeypatch.setattr(reading, "PIECE", 10_000)
    assert max(map(len, corpora.pieces("wikitext-2/valid.txt"))) < 40_000


def test_texts_of_ones_own(home, tmp_path):
    with pytest.raises(UserError, match="no text in the folder"):
        corpora.load(tmp_path)
    (tmp_path / "b.md").write_text("second\n", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("first\r\nline\n", encoding="utf-8")
    (tmp_path / "sub" / "c.txt").write_text("third", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\xff")
    assert corpora.load(tmp_path) == f"first\nline\n{END_OF_TEXT}second\n{END_OF_TEXT}third"
    before = corpora.fingerprint(tmp_path)
    (tmp_path / "b.md").write_text("changed\n", encoding="utf-8")
    assert corpora.fingerprint(tmp_path) != before
    (tmp_path / "a.txt").write_text(" \n\n", encoding="utf-8")
    with pytest.raises(UserError, match="is empty"):
        corpora.load(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="save it as UTF-8"):
        corpora.load(tmp_path / "a.txt")
    with pytest.raises(UserError, match="no corpus 'shakespeare': choose from pydocs"):
        corpora.load("shakespeare")


@pytest.mark.slow
def test_pydocs_is_real_deterministic_and_imports_nothing():
    documents = pydocs.documents()
    size = sum(map(len, documents))
    assert 1_000_000 < size < 4_000_000 and len(documents) == len(set(documents)) > 3000
    assert any(text.startswith("textwrap.dedent\n\nRemove any common leading whitespace") for text in documents)
    assert any(text.startswith('The "with" statement') or "with_stmt" in text for text in documents)
    program = f"import sys; sys.path[:0] = {sys.path!r}; import hashlib, pydocs\n" \
              "before = set(sys.modules); text = ''.join(pydocs.documents())\n" \
              "print(hashlib.sha256(text.encode()).hexdigest(), sorted(set(sys.modules) - before))"
    first, second = (subprocess.check_output([sys.executable, "-c", program], encoding="utf-8") for _ in range(2))
    assert first == second, "two runs must give the same text"
    modules = first.split(" ", 1)[1]
    assert "tkinter" not in modules and "turtle" not in modules, f"source must be parsed, not imported: {modules}"


def test_repetitions_are_dropped():
    long = "one paragraph\n\nanother paragraph\n\na third"
    assert pydocs.without_repetitions([long, "another paragraph\n\na third", "new\n\na third paragraph"]) == [
        long, "new\n\na third paragraph",
    ]


def test_script(tmp_path):
    assert "not verified" in succeed("data/corpora.py") and "tinystories" in succeed("data/corpora.py")
    assert "no corpus 'x'" in refuse("data/corpora.py", "x")
    assert "pydocs: " in succeed("data/corpora.py", "pydocs")
