"""The tokenizers behind one interface, held against tiktoken where it has an answer."""

import numpy as np
import pytest
import regex
import tiktoken
import tokenizer as tokenizers
import word_tokenizer
from flags import UserError
from for_tests import oracle, random_strings
from tokenizer import END_OF_TEXT, BPETokenizer, CharTokenizer
from word_patterns import PATTERNS, STRETCH, words

TEXT = "It's 12345 o'clock, said the Cat;   the hat said NOTHING.\n\n\tÄrger über 北京 🙂!  \n" * 20


@pytest.fixture(scope="module")
def trained():
    made = BPETokenizer(special_tokens=(END_OF_TEXT, "<|pause|>", "<|pause|> twice"))
    made.train(TEXT, vocab_size=300)
    return made


def test_round_trip(trained):
    for text in (TEXT, "", "never seen: ÿ\x00𝔘", *random_strings(500)):
        assert trained.decode(trained.encode(text)) == text


def test_vocab_size_counts_everything(trained):
    assert trained.vocab_size == len(trained.vocab) == 300
    assert trained.end_of_text == 297
    assert max(trained.encode(TEXT)) < 297


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k_base", "o200k_base"])
def test_words_are_cut_as_tiktoken_cuts_them(pattern, openai):
    encoding = openai(pattern)
    ascii_only = (text.encode("ascii", "ignore").decode() for text in random_strings(2000, seed=1))
    mixed = ("First line.\nSecond line: é\nThird \n Fourth\n\nFifth\x1c\x1f \n", *ascii_only, *random_strings(2000))
    for text in (TEXT, *mixed, TEXT * (2 * STRETCH // len(TEXT))):
        cut = [word for some in words(pattern, text) for word in some]
        assert "".join(cut) == text
        ours = [i for word in cut for i in encoding._encode_single_piece(word)]
        assert ours == encoding.encode_ordinary(text), f"{pattern} cuts {text[:100]!r} elsewhere"


def test_letters_digits_and_spaces_are_those_of_tiktoken():
    """All code points: another Unicode version, in a newer `regex`, would cut some texts elsewhere."""
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    for name in (r"\p{L}", r"\p{N}", r"\s", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"):
        ranks = {bytes([byte]): byte for byte in range(256)}
        theirs = tiktoken.Encoding("class", pat_str=name, mergeable_ranks=ranks, special_tokens={})
        in_class = "".join(regex.findall(name, every))
        assert theirs.decode(theirs.encode_ordinary(every)) == in_class, f"is regex's Unicode newer? ({name})"


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
    assert trained.encode("a", allowed_special={"<|nobody's|>"}) == [97], "tiktoken ignores unknown names"
    with pytest.raises(ValueError, match="nobody"):
        trained.encode("<|nobody's|>", disallowed_special={"<|nobody's|>"})


def test_streaming_never_shows_half_a_character(trained):
    text = "nœ 日本 🙃!" * 3
    ids = trained.encode(text)
    assert len(ids) > len(text), "the test needs tokens within characters"
    pieces = list(trained.stream(ids))
    assert "".join(pieces) == text and "\ufffd" not in "".join(pieces) and len(pieces) > len(text) / 2
    for broken in ([0xC3], [0xE5, 0x8C, 65], [0xFF, 66], [0xF0, 0x9F, 0x99]):
        assert "".join(trained.stream(broken)) == trained.decode(broken), "what is no UTF-8 must come as U+FFFD"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "o200k_base"])
def test_offsets_equal_tiktokens(name, openai):
    ours, theirs = BPETokenizer.from_tiktoken(name), openai(name)
    for text in (TEXT, "", *random_strings(300)):
        ids = ours.encode(text)
        decoded, starts = theirs.decode_with_offsets(ids)
        spans = ours.offsets(ids)
        assert decoded == text and [start for start, _ in spans] == starts
        assert not spans or spans[-1][1] == len(text)


def test_offsets_equal_hugging_faces(trained, tmp_path):
    hugging_face = oracle("tokenizers")
    trained.save(tmp_path / "tokenizer.json")
    theirs = hugging_face.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (TEXT, *random_strings(300)):
        assert trained.offsets(trained.encode(text)) == theirs.encode(text).offsets


def test_batches_and_arrays_are_what_encode_gives(trained):
    texts = [TEXT, "", "one", *random_strings(40)]
    expected = [trained.encode(text) for text in texts]
    assert trained.encode_batch(texts) == expected
    assert trained.encode_batch(texts, processes=2) == expected
    for dtype in (np.uint16, np.uint32, np.int64):
        assert trained.pack(TEXT, dtype) == np.array(expected[0], dtype).tobytes()
    with pytest.raises(ValueError, match="special token"):
        trained.encode_batch([END_OF_TEXT], processes=2)
    assert trained.encode_batch([END_OF_TEXT], allowed_special="all") == [[trained.end_of_text]]


def test_the_cache_is_bounded(trained, monkeypatch):
    monkeypatch.setattr(word_tokenizer, "LARGEST_CACHE", 10)
    fresh = BPETokenizer.from_state(trained.state())
    assert fresh.encode(TEXT) == trained.encode(TEXT) and len(fresh.packed) == 10
    fresh.packed.clear()
    fresh.encode("x" * 500)
    assert not fresh.packed, "a word without an end must not stay in memory"


def test_the_state_of_an_older_checkpoint_is_refused_in_words():
    with pytest.raises(UserError, match="older version"):
        tokenizers.from_state({"kind": "tokenizer", "pattern": "gpt2", "special_tokens": [], "merges": [[97, 98]]})


def test_an_untrained_tokenizer_is_one_of_bytes():
    assert BPETokenizer().encode("hé") == [104, 0xC3, 0xA9] and BPETokenizer().vocab_size == 257


def test_an_unknown_id_is_named(trained):
    with pytest.raises(ValueError, match="5000 is no token"):
        trained.decode([5000])


def test_save_and_load_exactly(trained, tmp_path):
    trained.save(tmp_path / "é t.json")
    loaded = BPETokenizer.load(tmp_path / "é t.json")
    assert loaded.state() == trained.state() and loaded.vocab == trained.vocab
    assert list(loaded.special_tokens) == [END_OF_TEXT, "<|pause|>", "<|pause|> twice"]
    assert loaded.merges == trained.merges and list(loaded.merges) == list(trained.merges)
    assert tokenizers.from_state(trained.state()).encode(TEXT) == trained.encode(TEXT)


def test_characters(tmp_path):
    chars = CharTokenizer("hello\n")
    assert chars.encode("hole") == [2, 4, 3, 1] and chars.decode([2, 4, 3, 1]) == "hole"
    assert chars.vocab_size == 6 and chars.decode([chars.end_of_text]) == END_OF_TEXT
    with pytest.raises(UserError, match="'z'"):
        chars.encode("z")
    with pytest.raises(ValueError, match="-1 is no token"):
        chars.decode([-1])
    chars.save(tmp_path / "c.json")
    assert tokenizers.load_tokenizer("char", tmp_path / "c.json").characters == chars.characters
    with pytest.raises(UserError, match="kind 'char'"):
        tokenizers.load_tokenizer("tokenizer", tmp_path / "c.json")


def test_tiktoken_behind_the_same_interface(openai):
    o200k = tokenizers.load_tokenizer("tiktoken", "o200k_base")
    assert o200k.encode("hello world") == [24912, 2375] and o200k.vocab_size == 200019
    assert o200k.decode([o200k.end_of_text]) == END_OF_TEXT
    assert o200k.pack("hello world", np.uint32) == np.array([24912, 2375], np.uint32).tobytes()
    assert "".join(o200k.stream(o200k.encode(TEXT))) == TEXT
    assert o200k.encode_batch(["a\ud800", ""]) == [o200k.encode("a\ud800"), []], "lone surrogates"
    with pytest.raises(ValueError, match="200000"):
        o200k.decode([200_000])


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
    for special_tokens in (END_OF_TEXT, ("a", "a"), ("",)):
        with pytest.raises(ValueError, match="several texts"):
            BPETokenizer(special_tokens=special_tokens)
    with pytest.raises(UserError, match="no tokenizer"):
        BPETokenizer.load(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text('{"kind": ', encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        BPETokenizer.load(tmp_path / "broken.json")
