"""WordPiece equals Hugging Face's, on random Unicode, on every character, and on real text."""

import json
import pickle
import random
import unicodedata
from functools import cache

import corpora
import numpy as np
import pytest
from flags import UserError
from for_tests import minilm, oracle, random_strings, shared
from wordpiece import SPECIAL, WordPieceTokenizer

OPTIONS = {  # ours, and what tokenizers calls them
    "uncased": ({}, {}),
    "cased": ({"lowercase": False}, {"lowercase": False}),
    "cased without accents": ({"lowercase": False, "strip_accents": True},) * 2,
    "uncased with accents": ({"strip_accents": False},) * 2,
    "Chinese in one piece": ({"chinese_characters": False}, {"handle_chinese_chars": False}),
}
SMALL = [*SPECIAL, "the", "##se", "a", "##a", ".", ",", "!", "?", "s", "'", "[", "]", "##s", "mask"]


@cache
def real_tokens():
    return (minilm() / "vocab.txt").read_text(encoding="utf-8").splitlines()


def theirs(tokens, **options):
    """Their tokenizer of the same tokens; it adds no [CLS] and [SEP] unless asked to."""
    tokenizers = oracle("tokenizers")
    return tokenizers.BertWordPieceTokenizer({token: i for i, token in enumerate(tokens)}, **options)._tokenizer


def both(tokens, name):
    ours, other = OPTIONS[name]
    return WordPieceTokenizer(tokens, **ours), theirs(tokens, **other)


@cache
def every_character():
    return [c for c in map(chr, range(0xF0100)) if unicodedata.category(c) not in ("Cn", "Cs")]


@cache
def seen_otherwise(name):
    """The characters that their older tables of Unicode see as another kind than ours: one between two letters."""
    ours, other = both([*SPECIAL, "a", "##a"], name)
    texts = [f"a{c}a" for c in every_character()]
    expected = other.encode_batch_fast(texts, add_special_tokens=False)
    return {c for c, text, encoded in zip(every_character(), texts, expected) if ours.encode(text) != encoded.ids}


def random_texts(count, seed=0):
    """Characters of a few blocks of Unicode each, of a tokenizer's own letters, and of the usual suspects."""
    generator = random.Random(seed)
    new = seen_otherwise("uncased") | seen_otherwise("cased without accents")
    # a vowel sign that some accents go behind is put before them, and our offsets then differ from theirs
    usual = [c for c in every_character()
             if c not in new and not (unicodedata.category(c) == "Mc" and unicodedata.combining(c))]
    blocks = [[c for c in usual if start <= ord(c) < end] for start, end in (
        (0, 0x250), (0x250, 0x3000), (0x300, 0x370), (0x2000, 0x2070), (0x3000, 0xAC00), (0xAC00, 0xD7A4),
        (0xE000, 0x11000), (0x10000, 0x20000), (0x20000, 0x30000), (0, 0x110000))]
    blocks += ["abcdehnorst", "İIıſßΣσς\u0307\u0301éÅΌ ", [c for token in real_tokens() for c in token]]
    for _ in range(count):
        few = generator.sample(blocks, generator.randint(1, 4))
        yield "".join(generator.choice(generator.choice(few)) for _ in range(generator.randint(0, 40)))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_it_equals_hugging_faces_on_random_unicode(name):
    ours, other = both(real_tokens(), name)
    known = 0
    for text in [*random_strings(2000), *random_texts(3000)]:
        expected, ids = other.encode(text, add_special_tokens=False), ours.encode(text, disallowed_special=())
        assert ids == expected.ids, f"{text!a}: {[ours.vocab[i] for i in ids]} instead of {expected.tokens}"
        assert ours.encode_with_offsets(text) == (ids, expected.offsets), f"{text!a}: {expected.tokens}"
        assert ours.decode(ids) == other.decode(ids, skip_special_tokens=False)
        known += sum(i != ours.ids["[UNK]"] for i in ids)
    assert known > 10_000, "nearly everything is unknown: the test shows little"


@pytest.mark.slow
def test_newer_tables_of_unicode_matter_only_for_rare_scripts():
    for name in ("uncased", "cased"):
        new = seen_otherwise(name)
        assert new and len(new) < 1500
        assert {unicodedata.category(c)[0] for c in new} <= set("MPCS"), "a letter is no mark or sign anywhere"
        for start, end in ((0, 0x378), (0x2000, 0x2E43), (0x3000, 0xA82C), (0x1F000, 0x1FB00), (0x20000, 0x110000)):
            assert not [c for c in new if start <= ord(c) < end and unicodedata.category(c) != "Co"]
        assert not new & {c for token in real_tokens() for c in token}, "no token of BERT's has one"


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["tinyshakespeare", "pydocs"])
@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_it_equals_hugging_faces_on_real_text(corpus, name):
    play = shared("tinyshakespeare/input.txt")
    text = corpora.load(corpus if corpus == "pydocs" else play)[:200_000]
    ours, other = both(real_tokens(), name)
    expected = other.encode(text, add_special_tokens=False)
    assert ours.encode(text, disallowed_special=()) == expected.ids
    assert ours.encode_with_offsets(text) == (expected.ids, expected.offsets)


def test_it_equals_the_tokenizer_of_transformers():
    transformers = oracle("transformers")
    ours, other = WordPieceTokenizer.load(minilm()), transformers.AutoTokenizer.from_pretrained(minilm())
    for text in ["Héllo, the naïve café's 北京!", "A [MASK] in it", *random_strings(100)]:
        expected = other(text, add_special_tokens=False).input_ids
        assert ours.encode(text, allowed_special="all") == expected
        assert ours.decode(expected) == other.decode(expected)
    assert ours.special_tokens == dict(zip(other.all_special_tokens, other.all_special_ids))


def test_offsets_lead_back_to_the_text():
    ours = WordPieceTokenizer(["[UNK]", "cafe", "##s", "i", "ss"])
    text = "Cafe\u0301s \x00 CAFÉ\u200dS é İ ẞſſ?"
    ids, spans = ours.encode_with_offsets(text)
    assert [text[start:end] for start, end in spans] == ["Cafe", "s", "CAFÉ", "S", "é", "İ", "ẞſſ", "?"]
    assert [ours.vocab[i] for i in ids] == [b"cafe", b"##s", b"cafe", b"##s", b"[UNK]", b"i", b"[UNK]", b"[UNK]"]


def test_the_longest_token_wins_and_a_word_without_a_match_is_unknown():
    ours = WordPieceTokenizer(["[UNK]", "un", "una", "##f", "##ff", "##able", "##a", "a"])
    assert [ours.vocab[i] for i in ours.encode("unaffable unaffabl")] == [b"una", b"##ff", b"##able", b"[UNK]"]
    assert ours.encode("a" * 100) == [7] + [6] * 99
    assert ours.encode("a" * 101) == [0] and ours.encode_with_offsets("a" * 101)[1] == [(0, 101)]
    assert ours.encode("á" * 101) == [0] and ours.encode("á" * 100) == [7] + [6] * 99
    assert ours.encode("") == ours.encode(" \n") == [] == ours.encode_with_offsets("")[0]
    assert ours.encode("a\ud800a") == [7, 6], "half a character is as if it were not there"


def test_special_tokens_are_never_read_unawares():
    ours, text = WordPieceTokenizer(SMALL), "the [MASK]."
    ids = {token: i for i, token in enumerate(SMALL)}
    with pytest.raises(ValueError, match="special token '\\[MASK\\]'"):
        ours.encode(text)
    with pytest.raises(ValueError, match="special token '\\[SEP\\]'"):
        ours.encode(text + "[SEP]", allowed_special={"[MASK]"})
    assert ours.encode(text, allowed_special={"[MASK]"}) == [ids["the"], ids["[MASK]"], ids["."]]
    assert ours.encode(text, allowed_special="all") == [ids["the"], ids["[MASK]"], ids["."]]
    ordinary = [ids[token] for token in ("the", "[", "mask", "]", ".")]
    assert ours.encode(text, disallowed_special=()) == ordinary == ours.encode_with_offsets(text)[0]
    packed = ours.pack(text, np.uint32, allowed_special={"[MASK]"})
    assert np.frombuffer(packed, np.uint32).tolist() == [ids["the"], ids["[MASK]"], ids["."]]
    assert ours.end_of_text == ids["[SEP]"] and ours.end_tokens == (ids["[SEP]"],)
    with pytest.raises(UserError, match=r"no \[SEP\]"):
        _ = WordPieceTokenizer(["[UNK]"]).end_of_text


def test_text_of_ids():
    ours = WordPieceTokenizer(SMALL)
    ids = ours.encode("These. the a, aaa! [MASK]s?", allowed_special="all")
    assert ours.decode(ids) == "these. the a, aaa! [MASK] s?" == "".join(ours.stream(iter(ids)))
    pieces = [ours.decode(ids)[start:end] for start, end in ours.offsets(ids)]
    assert pieces == ["the", "se", ".", "the", "a", ",", "a", "a", "a", "!", "[MASK]", "s", "?"]
    assert ours.decode(ids[1:2]) == "##se" and ours.decode([]) == ""
    with pytest.raises(ValueError, match="99 is no token"):
        ours.decode([99])


def test_a_state_makes_the_same_tokenizer_again():
    ours = WordPieceTokenizer(SMALL[2:] + ["[UNK]", "É", "北"], lowercase=False, strip_accents=False,
                              chinese_characters=False)
    state = json.loads(json.dumps(ours.state()))
    for again in (WordPieceTokenizer.from_state(state), pickle.loads(pickle.dumps(ours))):
        assert again.state() == ours.state() and again.kind == "wordpiece"
        assert again.encode("É 北北 The a") == ours.encode("É 北北 The a")
    assert ours.vocab[2] == b"[MASK]" and ours.special_tokens["[MASK]"] == 2
    more = WordPieceTokenizer.from_state(ours.state() | {"special_tokens": {"[X]": ours.vocab_size}})
    assert more.vocab_size == ours.vocab_size + 1 and more.encode("a[X]", allowed_special="all")[1] == ours.vocab_size
    assert ours.encode_batch(["the a", "a"]) == [ours.encode("the a"), ours.encode("a")]


def as_json(tokens, folder, **options):
    theirs(tokens, **options).save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_tokenizer_json_says_everything(name, tmp_path):
    ours, options = OPTIONS[name]
    path = as_json(SMALL, tmp_path, **options)
    expected = WordPieceTokenizer(SMALL, **ours).state()
    assert WordPieceTokenizer.load(path).state() == WordPieceTokenizer.load(tmp_path).state() == expected
    WordPieceTokenizer.load(path).save(tmp_path / "ours.json")
    assert WordPieceTokenizer.load(tmp_path / "ours.json").state() == expected


def test_a_vocabulary_of_lines(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join(SMALL).encode() + b"\r\n")
    assert WordPieceTokenizer.load(path).state() == WordPieceTokenizer(SMALL).state()
    path.write_text("\n".join([*SMALL, "##The"]), encoding="utf-8")
    assert not WordPieceTokenizer.load(path).lowercase, "a token with a capital would never be found"
    said = {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    state = WordPieceTokenizer.load(tmp_path).state()
    assert (state["lowercase"], state["strip_accents"], state["chinese_characters"]) == (True, False, False)
    as_json(SMALL, tmp_path, lowercase=False)  # it comes before vocab.txt, and the configuration before it
    assert WordPieceTokenizer.load(tmp_path).state() == state | {"tokens": SMALL}


def test_what_is_no_wordpiece_is_refused_in_one_line(tmp_path):
    def refused(path):
        with pytest.raises(UserError) as error:
            WordPieceTokenizer.load(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no vocabulary" in refused(tmp_path) and "no vocabulary" in refused(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_text("the\nhat\n", encoding="utf-8")
    assert "vocab.txt is damaged or no vocabulary of WordPiece" in refused(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    assert "vocab.txt is damaged" in refused(tmp_path)
    path = as_json(SMALL, tmp_path)
    whole = json.loads(path.read_text(encoding="utf-8"))
    for part, changes, words in (
        ("model", {"type": "BPE"}, "the type 'BPE'"),
        ("model", {"max_input_chars_per_word": 200}, "max_input_chars_per_word 200"),
        ("normalizer", {"clean_text": False}, "clean_text False"),
        ("normalizer", {"type": "NFC"}, "the normalizer 'NFC'"),
        ("pre_tokenizer", {"type": "Whitespace"}, "the pre_tokenizer 'Whitespace'"),
        ("model", {"vocab": {"[UNK]": 0, "a": 2}}, "ids that are left out"),
    ):
        path.write_text(json.dumps(whole | {part: whole[part] | changes}), encoding="utf-8")
        assert words in refused(path)
    path.write_text('{"kind": "tokenizer", "tokens": {}}', encoding="utf-8")
    assert "tokenizer.json is damaged or no vocabulary of WordPiece" in refused(path)
    path.write_text("[", encoding="utf-8")
    assert "tokenizer.json is damaged" in refused(path)
