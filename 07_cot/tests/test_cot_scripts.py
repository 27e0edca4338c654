"""The scripts, run as a reader would run them, with flags that take seconds."""

import re

import checkpoint
import pytest
from chains import Chain
from for_tests import refuse, succeed
from tasks import FAMILIES
from thought_tree import draw_tree, tree_of, votes_of

TRAIN, INFER = "07_cot/train.py", "07_cot/infer.py"
SMALL = ("--problems", 500, 16, 8, 96, "5e-3", 20, 2, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    saved = tmp_path_factory.mktemp("cot") / "small.pt"
    return saved, succeed(TRAIN, "--style", "chain", "--difficulty", 3, "-s", saved, *SMALL)


@pytest.mark.slow
def test_what_training_prints_and_leaves(trained):
    saved, out = trained
    assert "arithmetic, chain: " in out and re.search(r"\d% of \d+ held-out problems solved", out)
    loaded = checkpoint.load(saved, "gpt")
    assert loaded["run"]["style"] == "chain" and loaded["progress"]["finished"]
    assert loaded["config"]["window_layers"] == 1
    assert saved.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_both_styles_see_as_many_tokens(tmp_path):
    out = succeed(TRAIN, "-s", "no_save", "--difficulty", 3, *SMALL)
    assert "arithmetic, chain" in out and "arithmetic, direct" in out


@pytest.mark.slow
def test_a_run_goes_on(trained, tmp_path):
    """A finished one begins anew from its weights; one with a second head keeps it."""
    saved, _ = trained
    again = tmp_path / "again.pt"
    succeed(TRAIN, "--style", "chain", "-l", saved, "-s", again, "--second_head", 0.3, "--slips", 0.2)
    assert any(name.startswith("model.join") for name in checkpoint.load(again, "gpt")["second_head"])
    assert "going on" not in succeed(TRAIN, "--style", "chain", "-l", again)
    assert "contradicts" in refuse(TRAIN, "--style", "chain", "-l", again, "--window", 3)


@pytest.mark.slow
def test_flags_side_by_side(tmp_path):
    """A model with a window and one without are other models, and each has its row."""
    few = "--problems 200"
    out = succeed("07_cot/ablation.py", "--compare", few, f"{few} --window 0", "--steps", 2, "--seeds", 3, "--limit", 5)
    assert re.findall(r"^\| `(.*)` \| .*%", out, re.MULTILINE) == [few, f"{few} --window 0"]
    assert len(set(re.findall(r"step 2: training loss ([\d.]+)", out))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("words", "cure"), [
    (["-d", "algebra"], "choose from arithmetic"), (["--difficulty", "99"], "must be from 1 to 40"),
    (["--problems", "5"], "problems 5 must be at least 100"), (["-s", "x.pt"], "--style chain"),
    (["--slips", "1"], "must be at least 0 and at most 0.9"), (["-s", "no_save", "16", "8", "20"], "give a block_size"),
])
def test_mistakes_of_training(words, cure):
    assert cure in refuse(TRAIN, *words)


@pytest.mark.slow
def test_inference(trained, tmp_path):
    saved, _ = trained
    out = succeed(INFER, "3*9+6*8?", "-l", saved, "--samples", 5, "--plot", tmp_path / "tree.png", cwd=tmp_path)
    counts = [int(count) for count in re.findall(r"^ *(\d+)x ", out, re.MULTILINE)]
    assert sum(counts) == 5
    assert (tmp_path / "tree.png").read_bytes()[:4] == b"\x89PNG"
    assert succeed(INFER, "3*9+6*8?", "-l", saved, "--samples", 5) == succeed(
        INFER, "-p", "3*9+6*8?", "-l", saved, "--samples", 5), "the same seed, the same chains"
    assert "(wrong)" in out or re.search(r"answer: 4 \(right\)", out)


@pytest.mark.slow
def test_a_set_of_questions(trained):
    out = succeed(INFER, "--eval", "arithmetic", "--difficulty", 3, "-l", trained[0], "--limit", 20, "--samples", 4,
                  "--runs", 2, "-n", 40)
    passed = [float(share) for share in re.findall(r"^run \d: .*pass@4 ([\d.]+)%", out, re.MULTILINE)]
    assert len(passed) == 2 and out.count("80 chains:") == 2
    mean, deviation = re.search(r"of 2 runs: .*pass@4 ([\d.]+)% \+- ([\d.]+)%", out).groups()
    assert float(mean) == pytest.approx(sum(passed) / 2, abs=0.11)
    assert float(deviation) == pytest.approx(abs(passed[0] - passed[1]) / 2, abs=0.11)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--step_beams", 2], ["--refine", 2], ["--most_steps", 2], ["--least_steps", 3],
                                   ["--calculator", "--top_k", 5, "--top_p", 0.9, "--min_p", 0.05],
                                   ["--repetition_penalty", 1.1, "--no_repeat_ngram", 9, "--temperature", 0]])
def test_ways_to_think(trained, words):
    assert succeed(INFER, "3*9+6*8?", "-l", trained[0], "-n", 60, *words).count("x ") >= 1


@pytest.mark.slow
def test_a_verifier_weighs_votes_and_chooses_beams(trained, tmp_path):
    verifier = tmp_path / "verifier.pt"
    words = "--kind", "process", "-s", verifier, "--problems", 20, 8, "5e-3", 8
    succeed("07_cot/verifier.py", "--reasoner", trained[0], *words)
    asked = "3*9+6*8?", "-l", trained[0], "--verifier", verifier, "-n", 60, "--samples", 8
    believed = re.findall(r"^ *(\d+)x ([01]\.\d\d) ", succeed(INFER, *asked), re.MULTILINE)
    assert sum(int(count) for count, _ in believed) == 8, "each chain needs what the verifier thinks of it"
    assert len(re.findall(r"^ *1x [01]\.\d\d ", succeed(INFER, *asked, "--step_beams", 2), re.MULTILINE)) == 2
    assert "no checkpoint" in refuse(INFER, "3*9?", "-l", trained[0], "--verifier", tmp_path / "none.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("words", "cure"), [
    (["what is love?"], "no family knows"), ([], "give a question"), (["1+2?", "--samples", 0], "at least 1"),
    (["1+2?", "-l", "nowhere.pt"], "no checkpoint"), (["1+2?", "--top_p", 2], "above 0"),
    (["--eval", "algebra"], "choose from"), (["1+2?", "--eval", "arithmetic"], "or --eval"),
    (["4827+395?", "--calculator"], "is for arithmetic, programs"), (["--eval", "words", "--plot"], "for one question"),
])
def test_mistakes_of_inference(words, cure):
    assert cure in refuse(INFER, *words)


def test_the_tree_of_thoughts(tmp_path):
    """Chains that begin alike share their steps; votes and marks are those of the chains."""
    texts = ["3*9=7;7+6=3;#3", "3*9=7;7+6=3;#3", "3*9=7;7+6=4;#4", "3*9=8;8+6=4;#4", "3*9=7;"]
    root = tree_of("3*9+6?", [Chain(text) for text in texts], FAMILIES["arithmetic"])
    first = root.children["3*9=7"]
    assert (first.count, first.right, root.children["3*9=8"].right) == (4, True, False)
    assert root.children["3*9=8"].children["8+6=4"].right, "it follows from the wrong one"
    assert first.children["7+6=3"].children["#3"].right and not first.children["7+6=4"].right
    assert votes_of(root) == {"3": 2, "4": 2, "no answer": 1} and root.leaves == 4
    draw_tree(root, tmp_path / "tree.png")
    assert (tmp_path / "tree.png").stat().st_size > 5000


@pytest.mark.slow
def test_with_and_without(tmp_path):
    assert "limit 0 must be at least 1" in refuse("07_cot/with_and_without.py", "--limit", 0)
    assert "choose from" in refuse("07_cot/with_and_without.py", "-d", "algebra")
