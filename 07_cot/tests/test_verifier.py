"""Verifiers: their labels beside the exact checker's, where they read, their AUC, and that they learn."""

import copy
import random

import checkpoint
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import vote_curve
from batches import pad_rows
from chain_labels import auc, example, is_solved, places, step_labels
from for_tests import oracle, refuse, succeed
from gpt import GPT, GPTConfig
from optimizers import make_optimizer
from problem_batches import new_tokenizer
from reasoner import PARTS
from tasks import FAMILIES, draw
from verifier import KINDS, Verifier, readings, score, scores

TOKENIZER = new_tokenizer()
ARITHMETIC = FAMILIES["arithmetic"]


def tiny(seed=0, kind="process"):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(TOKENIZER.vocab_size, 32, 128, 2, 2, key_value_head_count=2, window=4, **PARTS))
    verifier = Verifier(model, kind).eval()
    verifier.head.weight.data.normal_()
    return verifier


def spoilt(problem, generator):
    """A chain with some steps changed, and an answer that may be."""
    steps = [step[:-1] + generator.choice("0123456789") if generator.random() < 0.2 else step for step in problem.steps]
    answer = problem.answer if generator.random() < 0.5 else generator.choice("0123456789")
    return "".join(f"{step};" for step in steps) + f"#{answer}"


def judged(count, seed):
    generator = random.Random(seed)
    return [(each.question, spoilt(each, generator)) for each in draw("arithmetic", "train", count, seed, 3)]


def test_a_chain_is_read_at_each_step_and_at_its_end():
    assert places("3*9=7;7+6=3;#3") == [5, 11, 14], "what ends the text stands behind the answer"
    assert places("3*9=7;7+6") == [5, 8] and places("3*9=7;") == [5], "the beginning of a chain has no end yet"
    assert places("3*9=7#7;") == [8], "a ; of the answer ends no step"


@pytest.mark.parametrize("name", ["arithmetic", "countdown", "words", "programs", "addition"])
def test_labels_equal_the_checkers_verdict_on_each_prefix(name):
    """Each label by asking the checker anew about the chain up to there."""
    family, generator = FAMILIES[name], random.Random(5)
    for problem in draw(name, "train", 40, 1):
        text = spoilt(problem, generator)
        steps = text.partition("#")[0].split(";")[:-1]
        wanted = [all(family.judge(problem.question, steps[: i + 1])[0]) for i in range(len(steps))]
        wanted.append(wanted[-1] and family.right(problem.question, text.partition("#")[2]))
        found = step_labels(family, problem.question, text)
        asked = sum(wanted) + 1  # up to the first mistake
        assert found[:asked] == wanted[:asked] and len(found) == len(places(text)), f"{problem.question} {text}"
        assert set(found[asked:]) <= {-100}, "what comes behind a mistake is not asked"
        assert step_labels(family, problem.question, problem.chain) == [1] * (len(problem.steps) + 1)


def test_labels_of_broken_chains():
    question = "3*9+6?"
    for text, wanted in (("3*9=7;7+6=3;#3", [1, 1, 1]), ("3*9=8;8+6=4;#4", [0, -100, -100]),
                         ("3*9=7;7+6=3;#4", [1, 1, 0]), ("3*9=7;7+6=3#3", [1, 1]), ("3*9=7;7+6=4#4", [1, 0]),
                         ("3*9=8;7+6=3;#3", [0, -100, -100]), ("3*9=7;7+6=3;", [1, 0]), ("", [0])):
        assert step_labels(ARITHMETIC, question, text) == wanted, text
    assert is_solved(ARITHMETIC, question, "3*9=8;7+6=3;#3"), "an outcome is right, whatever led there"
    assert not is_solved(ARITHMETIC, question, "3*9=7;7+6=3;") and not is_solved(FAMILIES["countdown"], "1 2 7=10?", "")


def test_where_labels_stand():
    question, text = "3*9+6?", "3*9=7;7+6=4;#3"
    end = len(question) + len(text)
    ids, labels, following = example("process", ARITHMETIC, question, text, TOKENIZER)
    assert len(ids) == len(labels) == len(following) == end + 1 and ids[end] == TOKENIZER.end_of_text
    assert {i: label for i, label in enumerate(labels) if label != -100} == {11: 1, 17: 0}
    assert TOKENIZER.decode([ids[11], ids[17]]) == ";;"
    assert TOKENIZER.decode(following[5:11]) == "3*9=7;", "what is right is imitated, from the ? on"
    assert set(following[:5] + following[11:]) == {-100}, "a wrong step was imitated"
    _, labels, following = example("outcome", ARITHMETIC, question, text, TOKENIZER)
    assert {i: label for i, label in enumerate(labels) if label != -100} == {end: 1}
    assert following[5:] == [*ids[6:], -100] and set(following[:5]) == {-100}
    assert set(example("outcome", ARITHMETIC, question, "3*9=7;#7", TOKENIZER)[2]) == {-100}
    _, labels, _ = example("outcome", ARITHMETIC, question, text, TOKENIZER, all_tokens=True)
    assert labels == [-100] * len(question) + [1] * (len(text) + 1)


def test_the_loss_is_the_cross_entropy_of_what_is_asked():
    verifier = tiny()
    ids, labels, following = zip(*(example("process", ARITHMETIC, *pair, TOKENIZER) for pair in judged(8, 0)))
    ids, labels, following = pad_rows(ids), pad_rows(labels, -100), pad_rows(following, -100)
    with torch.no_grad():
        chance = verifier.logits(verifier.model.hidden(ids)).sigmoid()
        asked = [(chance[at], label) for at, label in np.ndenumerate(labels.numpy()) if label != -100]
        wanted = F.binary_cross_entropy(torch.stack([p for p, _ in asked]), torch.tensor([float(y) for _, y in asked]))
        assert verifier(ids, labels)[1].item() == pytest.approx(wanted.item(), rel=1e-5)
        assert verifier(ids, labels, following)[1].item() == pytest.approx(wanted.item(), rel=1e-5), "no imitation here"
        verifier.imitation = 0.5
        writing = verifier.model(ids, following)[1]
        assert verifier(ids, labels, following)[1].item() == pytest.approx((wanted + writing / 2).item(), rel=1e-5)


def test_what_is_read_depends_on_no_other_chain():
    verifier = tiny()
    pairs = [("3*9+6?", "3*9=7;7+6=3;#3"), ("3*9+6?", "3*9=8;"), ("1+2+3+4+5?", "1+2=3;3+3=6;6+4=0;#0")]
    together = readings(verifier, TOKENIZER, [*pairs, pairs[0]])
    assert together[0] == together[3] and [len(each) for each in together] == [3, 1, 4, 3]
    for pair, found in zip(pairs, together):
        assert readings(verifier, TOKENIZER, [pair])[0] == pytest.approx(found, abs=1e-5), "was padding seen?"
    beginning = readings(verifier, TOKENIZER, [("3*9+6?", "3*9=7;")])[0]
    assert beginning[0] == pytest.approx(together[0][0], abs=1e-5), "what comes later changed what a step is worth"


def test_a_score_is_the_product_of_readings_or_the_last():
    assert score("process", [0.9, 0.2, 0.8]) == pytest.approx(0.144) and score("outcome", [0.9, 0.2, 0.8]) == 0.8
    for kind in KINDS:
        verifier = tiny(kind=kind)
        questions, texts = ["1+2?", "3*9+6?"], [["1+2=3;#3"], ["3*9=7;7+6=3;#3", "3*9=8;"]]
        found = scores(verifier, TOKENIZER, questions, texts)
        pairs = [(questions[0], texts[0][0]), (questions[1], texts[1][0]), (questions[1], texts[1][1])]
        flat = [score(kind, read) for read in readings(verifier, TOKENIZER, pairs)]
        assert found == [flat[:1], flat[1:]]


def test_auc_equals_a_count_of_pairs_and_scipy():
    generator, stats = np.random.default_rng(0), oracle("scipy.stats")
    for _ in range(50):
        labels, values = generator.random(40) < 0.3, generator.integers(6, size=40) / 5  # many are equal
        labels[:2] = True, False
        right, wrong = values[labels][:, None], values[~labels][None]
        pairs = ((right > wrong) + 0.5 * (right == wrong)).mean()
        assert auc(values, labels) == pytest.approx(pairs, abs=1e-12), "do equal values count half?"
        u = stats.mannwhitneyu(values[labels], values[~labels]).statistic
        assert auc(values, labels) == pytest.approx(u / (right.size * wrong.size), abs=1e-12)
    assert auc([1, 2, 3], [0, 0, 1]) == 1 and auc([1, 2, 3], [1, 0, 0]) == 0 and np.isnan(auc([1, 2], [1, 1]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_verifier_learns_chains_by_heart(kind):
    verifier = tiny(kind=kind)
    before = copy.deepcopy(verifier.model.state_dict())
    pairs = judged(16, 3)
    ids, labels, _ = zip(*(example(kind, ARITHMETIC, *pair, TOKENIZER) for pair in pairs))
    ids, labels = pad_rows(ids), pad_rows(labels, -100)
    optimizer = make_optimizer(verifier, "muon", 1e-2, 0.01)
    for _ in range(120):
        loss = verifier(ids, labels)[1]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05, "a batch that is seen again and again must be learned by heart"
    assert any((w != before[name]).any() for name, w in verifier.model.state_dict().items())
    found = [score(kind, read) for read in readings(verifier, TOKENIZER, pairs)]
    last = [example(kind, ARITHMETIC, *pair, TOKENIZER)[1][-1] == 1 for pair in pairs]
    assert auc(found, last) == 1


SMALL = ("--problems", 20, "--samples", 2, 8, 1e-3, 12)


@pytest.fixture(scope="module")
def reasoner(tmp_path_factory):
    path = tmp_path_factory.mktemp("reasoners") / "small.pt"
    succeed("07_cot/train.py", "--style", "chain", "--difficulty", 2, "--problems", 300, "-s", path,
            32, 32, 64, 1e-2, 60, 2, 2)
    return path


@pytest.fixture(scope="module")
def verifiers(reasoner):
    said = succeed("07_cot/verifier.py", "-d", "arithmetic", "--reasoner", reasoner, *SMALL)
    return said, [reasoner.with_stem(f"small_{kind}") for kind in KINDS]


@pytest.mark.slow
def test_both_kinds_train_as_long_on_the_same_chains_and_tell_their_auc(reasoner, verifiers):
    said, paths = verifiers
    assert said.count("held-out chains") == 2 and said.count("AUC") == 3 and "40 chains of 20 problems" in said
    found = [checkpoint.load(path, "verifier") for path in paths]
    same = ("steps", "batch_size", "seed", "problems", "samples", "temperature")
    assert [each["run"]["kind"] for each in found] == list(KINDS)
    assert all(found[0]["run"][name] == found[1]["run"][name] for name in same)
    again = succeed("07_cot/verifier.py", "-d", "arithmetic", "--reasoner", reasoner, *SMALL, "--kind", "outcome",
                    "-l", reasoner.with_stem("small_outcome"), "-s", "no_save")
    assert "outcome: AUC" in again


@pytest.mark.slow
def test_the_curve_measures_what_its_figure_needs(reasoner, verifiers, monkeypatch):
    monkeypatch.setattr(vote_curve, "ensure_early", lambda data, seed: reasoner)
    monkeypatch.setattr(vote_curve, "ensure_verifiers", lambda data, kinds, seed: verifiers[1])
    args = vote_curve.arguments().parse(["--limit", "40", "--samples", "4"])
    record = vote_curve.measured("arithmetic", 1, args)
    assert 0 <= record["greedy"] <= 1 and record["seconds"]["greedy"] > 0
    for name in ("sampling", *KINDS):
        assert len(record["seconds"][name]) == 3 and min(record["seconds"][name]) > 0
    shares = record["accuracy"]
    assert len({tuple(each[:1]) for each in shares.values()}) == 1, "with one sample there is nothing to choose"
    assert all(share <= most for each in shares.values() for share, most in zip(each, shares["pass@N"]))
    again = vote_curve.measured("arithmetic", 1, args)
    assert record == again | {"seconds": record["seconds"]}, "the same seed must give the same answers"


@pytest.mark.slow
def test_an_unfinished_run_goes_on(reasoner, tmp_path):
    words = ("-d", "arithmetic", "--reasoner", reasoner, "--kind", "process", *SMALL)
    succeed("07_cot/verifier.py", *words, "-s", tmp_path / "whole.pt")
    half = checkpoint.load(tmp_path / "whole.pt", "verifier")
    half["progress"] |= {"finished": False, "step": 11}
    del half["format"], half["kind"]
    checkpoint.save(tmp_path / "half.pt", "verifier", **half)
    said = succeed("07_cot/verifier.py", *words, "-l", tmp_path / "half.pt")
    assert "after step 11" in said and checkpoint.load(tmp_path / "half.pt", "verifier")["progress"]["finished"]


@pytest.mark.slow
def test_mistakes_are_told_in_one_line(reasoner, tmp_path):
    script = "07_cot/verifier.py"
    assert "choose from" in refuse(script, "-d", "poems")
    assert "--reasoner" in refuse(script, "-d", "knights"), "no early reasoner: say how one comes about"
    assert "solves arithmetic" in refuse(script, "-d", "countdown", "--reasoner", reasoner)
    assert "at least 1" in refuse(script, "--samples", 0)
    assert "more than 0" in refuse(script, "--temperature", 0)
    assert "--kind process or" in refuse(script, "-s", tmp_path / "both.pt")
