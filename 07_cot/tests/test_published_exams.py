"""Exams that anybody may sit: the questions, the prompts, what is kept, going on, and two processes for one exam."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, namedtuple

import checkpoint
import comparison
import corpora
import pytest
import torch
from chat_template import render
from engine import Reply, Request
from exam_questions import EXAMS, PRACTICE, RATIONALES, SUBJECTS, Question, questions, subset
from extraction import final_answer
from flags import UserError
from for_tests import ROOT, heed_ctrl_c, refuse, shared, succeed
from gpt import GPT, GPTConfig
from metrics import accuracy
from prompting import conversation, shots_of, thinking_options
from published_exams import kept, sit
from tokenizer import BPETokenizer

# acts as Qwen3's does: thoughts of past turns are left out, and without thinking an empty thought is written for it
LIKE_QWEN3 = """{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1].lstrip('\\n') }}
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is defined and enable_thinking is false %}
<think>

</think>

{% endif %}{% endif %}"""
TINY = """
import os, sys
for folder in ("checkpoints", "data", "01_tokenizer", "02_attention", "03_gpt", "04_training", "07_cot"):
    sys.path.insert(0, os.path.join(sys.argv[1], folder))
import corpora, torch
from pathlib import Path
from chat_template import teach_to_talk
from distributed import processes
from engine import LocalEngine, Request
from gpt import GPT, GPTConfig
from published_exams import sit
from tokenizer import BPETokenizer
corpora.DATA = Path(sys.argv[2]).parent / "data"
torch.manual_seed(0)
torch.set_num_threads(1)
tokenizer = teach_to_talk(BPETokenizer())
engine = LocalEngine("tiny", GPT(GPTConfig(tokenizer.vocab_size, 16, 2048, 2, 1)), tokenizer)
with processes("cpu"):
    print(*sit(engine, "gsm8k", 9, Request(2, 6, 1.0), 2, path=sys.argv[2]), sep="\\n")
"""


@pytest.fixture(autouse=True)
def real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "DATA", tmp_path / "data")
    monkeypatch.setenv("SHARED_DATA", str(shared("gsm8k/test.jsonl").parents[1]))


class Student:
    """Knows the answers to a share of an exam, by chance of the seed; counts what it was asked."""

    name = "student"

    def __init__(self, exam="gsm8k", knows=0.5, stops_after=None):
        self.answers = {each.text: each.answer for each in questions(exam)}
        self.knows, self.stops_after, self.asked = knows, stops_after, []

    def replies(self, conversations, request):
        found = []
        for messages in conversations:
            if messages[-1]["content"].startswith("Therefore"):
                found.append([Reply("Nobody does.", 1)])
                continue
            text = messages[-1]["content"].partition("\nA. ")[0].partition("\n\nLet's think")[0]
            self.asked.append((request.seed, text))
            if self.stops_after is not None and len(self.asked) > self.stops_after:
                raise KeyboardInterrupt
            chance = random.Random(f"{request.seed} {text}")
            found.append([self.reply(self.answers[text], chance) for _ in range(request.samples)])
        return found

    def reply(self, answer, chance):
        if chance.random() < 0.1:
            return Reply("I do not know.", 4)
        right = chance.random() < self.knows
        return Reply(f"I think.\nThe answer is {answer if right else '77777'}.", 9)


# ---- questions and prompts ----


def test_all_exams():
    sizes = {exam: (len(questions(exam)), len(questions(exam, PRACTICE))) for exam in EXAMS}
    assert sizes["gsm8k"] == (1319, 7473) and sizes["mmlu:college_mathematics"] == (100, 5)
    assert len(SUBJECTS) == 6 and all(dev == 5 for exam, (_, dev) in sizes.items() if exam != "gsm8k")
    first = questions("gsm8k")[0]
    assert first.answer == "18" and "<<" not in first.rationale and first.rationale.endswith("farmer’s market.")
    for question in questions("mmlu:college_computer_science"):
        assert len(question.choices) == 4 and question.answer in "ABCD"


def test_our_reasons_belong_to_their_questions():
    """Each names its right choice, or what that says."""
    for subject, rationales in RATIONALES.items():
        for question, why in zip(questions(f"mmlu:{subject}", PRACTICE), rationales, strict=True):
            assert question.rationale == why
            choice = question.choices["ABCD".index(question.answer)]
            words = re.findall(r"\w+", choice.lower())
            assert sum(word in why.lower() for word in words) >= len(words) / 2 or "three are true" in why, why


def test_a_larger_subset_holds_a_smaller_one():
    found = questions("gsm8k")
    assert subset(found, 50) == subset(found, 400)[:50] and subset(found, 3) != list(enumerate(found))[:3]
    assert sorted(number for number, _ in subset(found)) == list(range(1319))
    for limit in (0, 1320):
        with pytest.raises(UserError, match="1,319"):
            subset(found, limit)


@pytest.mark.parametrize("exam", ["gsm8k", "mmlu:college_mathematics"])
def test_prompts(exam):
    """What is shown is none of the test, its reasons are there only if it is to think, and its form can be read."""
    question, letters = questions(exam)[0], exam != "gsm8k"
    shots = shots_of(exam, "few_shot")
    assert len(shots) == (5 if letters else 8) and not {s.text for s in shots} & {q.text for q in questions(exam)}
    few, direct = (conversation(question, way, shots) for way in ("few_shot", "direct"))
    assert [m["role"] for m in few] == ["user", "assistant"] * len(shots) + ["user"]
    for shot, why, short in zip(shots, few[1::2], direct[1::2]):
        assert why["content"] == f"{shot.rationale}\n{short['content']}"
        assert final_answer(why["content"], letters) == final_answer(short["content"], letters) == shot.answer
    (only,) = conversation(question, "zero_shot")
    assert only["content"] == f"{few[-1]['content']}\n\nLet's think step by step."
    assert "\nD. " in few[-1]["content"] if letters else few[-1]["content"] == question.text
    assert shots_of(exam, "zero_shot") == [] and len(shots_of(exam, "direct", 2)) == 2
    with pytest.raises(UserError, match="may be shown"):
        shots_of(exam, "direct", 9999)
    with pytest.raises(UserError, match="without reasons"):
        shots_of("mmlu:formal_logic", "few_shot")


def test_a_template_with_a_thinking_mode():
    """What Qwen3 is told, and what its thoughts become in a later turn."""
    tokenizer = BPETokenizer().with_chat_template(LIKE_QWEN3)
    asked = conversation(Question("2 + 2?", "4"), "zero_shot")
    texts = [render(asked, tokenizer, True, **thinking_options(tokenizer, thinks)) for thinks in (True, False)]
    assert texts[0].endswith("<|assistant|>") and texts[1] == texts[0] + "<think>\n\n</think>\n\n"
    assert final_answer(texts[1] + "4") == "4" and final_answer("<think>It may be 5.") is None
    later = [*asked, {"role": "assistant", "content": "<think>5?</think>\n\n4"}, *asked]
    assert "5?" not in render(later, tokenizer, True)
    with pytest.raises(UserError, match="no thinking mode"):
        thinking_options(BPETokenizer().with_chat_template("{{ messages }}"))


# ---- sitting an exam ----


def test_figures_are_those_of_the_replies(tmp_path):
    """Counted anew from the file: pass@1, pass@4, maj@4, intervals, and mean absolute deviations of the runs."""
    path, request = tmp_path / "replies.jsonl", Request(4, 64, 0.7)
    lines = list(sit(Student(), "gsm8k", 40, request, runs=3, path=path))
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]
    assert len(records) == 40 * 4 * 3 and all(r["right"] == (r["extracted"] == r["gold"]) for r in records)
    ones = []
    for n in range(3):
        mine = [record for record in records if record["run"] == n]
        ones.append(sum(record["right"] for record in mine) / 160)
        groups = [[r for r in mine if r["number"] == number] for number in {r["number"] for r in mine}]
        any_right = sum(any(r["right"] for r in group) for group in groups) / 40
        low, high = accuracy([ones[n]] * 40)[1:]
        assert f"run {n + 1}: pass@1 {ones[n]:.1%} ({low:.1%} to {high:.1%}), pass@4 {any_right:.1%} (" in lines[n]
        answered = sum(record["extracted"] is not None for record in mine) / 160
        assert f"160 replies, {answered:.1%} with an answer" in lines[n]
    middle = sum(ones) / 3
    deviation = sum(abs(one - middle) for one in ones) / 3
    assert f"of 3 runs: pass@1 {middle:.1%} +- {deviation:.1%}, pass@4" in lines[3] and "maj@4" in lines[3]


def test_interrupted_and_gone_on_with(tmp_path, capsys):
    """No question is asked twice, and it comes out as if nothing had happened; so does a larger limit."""
    request, whole, path = Request(2, 64, 0.7), tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    expected = list(sit(Student(), "gsm8k", 50, request, 2, path=whole))
    first = Student(stops_after=40)
    with pytest.raises(KeyboardInterrupt):
        list(sit(first, "gsm8k", 30, request, 2, path=path))
    assert "the same command goes on" in capsys.readouterr().err
    there = kept(path, json.loads(path.read_text(encoding="utf-8").splitlines()[0])["settings"])
    assert len(there) == 2 * 30, "two batches of 16 and 14 were whole"
    second = Student()
    lines = list(sit(second, "gsm8k", 50, request, 2, path=path))
    assert lines[:-1] == [re.sub(r"[\d.]+ s each", found[0], line) for line, found in zip(
        expected[:-1], [re.search(r"[\d.]+ s each", line) or [""] for line in lines])]
    assert max(Counter(first.asked[:30] + second.asked).values()) == 1 and len(second.asked) == 70
    third = Student()
    assert list(sit(third, "gsm8k", 50, request, 2, path=path)) == lines and not third.asked


def test_a_damaged_last_line_is_asked_again(tmp_path):
    path = tmp_path / "replies.jsonl"
    expected = list(sit(Student(), "gsm8k", 8, path=path))[0].partition(";")[0]
    whole = path.read_bytes()
    for cut in (whole[:-1], whole[:-30], whole[: whole.index(b"\n") - 4], b""):
        path.write_bytes(cut)
        student = Student()
        assert list(sit(student, "gsm8k", 8, path=path))[0].partition(";")[0] == expected
        assert len(student.asked) == (1 if cut.count(b"\n") else 8)
        assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("changes", "words"), [
    ({"request": Request(1, 99)}, "max_new_tokens 64, not 99"), ({"exam": "mmlu:formal_logic"}, "exam gsm8k"),
    ({"prompting": "direct"}, "prompting zero_shot, not direct"), ({"prompting": "nicely"}, "choose from direct"),
    ({"prompting": "letters"}, "no choices"), ({"exam": "mmlu:law"}, "choose from gsm8k"),
    ({"request": Request(2, 64)}, "add --temperature"), ({"runs": 2}, "add --temperature"), ({"limit": 0}, "from 1 to"),
])
def test_what_does_not_fit_is_refused(changes, words, tmp_path):
    path = tmp_path / "replies.jsonl"
    list(sit(Student(), "gsm8k", 2, Request(1, 64), path=path))
    before = path.read_bytes()
    with pytest.raises(UserError, match=words):
        list(sit(Student(), **{"exam": "gsm8k", "limit": 2, "request": Request(1, 64), "path": path} | changes))
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["a note without an end", "something else\nof mine", '{"a": 1}\n', "[]\n", "\n"])
def test_a_file_of_something_else_is_left_alone(text, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="no file of results"):
        list(sit(Student(), "gsm8k", 2, path=path))
    assert path.read_text(encoding="utf-8") == text


def test_a_judge_stands_beside(tmp_path):
    """It gets question, right answer and reply, and what it says changes nothing else."""
    verdict, given = namedtuple("Verdict", "correct"), []

    def judge(triples):
        given.extend(triples)
        return [verdict(None if "not know" in reply else gold in reply) for _, gold, reply in triples]

    plain = list(sit(Student(), "gsm8k", 30, path=tmp_path / "a.jsonl"))
    ran, said, _ = sit(Student(), "gsm8k", 30, path=tmp_path / "b.jsonl", judge=judge)
    assert ran.partition(";")[0] == plain[0].partition(";")[0]
    assert len(given) == 30 and given[0][0] in Student().answers
    silent = sum("not know" in reply for _, _, reply in given)
    assert f"agreement with the exact comparison 100.0%, {silent} without a verdict" in said


def test_thoughts_without_an_answer_are_asked_for_it(tmp_path):
    """Once more, with the thoughts before the question; not those that never ended, and none that had an answer."""
    exam, asked = "mmlu:college_mathematics", []

    class Dreamer:
        name = "dreamer"

        def replies(self, conversations, request):
            asked.extend(conversations)
            given = {"assistant": "B", 0: "Hm.", 1: "<think>Hm.", 2: "The answer is (C)."}
            return [[Reply(given["assistant" if len(talk) > 1 else i % 3], 5)] for i, talk in enumerate(conversations)]

    list(sit(Dreamer(), exam, 30, path=tmp_path / "r.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    assert Counter((line["reply"], line["extracted"], line["tokens"]) for line in lines) == {
        ("Hm.\n\nB", "B", 10): 10, ("<think>Hm.", None, 5): 10, ("The answer is (C).", "C", 5): 10}
    again = asked[30:]
    assert len(again) == 10 and all(talk[:-2] in asked[:30] for talk in again)
    assert again[0][-2:] == [{"role": "assistant", "content": "Hm."},
                             {"role": "user", "content": "Therefore, among A through D, the answer is"}]


def test_letters_of_an_exam(tmp_path):
    """A student who writes is asked for letters; who says how likely texts are is test_likelihood.py's."""
    exam = "mmlu:college_mathematics"
    lines = list(sit(Student(exam, knows=1.0), exam, 20, prompting="few_shot", path=tmp_path / "r.jsonl"))
    answered = float(re.search(r"([\d.]+)% with an answer", lines[0])[1])
    assert f"pass@1 {answered}%" in lines[0] and answered < 100


# ---- processes and signals ----


def sat(tmp_path, path, *start):
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    command = [sys.executable, *start, str(tmp_path / "tiny.py"), str(ROOT), str(path)]
    process = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
                             encoding="utf-8", timeout=300)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: torchrun was not tried on Windows")
def test_two_processes_share_an_exam(tmp_path):
    """What they say together is what one says alone, one summary is printed, and their parts are put together."""
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    alone = sat(tmp_path, one)
    together = sat(tmp_path, two, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    without = [re.sub(r"[\d.]+ s each|\w+\.jsonl", "", out) for out in (alone, together)]
    assert without[0] == without[1] and together.count("run 1:") == 1
    settings, *lines = (json.loads(line) for line in two.read_text(encoding="utf-8").splitlines())
    assert kept(two, settings["settings"]).keys() == kept(one, settings["settings"]).keys()
    assert len(lines) == 9 * 2 * 2 and not list(tmp_path.glob("*.part*"))


def tiny_checkpoint(folder):
    tokenizer = BPETokenizer()
    torch.manual_seed(0)
    model, path = GPT(GPTConfig(tokenizer.vocab_size, 16, 8192, 2, 1, positions="rotary")), folder / "tiny.pt"
    checkpoint.save(path, "gpt", model=model.state_dict(), config=vars(model.config), tokenizer=tokenizer.state(),
                    run={"steps": 1}, progress={"finished": True, "step": 1}, optimizer={})
    return path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: no SIGINT for a child on Windows")
def test_the_comparison_after_ctrl_c(tmp_path):
    """A real signal while the script asks: what was said is kept, the same command goes on, a third asks nothing."""
    words = (tiny_checkpoint(tmp_path), "--results", tmp_path / "kept", "--limit", 2, "--likelihood_limit", 3,
             "--shots", 1, "-n", 8, "-o", tmp_path / "c.png")
    process = subprocess.Popen([sys.executable, str(ROOT / "07_cot/comparison.py"), *map(str, words)], encoding="utf-8",
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c)
    while process.poll() is None and not list((tmp_path / "kept").glob("*.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err and "the same command goes on" in err, err[-2000:]
    out = succeed("07_cot/comparison.py", *words, cwd=tmp_path)
    assert out.count("\n| tiny.pt |") == 3 and "10% accuracy increase" in out and "of 3 |" in out
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
    files = {path: path.read_bytes() for path in (tmp_path / "kept").glob("*.jsonl")}
    assert len(files) == 6 and succeed("07_cot/comparison.py", *words, cwd=tmp_path) == out
    assert files == {path: path.read_bytes() for path in files}


@pytest.mark.slow
def test_mistakes_of_the_comparison():
    assert "must be at least 1" in refuse("07_cot/comparison.py", "--limit", 0)


def test_the_difference_of_pairs():
    """Agresti and Min's interval: that of 0 of 40 is no point, and it holds the true difference as often as it says."""
    chance = random.Random(0)

    def both(count, right):
        rows = [(chance.random() < right, chance.random() < right) for _ in range(count)]
        return [{i: {"right": row[side]} for i, row in enumerate(rows)} for side in (0, 1)]

    same = {i: {"right": False} for i in range(40)}
    middle, low, high, count = comparison.difference(same, same)
    assert middle == 0 and low < -0.01 and high > 0.01 and count == 40
    holds = sum(low <= 0 <= high for _, low, high, _ in (comparison.difference(*both(60, 0.3)) for _ in range(1000)))
    assert 925 <= holds <= 985
    gained = comparison.difference({1: {"right": False}}, {1: {"right": True}, 2: {"right": True}})
    assert gained[0] == 1 and gained[3] == 1, "only questions that both were asked"
