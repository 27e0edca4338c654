"""The three tokenizers behind one interface, held against tiktoken where it has an answer."""

import random

import pytest
import tiktoken
import tokenizer as tokenizers
from flags import UserError
from for_tests import tiktoken_vocabularies
from tokenizer import END_OF_TEXT, BPETokenizer, CharTokenizer
from word_patterns import PATTERNS, cut

TEXT = "It's 12345 o'clock, said the Cat;   the hat said NOTHING.\n\n\tÄrger über 北京 🙂!  \n" * 20


@pytest.fixture(scope="module")
def trained():
    made = BPETokenizer(special_tokens=(END_OF_TEXT, "<|pause|>", "<|pause|> twice"))
    made.train(TEXT, vocab_size=300)
    return made


@pytest.fixture(scope="module")
def openai(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    patch = pytest.MonkeyPatch()
    for name, value in tiktoken_vocabularies(folder).items():
        patch.setenv(name, value)
    yield tiktoken.get_encoding
    patch.undo()


def random_strings(count, seed=0):
    generator = random.Random(seed)
    alphabet = "aB é'sT1 \n\t\r.,!ßЖ北🙂\u200d\u00a0\u0300İſ\x1c\x1f\x85" + "".join(map(chr, range(32, 127)))
    for _ in range(count):
        yield "".join(generator.choices(alphabet, k=generator.randint(0, 40)))


def test_round_trip(trained):
    for text in (TEXT, "", "never seen: ÿ\x00𝔘", *random_strings(500)):
        assert trained.decode(trained.encode(text)) == text


def test_vocab_size_counts_everything(trained):
    assert trained.vocab_size == len(trained.vocab) == 300
    assert trained.end_of_text == 297
    assert max(trained.encode(TEXT)) < 297


@pytest.mark.parametrize("pattern", PATTERNS)
def test_words_are_cut_as_tiktoken_cuts_them(pattern, openai):
    encoding = openai(pattern)
    ascii_only = (text.encode("ascii", "ignore").decode() for text in random_strings(2000, seed=1))
    mixed = ("First line.\nSecond line: é\nThird \n Fourth\n\nFifth\x1c\x1f \n", *ascii_only, *random_strings(2000))
    for text in (TEXT, *mixed):
        words = cut(pattern, text)
        assert "".join(words) == text
        ours = [i for word in words for i in encoding._encode_single_piece(word)]
        assert ours == encoding.encode_ordinary(text), f"{pattern} cuts {text!r} elsewhere"


def test_encoding_equals_tiktokens_with_our_merges(trained):
    """tiktoken, given our vocabulary as its ranks, must give our ids."""
    ranks = {token: i for i, token in trained.vocab.items() if i < 297}
    theirs = tiktoken.Encoding(
        "ours", pat_str=PATTERNS["cl100k_base"], mergeable_ranks=ranks, special_tokens=trained.special_tokens
    )
    for text in (TEXT, *random_strings(2000)):
        assert trained.encode(text) == theirs.encode(text)
    text = f"a{END_OF_TEXT}b<|pause|>c"
    for allowed in ("all", {END_OF_TEXT}, set()):
        assert trained.encode(text, allowed, disallowed_special=()) == theirs.encode(
            text, allowed_special=allowed, disallowed_special=()
        )


def test_special_tokens_are_not_read_out_of_text_unawares(trained):
    with pytest.raises(ValueError, match="special token"):
        trained.encode(f"a {END_OF_TEXT}")
    assert trained.encode(END_OF_TEXT, allowed_special="all") == [trained.end_of_text]
    assert trained.encode("<|pause|> twice", allowed_special="all") == [299], "the longest special token wins"
    assert len(trained.encode(END_OF_TEXT, disallowed_special=())) > 1


def test_save_and_load_exactly(trained, tmp_path):
    trained.save(tmp_path / "t.json")
    loaded = BPETokenizer.load(tmp_path / "t.json")
    assert loaded.state() == trained.state() and loaded.vocab == trained.vocab
    assert tokenizers.from_state(trained.state()).encode(TEXT) == trained.encode(TEXT)


def test_characters(tmp_path):
    chars = CharTokenizer("hello\n")
    assert chars.encode("hole") == [2, 4, 3, 1] and chars.decode([2, 4, 3, 1]) == "hole"
    assert chars.vocab_size == 6 and chars.decode([chars.end_of_text]) == END_OF_TEXT
    with pytest.raises(UserError, match="'z'"):
        chars.encode("z")
    chars.save(tmp_path / "c.json")
    assert tokenizers.load_tokenizer("char", tmp_path / "c.json").characters == chars.characters
    with pytest.raises(UserError, match="-t char"):
        tokenizers.load_tokenizer("tokenizer", tmp_path / "c.json")


def test_tiktoken_behind_the_same_interface(openai):
    o200k = tokenizers.load_tokenizer("tiktoken", "o200k_base")
    assert o200k.encode("hello world") == [24912, 2375] and o200k.vocab_size == 200019
    assert o200k.decode([o200k.end_of_text]) == END_OF_TEXT


def test_tiktoken_without_network_or_name_says_the_cure(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="choose -m from"):
        tokenizers.TiktokenTokenizer("o300k_base")

    def no_network(name):
        raise OSError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", no_network)
    with pytest.raises(UserError, match="TIKTOKEN_CACHE_DIR"):
        tokenizers.TiktokenTokenizer("cl100k_base")


def test_bad_settings_and_files_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="at least 257"):
        BPETokenizer().train("text", vocab_size=256)
    with pytest.raises(ValueError, match="cl100k_base"):
        BPETokenizer(pattern="gpt5")
    with pytest.raises(UserError, match="no tokenizer"):
        BPETokenizer.load(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text('{"kind": ', encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        BPETokenizer.load(tmp_path / "broken.json")
