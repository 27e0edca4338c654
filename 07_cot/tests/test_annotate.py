"""Problems of families, of GSM8K and of one's own files: what is right is kept, all else is counted with its reason."""

import json
import random
import re
from collections import Counter
from fractions import Fraction

import annotate
import corpora
import pytest
from annotate import annotated, check_notes, compute, load_annotated, problem_of
from family import Problem, split_of
from flags import UserError
from for_tests import refuse, shared, succeed
from tasks import FAMILIES

SCRIPT = "07_cot/annotate.py"
TWO = {"question": "What is 1+1+1?", "steps": ["1+1=<<1+1=2>>2", "2+1=<<2+1=3>>3"], "answer": "3"}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


# ---- arithmetic ----


def test_terms_equal_python():
    generator = random.Random(0)

    def term(depth):
        if depth == 0:
            return generator.choice(["3", "12", "0.25", "7", ".5", "10."])
        operator = generator.choice(["+", "-", "*", "/", "//"])
        return generator.choice(["{}{}{}", "({}{}{})", "-({}{}{})"]).format(term(depth - 1), operator, term(depth - 1))

    compared = 0
    for _ in range(500):
        text = term(generator.randint(1, 3))
        exactly = re.sub(r"\d+\.?\d*|\.\d+", lambda number: f"Fraction('{number[0]}')", text)
        try:
            wanted = eval(exactly, {"Fraction": Fraction})
        except ZeroDivisionError:
            with pytest.raises(ValueError, match="can't be computed"):
                compute(text)
            continue
        compared += 1
        assert compute(text) == wanted, text
    assert compared > 300


@pytest.mark.parametrize(("text", "value"), [
    ("20%", "1/5"), ("50*20%", "10"), ("1,000+1", "1001"), ("3/4", "3/4"), ("0.1+0.2", "3/10"), ("-3+5", "2"),
    ("2*-3", "-6"), ("560//10", "56"), ("7//2", "3"), (" ( 1 + 2 ) * 3 ", "9"), ("200%%", "1/50"),
])
def test_terms_as_people_write_them(text, value):
    assert compute(text) == Fraction(value)


@pytest.mark.parametrize("text", ["", "1+", "(1", "1)", "1/0", "5%x", "2x", "1 2", "²", "exec(1)", "(" * 9999])
def test_what_can_not_be_computed(text):
    with pytest.raises(ValueError, match="can't be computed"):
        compute(text)


@pytest.mark.parametrize("step", ["no note", "<<3*4=12>>12 pens", "$<<0.5*2=1.00>>1", "<<3/4=3/4>>3/4",
                                  "<<1/4=.25>>.25.", "<<500*2=1000>>1,000, so", "<<240/20=12>>12 200 g bags",
                                  "<<10=10>>"])
def test_notes_that_are_right(step):
    check_notes(step)


@pytest.mark.parametrize(("step", "reason"), [
    ("<<3*4=13>>13", r"a note is wrong: 3\*4=13 \(it is 12\)"), ("<<10/3=3.33>>", r"wrong: .* \(it is 10/3\)"),
    ("<<3*4>>12", "a note is wrong: 3"), ("<<3*x=12>>12", "a note can't be computed"), ("<<3*4=>>12", "can't be"),
    ("<<3*4=12>>13", "a note and the text behind it differ"), ("<<3*4=12", "a note is broken"), (">>", "broken"),
    ("<<<<1=1>>>>", "a note is broken"),
])
def test_notes_that_are_not(step, reason):
    with pytest.raises(annotate.Rejected, match=reason):
        check_notes(step)


# ---- records ----


@pytest.mark.parametrize("record", [
    TWO,
    {"question": " What is 1+1+1? ", "chain": "1+1=<<1+1=2>>2\n\n2+1=<<2+1=3>>3", "answer": 3},
    {"question": "What is 1+1+1?", "chain": "1+1=<<1+1=2>>2;2+1=<<2+1=3>>3;#3", "answer": "3"},
    {"question": "What is 1+1+1?", "answer": "1+1=<<1+1=2>>2\n2+1=<<2+1=3>>3\n#### 3"},
    {"question": "What is 1+1+1?", "steps": ["1+1=<<1+1=2>>2; 2+1=<<2+1=3>>3 "], "answer": "$3"},
])
def test_forms_of_a_record(record):
    assert problem_of(record) == Problem(TWO["question"], tuple(TWO["steps"]), "3")


def test_numbers_as_answers():
    for text, number in (("1,080", "1080"), ("$5", "5"), ("-7", "-7"), ("4 000", "4000"), ("2.5", "2.5"), ("B", "B")):
        problem = problem_of({"question": "?", "answer": f"so it is {text.removeprefix('-')}\n#### {text}"})
        assert problem.answer == number
        annotate.check(problem)


WRONG = {
    "no object with names": ["text"], "no question": {"answer": "1"}, "no answer": {"question": "a?", "answer": None},
    "no steps, no chain, and no #### in the answer": {"question": "a?", "answer": "1"},
    "steps are no list of texts": {"question": "a?", "steps": "1", "answer": "1"},
    "no steps": {"question": "a?", "steps": [], "answer": "1"},
    "the chain ends with another answer": {"question": "a?", "chain": "1;#1", "answer": "2"},
    "a # in a step or answer, where it would begin the answer": {"question": "a?", "steps": ["#1 is 1"], "answer": "1"},
    "a note is wrong": {"question": "a?", "steps": ["<<1+1=3>>3"], "answer": "3"},
    "the answer is not in the last step": {"question": "a?", "steps": ["it is 2", "it is 12.5"], "answer": "2"},
    "the question is there already": {**TWO, "question": "what  is 1+1+1"},
}


def test_each_reason_is_counted_and_shown(tmp_path):
    path = write(tmp_path / "mine.jsonl", TWO, *WRONG.values(), *[WRONG["a note is wrong"]] * 2)
    out = tmp_path / "out.jsonl"
    text = succeed(SCRIPT, "-d", path, "-o", out)
    assert f"{path}: 1 of {len(WRONG) + 3} problems kept" in text
    for i, reason in enumerate(WRONG, 2):
        assert f"rejected {3 if reason == 'a note is wrong' else 1}: {reason}, such as line {i}: " in text
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == [{**TWO, "source": str(path)}]
    assert [each.answer for each in load_annotated(out)] == ["3"]


def test_a_family_judges_chains_of_ones_own(tmp_path):
    lines = [{"question": "3*9+6?", "chain": chain, "answer": chain[-1]} for chain in (
        "3*9=8;8+6=4;#4", "3*9=7;7+6=3;#4", "3*9=7;#7", "3*9=7;7+6=3;#3")]
    lines.append({"question": "How many?", "chain": "1;#1", "answer": "1"})
    out = tmp_path / "out.jsonl"
    text = succeed(SCRIPT, "-d", write(tmp_path / "mine.jsonl", *lines), "-o", out, "--family", "arithmetic")
    assert "1 of 5 problems kept" in text and "a step does not follow, such as line 1: 3*9=8" in text
    assert "rejected 2: the answer does not follow, or is wrong, such as line 2: 4, not 3" in text
    assert "rejected 1: no question of this family, such as line 5" in text
    assert json.loads(out.read_text(encoding="utf-8"))["source"] == "arithmetic"


# ---- whole sets ----


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_written_and_read(name, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "problems.jsonl"
    monkeypatch.setattr("sys.argv", [SCRIPT, "-d", name, "-o", str(out), "--problems", "100", "--seed", "3"])
    annotate.main()
    assert capsys.readouterr().out.startswith(f"{name}: 100 of 100 problems kept: 90 train, 5 validation, 5 test\n")
    assert [path.name for path in out.parent.iterdir()] == ["problems.jsonl"], "written whole or not at all"
    family, seen = FAMILIES[name], Counter()
    for split in ("train", "validation", "test"):
        for problem in load_annotated(out, split):
            assert problem == family.solve(problem.question) and split_of(family, problem.question) == split
            seen[family.normal(problem.question)] += 1
    assert len(seen) == seen.total() == len(load_annotated(out)) == 100


@pytest.mark.slow
def test_gsm8k(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "DATA", tmp_path)
    monkeypatch.setenv("SHARED_DATA", str(shared("gsm8k/train.jsonl").parents[1]))
    for data, count in (("gsm8k", 7473), ("gsm8k/test.jsonl", 1319)):
        monkeypatch.setattr("sys.argv", [SCRIPT, "-d", data, "-o", str(tmp_path / "out.jsonl")])
        annotate.main()
        parts = {split: load_annotated(tmp_path / "out.jsonl", split) for split in ("train", "validation", "test")}
        kept = [problem for part in parts.values() for problem in part]
        assert 0.99 * count < len(kept) < count and len({problem.question for problem in kept}) == len(kept)
        assert 0.88 < len(parts["train"]) / count < 0.92
        assert all(problem.steps and problem.answer.lstrip("-").replace(".", "").isdigit() for problem in kept)
    first = shared("gsm8k/train.jsonl").read_text(encoding="utf-8").partition("\n")[0]
    (natalia,), _ = annotated([("line 1", json.loads(first))])
    assert natalia.steps[0] == "Natalia sold 48/2 = <<48/2=24>>24 clips in May." and natalia.answer == "72"


def test_a_changed_note_of_gsm8k_is_found():
    lines = shared("gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    good, _ = annotated([(i, json.loads(line)) for i, line in enumerate(lines)])
    changed = [Problem(each.question, tuple(step.replace(">>", "1>>") for step in each.steps), each.answer)
               for each in good if any("<<" in step for step in each.steps)]
    kept, rejected = annotated(list(enumerate(changed)))
    assert len(changed) > 150 and not kept and {error.reason for _, error in rejected} == {"a note is wrong"}


@pytest.mark.slow
def test_mistakes_end_in_one_line(tmp_path):
    out = tmp_path / "out.jsonl"
    assert "no problems 'nothing': choose from arithmetic, " in refuse(SCRIPT, "-d", "nothing", "-o", out)
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(TWO) + "\n{broken\n", encoding="utf-8")
    assert f"{path}, line 2: no JSON" in refuse(SCRIPT, "-d", path, "-o", out)
    assert "nothing is left of" in refuse(SCRIPT, "-d", write(tmp_path / "b.jsonl", {}), "-o", out)
    assert "no family 'x'" in refuse(SCRIPT, "-d", write(tmp_path / "c.jsonl", TWO), "-o", out, "--family", "x")
    assert "problems 0" in refuse(SCRIPT, "-d", "knights", "-o", out, "--problems", 0)
    assert "difficulty 99" in refuse(SCRIPT, "-d", "knights", "-o", out, "--difficulty", 99)
    assert not out.exists()
    with pytest.raises(UserError, match="line 1: no question: null: let 07_cot/annotate.py"):
        load_annotated(write(tmp_path / "d.jsonl", {}))
    with pytest.raises(UserError, match="has no problems for"):
        for split in ("train", "validation", "test"):
            load_annotated(write(tmp_path / "e.jsonl", TWO), split)
