"""The scripts, run as a reader would run them, with flags that take seconds."""

import math
import re

import checkpoint
import pytest
from bert_tokens import Marks, from_state
from for_tests import minilm, refuse, succeed

SMALL = ("-d", "{text}", 32, 8, 32, 3e-3, 40, 2, 3, 0.1)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sentences that are easy to guess: what comes after depends on what stood before."""
    path = tmp_path_factory.mktemp("texts") / "animals.txt"
    lines = [f"the {animal} says {sound} to the {other}.\n" for animal, sound in
             (("cat", "meow"), ("dog", "woof"), ("cow", "moo")) for other in ("man", "child", "bird", "tree")]
    path.write_text("".join(lines * 150), encoding="utf-8")
    return path


def words(text, *more):
    return [str(text) if word == "{text}" else word for word in SMALL] + list(more)


@pytest.fixture(scope="module")
def trained(text):
    saved = text.parent / "bert.pt"
    return saved, succeed("05_bert_mlm/train.py", *words(text), "-s", saved)


@pytest.mark.slow
def test_what_it_prints_and_leaves(trained):
    saved, out = trained
    before, nothing = map(float, re.search(r"before training (\d\.\d+), and ln\(.*\) is (\d\.\d+)", out).groups())
    assert abs(before - nothing) < 0.2, "the loss must begin at ln(vocabulary size)"
    losses = [float(loss) for loss in re.findall(r"step \d+: .* validation loss (\d\.\d+)", out)]
    assert losses[-1] < losses[0] - 0.5 and out.count("of the hidden tokens guessed") == 10
    loss, perplexity = map(float, re.search(r"^validation loss (\d\.\d+), perplexity ([\d.]+)", out, re.M).groups())
    assert math.isclose(math.exp(loss), perplexity, rel_tol=0.02)
    contents = checkpoint.load(saved, "bert")
    assert saved.with_suffix(".png").exists() and contents["progress"]["step"] == 40
    assert Marks.of(from_state(contents["tokenizer"])).special.sum() == 5


@pytest.mark.slow
def test_a_run_goes_on_and_a_finished_one_begins_again(text, trained, tmp_path):
    saved, out = trained
    contents = checkpoint.load(saved, "bert")
    half = tmp_path / "half.pt"
    contents["progress"] |= {"finished": False, "step": 20}  # as if Ctrl-C had come then
    checkpoint.save(half, **{name: value for name, value in contents.items() if name != "format"})
    assert f"unfinished run of {half} after step 20" in succeed("05_bert_mlm/train.py", "-l", half, "-d", text)
    again = succeed("05_bert_mlm/train.py", "-l", saved, "-d", text, "-s", "no_save")
    first = float(re.search(r"loss before training (\d\.\d+)", again)[1])
    last = re.findall(r"validation loss (\d\.\d+)", out)
    assert any(abs(first - float(loss)) < 0.005 for loss in last[-2:]) and "going on" not in again


@pytest.mark.slow
def test_pairs_with_berts_own_parts(text, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(text.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "docs").mkdir()
    for i in range(4):
        (tmp_path / "docs" / f"{i}.txt").write_text(path.read_text(encoding="utf-8")[i * 2000 : i * 2000 + 6000],
                                                    encoding="utf-8")
    out = succeed("05_bert_mlm/train.py", "-d", tmp_path / "docs", "--family", "bert", "--pairs", "--masking", "word",
                  "--optimizer", "adamw", "-s", tmp_path / "p.pt", 32, 8, 32, 1e-3, 12, 2, 2)
    assert re.search(r"\d+\.\d% of the pairs guessed right", out)
    config = checkpoint.load(tmp_path / "p.pt", "bert")["config"]
    assert config["segment_count"] == 2 and not config["pre_norm"] and config["positions"] == "learned"


@pytest.mark.slow
def test_real_weights_are_trained_further(text, tmp_path):
    """MiniLM has no head that guesses: it gets one, and the vocabulary stays its own."""
    minilm()
    saved = tmp_path / "minilm.pt"
    out = succeed("05_bert_mlm/train.py", "-l", "minilm", "-d", text, "-s", saved, 384, 4, 24, 5e-4, 12)
    first, last = (float(re.findall(rf"{what} (\d+\.\d+)", out)[-1]) for what in ("before training", "validation loss"))
    contents = checkpoint.load(saved, "bert")
    assert last < first - 1 and contents["tokenizer"]["kind"] == "wordpiece" and contents["config"]["masked_head"]
    assert contents["run"]["optimizer"] == "adamw" and contents["run"]["dropout"] == 0.1
    assert "%" in succeed("05_bert_mlm/infer.py", "the [MASK] says meow.", "-l", saved)


@pytest.mark.slow
def test_blanks_scores_and_likeness(trained):
    saved, _ = trained
    out = succeed("05_bert_mlm/infer.py", "the [MASK] says [MASK] to", "-l", saved, "--show", 3)
    assert out.count("%") == 6 and "[MASK] 2" in out and "filled in: the " in out
    shares = [float(share) for share in re.findall(r"([\d.]+)%", out)]
    assert shares[:3] == sorted(shares[:3], reverse=True)
    out = succeed("05_bert_mlm/infer.py", "--score", "the cat says meow.", "cat the meow says.", "-l", saved)
    good, bad = map(float, re.findall(r"([-\d.]+) in all", out))
    assert good > bad
    out = succeed("05_bert_mlm/infer.py", "the cat says", "--similar", "the cat says", "woof woof", "-l", saved)
    assert out.index("1.000  the cat says") < out.index("woof woof")


@pytest.mark.slow
@pytest.mark.parametrize("script, curves", [("two_sides", 2), ("mask_rates", 2)])
def test_comparisons_draw_a_figure(text, tmp_path, script, curves):
    given = words(text)
    if script == "mask_rates":  # which is told a time instead of steps
        given = [*given[:6], *given[7:], "--rates", 0.15, 0.4, "--seconds", 1]
    out = succeed(f"05_bert_mlm/{script}.py", *given, "-o", tmp_path / "figure.png")
    assert len(re.findall(r"guessed, after .*\d+ s$", out, re.M)) == curves
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_mistakes_end_in_one_line_with_the_cure(text, trained, tmp_path):
    saved, _ = trained
    train, infer = "05_bert_mlm/train.py", "05_bert_mlm/infer.py"
    assert "mask_rate 1.0 must be" in refuse(train, "--mask_rate", 1)
    assert "at least 8" in refuse(train, "-d", text, 32, 8, 4)
    assert "take -t tokenizer" in refuse(train, "-t", "char", "-d", text)
    assert "leave them out" in refuse(train, "-l", saved, "-t", "tokenizer", "-d", text)
    assert "leave it out" in refuse(train, "-l", saved, "--family", "bert", "-d", text)
    (tmp_path / "short.txt").write_text("the cat says meow. " * 20, encoding="utf-8")
    assert "longer text or a smaller block_size" in refuse(train, "-d", tmp_path / "short.txt", 32, 8, 64)
    assert "embedding_size 64 contradicts" in refuse(train, "-l", saved, "-d", text, 64)
    assert "has no [MASK]" in refuse(infer, "the cat", "-l", saved)
    assert "the model takes 32" in refuse(infer, "the cat says [MASK] " * 30, "-l", saved)
    assert "not 'bert'" in refuse(infer, "-l", other_kind(saved, tmp_path))
    assert "quotation marks" in refuse(infer, "the", "[MASK]", "-l", saved)
    assert "config.json is not there" in refuse(infer, "-l", tmp_path)


def other_kind(saved, folder):
    contents = checkpoint.load(saved, "bert")
    contents.pop("format")
    checkpoint.save(folder / "gpt.pt", **contents | {"kind": "gpt"})
    return folder / "gpt.pt"
