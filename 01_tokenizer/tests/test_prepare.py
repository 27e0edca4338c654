"""Text to tokens on disk: streamed in pieces, whole or not there, and the scripts of the chapter."""

import json
import random

import numpy as np
import prepare
import pytest
import reading
from flags import UserError
from for_tests import refuse, run, shared, succeed, tiktoken_vocabularies
from tokenizer import END_OF_TEXT, BPETokenizer, CharTokenizer
from tokenizer_state import trained_state


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 5_000)


@pytest.fixture
def shakespeare(tmp_path):
    text = shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:60_000]
    (tmp_path / "play.txt").write_text(text, encoding="utf-8")
    return tmp_path / "play.txt", text


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k_base", "o200k_base"])
def test_tokens_in_pieces_are_those_of_the_whole_text(shakespeare, tmp_path, pattern):
    path, text = shakespeare
    text += "".join(random.Random(0).choices("ab 1\n\n.'", k=60_000))
    path.write_text(text, encoding="utf-8")
    tokenizer = BPETokenizer(pattern)
    tokenizer.train(text, 500)
    prepare.prepare(path, tokenizer, tmp_path / "tokens")
    train, val, meta = prepare.open_tokens(tmp_path / "tokens")
    assert train.tolist() + val.tolist() == [*tokenizer.encode(text), tokenizer.end_of_text]
    assert meta["characters"] == len(text) and meta["documents"] == 1 and train.dtype == np.uint16
    assert len(val) == (len(train) + len(val)) // 10


def test_documents_are_closed_by_end_of_text(tmp_path):
    for i, text in enumerate(("first\n", "second\n", "third\n")):
        (tmp_path / f"{i}.txt").write_text(text, encoding="utf-8")
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz\n")
    prepare.prepare(tmp_path, tokenizer, tmp_path / "tokens")
    train, val, meta = prepare.open_tokens(tmp_path / "tokens")
    whole = [*train, *val]
    assert tokenizer.decode(whole) == f"first\n{END_OF_TEXT}second\n{END_OF_TEXT}third\n{END_OF_TEXT}"
    assert meta["documents"] == 3


def test_large_vocabularies_take_four_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("many characters", encoding="utf-8")
    tokenizer = CharTokenizer([*map(chr, range(97, 123)), " ", *map(chr, range(0x10000, 0x20000))])
    prepare.prepare(tmp_path / "a.txt", tokenizer, tmp_path / "tokens")
    train, _, meta = prepare.open_tokens(tmp_path / "tokens")
    assert meta["dtype"] == "uint32" and train[0] == ord("m") - ord("a") + 1


def test_a_folder_that_was_cut_short_is_refused(shakespeare, tmp_path):
    prepare.prepare(shakespeare[0], BPETokenizer(), tmp_path / "tokens")
    with (tmp_path / "tokens" / "train.bin").open("rb+") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=r"train\.bin has not the"):
        prepare.open_tokens(tmp_path / "tokens")


def test_a_failure_leaves_no_folder(tmp_path):
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        prepare.prepare(tmp_path / "latin.txt", BPETokenizer(), tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()


@pytest.mark.slow
def test_scripts(shakespeare, tmp_path):
    path, text = shakespeare
    out = succeed("01_tokenizer/train.py", "-d", path, "--vocab_size", 400, "-o", tmp_path / "t.json")
    assert "143 merges" in out and "bytes per token" in out
    tokenizer = BPETokenizer.load(tmp_path / "t.json")
    out = succeed("01_tokenizer/infer.py", "First Citizen", "-m", tmp_path / "t.json").splitlines()
    ids = tokenizer.encode("First Citizen")
    assert out[0].replace("|", "") == "First Citizen" and out[1].split() == [str(i) for i in ids]
    assert succeed("01_tokenizer/infer.py", "--decode", out[1], "-m", tmp_path / "t.json").strip() == "First Citizen"
    out = succeed("01_tokenizer/prepare.py", "-d", path, "-m", tmp_path / "t.json", "-o", tmp_path / "out")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text(encoding="utf-8"))
    assert f"{meta['train_tokens']:,} training" in out
    words = ("-d", path, "-m", tmp_path / "t.json", "-o", tmp_path / "out")
    assert "exists already" in refuse("01_tokenizer/prepare.py", *words)


@pytest.mark.slow
def test_mistakes_end_in_one_line(tmp_path):
    (tmp_path / "empty.txt").touch()
    assert "is empty" in refuse("01_tokenizer/train.py", "-d", tmp_path / "empty.txt")
    assert "no corpus 'shakespear'" in refuse("01_tokenizer/prepare.py", "-d", "shakespear")
    assert "at least 257" in refuse("01_tokenizer/train.py", "--vocab_size", 100)
    assert "no tokenizer" in refuse("01_tokenizer/infer.py", "-m", "missing.json")
    assert "ids from 0" in refuse("01_tokenizer/infer.py", "--decode", "99999999")


def test_train_shows_merges_and_stops_at_min_count(tmp_path):
    (tmp_path / "text.txt").write_text("ab ab ab cd cd ef\n", encoding="utf-8")
    words = ("-d", tmp_path / "text.txt", "-o", tmp_path / "tokenizer.json", "--processes", 2)
    out = succeed("01_tokenizer/train.py", *words, "--min_count", 2)
    assert "merge 1: 'a' + 'b' -> 'ab', 3 times" in out and "no other pair occurs 2 times" in out
    assert list(BPETokenizer.load(tmp_path).merges) == [(97, 98), (32, 99), (32, 256), (257, 100)]


def test_infer_shows_merges_and_tiktoken_beside_ours(tmp_path):
    environment = tiktoken_vocabularies(tmp_path)
    out = succeed("01_tokenizer/infer.py", "hello world", **environment).splitlines()
    assert "tiktoken's o200k_base:" in out and out[-2] == "24912 2375"
    out = succeed("01_tokenizer/infer.py", "hello world", **NO_NETWORK, TIKTOKEN_CACHE_DIR=str(tmp_path / "none"))
    assert "left out, since it is not on this machine" in out
    BPETokenizer.from_state(trained_state("gpt2", [(97, 98), (256, 99)], ["<|endoftext|>"])).save(tmp_path / "t.json")
    out = succeed("01_tokenizer/infer.py", "--merges", "-m", tmp_path / "t.json", "abcé").splitlines()
    assert out == ["a|b|c|\\xc3|\\xa9", "ab|c|\\xc3|\\xa9   (merge 1)", "abc|\\xc3|\\xa9   (merge 2)"]


def test_without_a_vocabulary_tiktoken_says_the_cure(tmp_path):
    line = refuse("01_tokenizer/infer.py", "-t", "tiktoken", TIKTOKEN_CACHE_DIR=str(tmp_path), **NO_NETWORK)
    assert "TIKTOKEN_CACHE_DIR" in line and "-t tokenizer" in line


def test_default_tokenizer_comes_without_another_script():
    process = run("01_tokenizer/infer.py", "the the")
    assert process.returncode == 0 and "2 tokens" in process.stdout, process.stderr


NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
