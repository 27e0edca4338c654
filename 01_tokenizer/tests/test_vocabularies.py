"""Vocabularies of other people in our class, and ours in theirs."""

import base64
import json
import random
import struct
from pathlib import Path

import hugging_face
import pytest
from flags import UserError
from for_tests import oracle, random_strings, shared
from tokenizer import END_OF_TEXT, BPETokenizer, CharTokenizer, TiktokenTokenizer, from_state, load_tokenizer
from word_patterns import PATTERNS

TEXT = "It's 12345 o'clock, said the Cat;   the hat said NOTHING.\n\n\tÄrger über 北京 🙂!  \nHe'll  go\r\n\r\n" * 20


def trained(pattern="cl100k_base"):
    tokenizer = BPETokenizer(pattern, (END_OF_TEXT, "<|with a space|>"))
    tokenizer.train(TEXT, 400)
    return tokenizer


@pytest.mark.parametrize("pattern", PATTERNS)
def test_hugging_face_encodes_as_we_do(pattern, tmp_path):
    """With Llama 3's, Qwen's and SmolLM2's patterns too: what its own pre-tokenizers cut, ours must."""
    ours = trained(pattern)
    ours.save(tmp_path / "tokenizer.json")
    theirs = oracle("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (TEXT, f"a{END_OF_TEXT}b <|with a space|>", *random_strings(2000)):
        assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids, repr(text)
        assert theirs.decode(theirs.encode(text).ids, skip_special_tokens=False) == text
    again = BPETokenizer.load(tmp_path)
    assert (again.vocab, again.merges, again.special_tokens) == (ours.vocab, ours.merges, ours.special_tokens)
    assert again.pattern == ours.pattern


def test_the_pre_tokenizers_of_real_models_are_understood(tmp_path):
    """Chains as GPT-2, Llama 3, Qwen 2 and SmolLM2 have them, built by Hugging Face's own library."""
    hugging_face = oracle("tokenizers")
    before = hugging_face.pre_tokenizers
    llama3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")
    bytes_only = before.ByteLevel(add_prefix_space=False, use_regex=False)
    with_cuts = before.ByteLevel(add_prefix_space=False, use_regex=True)

    def split(pattern):
        return before.Split(hugging_face.Regex(pattern), "isolated")

    chains = {
        "gpt2": with_cuts,
        "llama3": before.Sequence([split(llama3), bytes_only]),
        "qwen2": before.Sequence([split(llama3.replace("{1,3}", "")), bytes_only]),
        "smollm": before.Sequence([before.Digits(individual_digits=True), with_cuts]),
        r"\s?\S+|\s": before.Sequence([split(r"\s?\S+|\s"), bytes_only]),  # one that has no name
    }
    for pattern, chain in chains.items():
        theirs = hugging_face.Tokenizer(hugging_face.models.BPE(ignore_merges=pattern == "llama3"))
        theirs.pre_tokenizer = chain
        if pattern == "qwen2":
            theirs.normalizer = hugging_face.normalizers.NFC()
        trainer = hugging_face.trainers.BpeTrainer(
            vocab_size=500, initial_alphabet=before.ByteLevel.alphabet(), special_tokens=["<s>", "</s>"],
            show_progress=False,
        )
        theirs.train_from_iterator([TEXT], trainer)
        theirs.save(str(tmp_path / "tokenizer.json"))
        ours = load_tokenizer("tokenizer", tmp_path)
        assert ours.pattern == pattern and ours.end_of_text == 1
        for text in (TEXT, "e\u0301 <s>x</s>", *random_strings(1000)):
            assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids, f"{pattern}: {text!r}"


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_merges_that_make_the_same_token_twice(order, tmp_path):
    """Llama 3's file lists every way in which two tokens make a third, some before their parts are made."""
    ours = BPETokenizer()
    ours.train(Path(__file__).read_text(encoding="utf-8"), 700)
    ours.save(tmp_path / "tokenizer.json")
    contents = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = contents["model"]["vocab"]
    halves = ([token[:i], token[i:]] for token in vocab for i in range(1, len(token)))
    contents["model"]["merges"] = [[left, right] for left, right in halves if left in vocab and right in vocab]
    assert len(contents["model"]["merges"]) > len(ours.merges)
    if order == "backwards":
        contents["model"]["merges"].reverse()
        contents["model"]["ignore_merges"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(contents), encoding="utf-8")
    theirs = oracle("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    again = BPETokenizer.load(tmp_path)
    for text in (TEXT, TEXT.replace(" ", "").replace("\n", ""), *random_strings(1000)):
        assert again.encode(text) == theirs.encode(text).ids
        assert order == "backwards" or again.encode(text) == ours.encode(text)


def test_ranks_out_and_in(tmp_path, openai):
    ours = trained()
    ours.save(tmp_path / "cl100k_base.tiktoken")
    again = BPETokenizer.load(tmp_path / "cl100k_base.tiktoken")
    assert again.merges == ours.merges and again.encode(TEXT) == ours.encode(TEXT)
    ranks = openai("gpt2")._mergeable_ranks
    lines = [base64.b64encode(token) + b" %d" % rank for token, rank in ranks.items()]
    (tmp_path / "gpt2.tiktoken").write_bytes(b"\n".join(lines))
    gpt2 = BPETokenizer.load(tmp_path / "gpt2.tiktoken")
    assert gpt2.encode(TEXT) == openai("gpt2").encode(TEXT) and gpt2.end_of_text == openai("gpt2").eot_token
    gpt2.save(tmp_path / "out.gpt2.tiktoken")
    assert (tmp_path / "out.gpt2.tiktoken").read_bytes() == b"\n".join(lines) + b"\n"
    assert BPETokenizer.load(tmp_path / "out.gpt2.tiktoken").encode(TEXT) == gpt2.encode(TEXT)
    for name in ("out.tiktoken", "out.bin", "out.model", "out.gguf", ""):
        with pytest.raises(UserError, match="call it .*out.gpt2.tiktoken|ends in .json"):
            gpt2.save(tmp_path / name)


def gguf(pairs):
    """A GGUF file of strings, integers, and lists of them."""

    def string(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def value(entry):
        if isinstance(entry, list):
            inner = [value(one) for one in entry]
            return 9, struct.pack("<IQ", inner[0][0], len(inner)) + b"".join(data for _, data in inner)
        return (8, string(entry)) if isinstance(entry, str) else (5, struct.pack("<i", entry))

    body = b"".join(string(key) + struct.pack("<I", value(entry)[0]) + value(entry)[1] for key, entry in pairs.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body


def test_the_vocabulary_of_a_gguf(tmp_path):
    """SmolLM2's way: special tokens first, byte 0xC0 missing, merges as text."""
    ours = trained("smollm")
    bytes_ = [hugging_face.CHARACTER[byte] for byte in range(256) if byte != 0xC0]
    names = ["<|endoftext|>", "<|im_end|>", *bytes_]
    merges = [[hugging_face.printable(ours.vocab[i]) for i in pair] for pair in ours.merges]
    pairs = {
        "general.name": "test",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*names, *map("".join, merges)],
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(names) + len(merges) - 2),
        "tokenizer.ggml.merges": list(map(" ".join, merges)),
    }
    (tmp_path / "model.gguf").write_bytes(gguf(pairs))
    theirs = load_tokenizer("tokenizer", tmp_path / "model.gguf")
    assert theirs.end_of_text == 0 and theirs.pattern == "smollm" and theirs.vocab_size == ours.vocab_size - 1
    assert theirs.end_tokens == (0,), "where the file names none"
    for text in (TEXT, *random_strings(300)):
        assert [theirs.vocab[i] for i in theirs.encode(text)] == [ours.vocab[i] for i in ours.encode(text)]
    assert theirs.encode_word(b"a\xc0b") == theirs.encode_word(b"ab"), "Hugging Face drops a byte that is no token"
    # ids that the vocabulary does not have are left out, as llama.cpp does
    ends = {f"tokenizer.ggml.{name}_token_id": i for name, i in {"eos": 1, "eot": 0, "eom": 999_999}.items()}
    (tmp_path / "model.gguf").write_bytes(gguf(pairs | ends))
    assert load_tokenizer("tokenizer", tmp_path / "model.gguf").end_tokens == (1, 0)
    for broken in (b"GGUF\3", b"GGML" * 9, gguf(pairs)[:-50], gguf({**pairs, "tokenizer.ggml.pre": "new"})):
        (tmp_path / "model.gguf").write_bytes(broken)
        with pytest.raises(UserError, match="damaged|can't be read here"):
            load_tokenizer("tokenizer", tmp_path / "model.gguf")


def test_llama2c_reads_and_writes_a_real_story():
    stories = load_tokenizer("tokenizer", shared("stories260K/tok512.bin"))
    story = shared("stories260K/expected_greedy_200.txt").read_text(encoding="utf-8")
    ids = stories.encode(story)
    assert stories.vocab_size == 512 and stories.end_of_text == 1 and stories.end_tokens == (1, 2)
    assert len(ids) == 200, "the model wrote it in 200 tokens: does the highest score win, and the leftmost at a tie?"
    assert ids[:4] == [403, 407, 261, 378], "Once upon a time"
    assert stories.decode(ids) == "".join(stories.stream([1, *ids])) == story
    for text in ("", "é北🙂\n", " two  spaces "):
        assert stories.decode(stories.encode(text)) == text, "characters that are no token are spelled in bytes"
    text = "ab a é"
    spans = stories.offsets(stories.encode(text))
    assert spans[0][0] == 0 and spans[-1][1] == len(text), "the space before the text is no part of it"
    with pytest.raises(ValueError, match="512 is no token"):
        stories.decode([512])


def test_what_ends_an_answer_stands_in_a_models_folder(tmp_path, openai):
    """In generation_config.json or, in older models, in config.json; one id or several; and it is kept."""
    trained().save(tmp_path / "tokenizer.json")
    end, other = trained().special_tokens.values()
    for generation, config, expected in (
        (None, None, (end,)), ({}, {"eos_token_id": None}, (end,)), (None, {"eos_token_id": other}, (other,)),
        ({"eos_token_id": [other, end]}, {"eos_token_id": end}, (other, end)),
        ({"bos_token_id": 0}, {"eos_token_id": [other, 999_999]}, (other,)),
    ):
        for name, contents in (("generation_config.json", generation), ("config.json", config)):
            if contents is not None:
                (tmp_path / name).write_text(json.dumps(contents), encoding="utf-8")
        ours = load_tokenizer("tokenizer", tmp_path)
        assert ours.end_tokens == expected and ours.end_of_text == end
        assert from_state(ours.state()).end_tokens == expected
        ours.save(tmp_path / "mine.json")
        assert load_tokenizer("tokenizer", tmp_path / "mine.json").end_tokens == expected
        for path in (tmp_path / "generation_config.json", tmp_path / "config.json"):
            path.unlink(missing_ok=True)
    for damage in ("[]", "{", '{"eos_token_id": "x"}', '{"eos_token_id": [[1]]}'):
        (tmp_path / "config.json").write_text(damage, encoding="utf-8")
        with pytest.raises(UserError, match="damaged"):
            load_tokenizer("tokenizer", tmp_path)
    for kind in (CharTokenizer("abc"), TiktokenTokenizer("gpt2")):
        assert kind.end_tokens == (kind.end_of_text,)


def test_the_originals_files(tmp_path):
    pattern = PATTERNS["gpt2"]
    lines = ["bpetokenizer v1", pattern, "1", "<|a b|> 300", "104 101", "256 108"]
    (tmp_path / "umb.model").write_text("\n".join(lines) + "\n", encoding="utf-8")
    original = load_tokenizer("tokenizer", tmp_path / "umb.model")
    assert original.encode("hello he <|a b|>", allowed_special="all") == [257, 108, 111, 32, 256, 32, 300]
    assert list(original.merges) == [(104, 101), (256, 108)] and original.pattern == pattern
    (tmp_path / "umb.model").write_text("sentencepiece", encoding="utf-8")
    with pytest.raises(UserError, match="bpetokenizer v1|damaged"):
        load_tokenizer("tokenizer", tmp_path / "umb.model")


def test_what_can_not_be_read_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    trained().save(path)
    good = json.loads(path.read_text(encoding="utf-8"))
    bad = {
        "WordPiece": {"model": {"type": "WordPiece"}},
        "Lowercase": {"normalizer": {"type": "Lowercase"}},
        "Metaspace": {"pre_tokenizer": {"type": "Metaspace"}},
    }
    for name, change in bad.items():
        path.write_text(json.dumps(good | change), encoding="utf-8")
        with pytest.raises(UserError, match=name):
            BPETokenizer.load(tmp_path)
    path.write_text('{"kind": "tokenizer", "merges": [[1, 2]]}', encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        BPETokenizer.load(tmp_path)
    changes = [
        {"model": None},
        {"model": {**good["model"], "end_of_word_suffix": "</w>"}},
        {"pre_tokenizer": None},
        {"added_tokens": [{"id": 5, "content": "a"}]},
        {"added_tokens": [{"id": 900, "content": "<|x|>", "lstrip": True}]},
    ]
    for change in changes:
        path.write_text(json.dumps(good | change), encoding="utf-8")
        with pytest.raises(UserError, match="damaged|can't be read here"):
            BPETokenizer.load(tmp_path)


def files_of_every_format(folder):
    ours = trained()
    for name in ("mine.json", "tokenizer.json", "mine.tiktoken"):
        ours.save(folder / name)
        yield folder / name
    names = [hugging_face.CHARACTER[byte] for byte in range(256)]
    pairs = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": [*names, "he"],
             "tokenizer.ggml.token_type": [1] * 257, "tokenizer.ggml.merges": ["h e"]}
    (folder / "model.gguf").write_bytes(gguf(pairs))
    yield folder / "model.gguf"
    lines = ["bpetokenizer v1", PATTERNS["gpt2"], "1", "<|a b|> 300", "104 101", ""]
    (folder / "umb.model").write_text("\n".join(lines), encoding="utf-8")
    yield folder / "umb.model"
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), " ", "a", " a"]
    packed = [struct.pack("<fi", i, len(token)) + token.encode() for i, token in enumerate(tokens)]
    (folder / "tok.bin").write_bytes(struct.pack("<i", 6) + b"".join(packed))
    yield folder / "tok.bin"


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path):
    generator = random.Random(0)
    for path in files_of_every_format(tmp_path):
        whole = path.read_bytes()
        load_tokenizer("tokenizer", path).encode("a text, he said")
        refused = 0
        for i in range(150):
            damaged = bytearray(whole[: generator.randrange(len(whole))] if i % 3 == 0 else whole)
            for _ in range(generator.randint(1, 3)):
                if damaged:
                    damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            path.write_bytes(damaged)
            try:
                load_tokenizer("tokenizer", path).encode("a text, he said")
            except UserError as error:
                refused += 1
                assert str(path) in str(error) or "can't be read here" in str(error) or "bpetokenizer" in str(error)
        assert refused > 20, f"{path.name}: nothing is checked"
    for text in ("[" * 100_000, "{}", '{"kind": "bear"}', '{"kind": "tokenizer", "model": {}}'):
        (tmp_path / "mine.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="damaged|can't be read here|of the kind"):
            load_tokenizer("tokenizer", tmp_path / "mine.json")


@pytest.mark.slow
def test_special_ids_with_gaps_between(openai, tmp_path):
    """cl100k_base has none at 100256; Hugging Face would move the others down if they stood among added tokens only."""
    ours = BPETokenizer.from_tiktoken("cl100k_base")
    ours.save(tmp_path / "tokenizer.json")
    theirs = oracle("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "a<|endoftext|>b<|endofprompt|>"
    assert theirs.encode(text).ids == ours.encode(text, allowed_special="all")
    assert BPETokenizer.load(tmp_path).special_tokens == ours.special_tokens
    ours.save(tmp_path / "cl100k_base.tiktoken")
    assert BPETokenizer.load(tmp_path / "cl100k_base.tiktoken").special_tokens == ours.special_tokens


def test_patterns_of_ones_own(tmp_path):
    """Groups, dollars, and text between the matches; a `$` means another thing to Hugging Face."""
    for pattern in (r"'(s|t)|(\w)+", r"\$\w+|\w+", r"[$]\w+|\s"):
        ours = BPETokenizer.from_state({**trained().state(), "pattern": pattern})
        text = "it's $ab\nx $$ 12!"
        assert ours.decode(ours.encode(text)) == text
        ours.save(tmp_path / "tokenizer.json")
        theirs = oracle("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert theirs.encode(text).ids == ours.encode(text), pattern
