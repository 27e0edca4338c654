"""Questions and answers made by the thousand: nothing is lost, and nothing made twice."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from hashlib import sha256

import corpora
import pytest
import synthesize
from annotate import load_annotated
from engine import Reply, Request
from family import Problem
from flags import UserError
from for_tests import ROOT, heed_ctrl_c, succeed
from synthesize import Pairs, cut, from_texts, passages, replies_in_parts, whole_replies
from tasks import FAMILIES, draw

SCRIPT = "07_cot/synthesize.py"
PASSAGE = ("The lighthouse of Morrow was built in 1874 by the engineer Ada Finch. It has 212 steps, and its lamp can be"
           " seen for 30 miles. A keeper lived there with two dogs until the lamp was made electric in 1931, and today"
           " the tower is a small museum that opens on Sundays only.")
GOOD = {"question": "Who built the lighthouse of Morrow?", "steps": ["The engineer was Ada Finch."],
        "answer": "Ada Finch"}


def pair(question=GOOD["question"], answer=GOOD["answer"], *steps):
    return Problem(question, steps or ("The engineer was Ada Finch.",), answer)


class Scripted:
    """An engine that says what a function of passage and sample makes; it counts the passages it was asked about."""

    name = "scripted"

    def __init__(self, says):
        self.says, self.asked = says, []

    def replies(self, conversations, request):
        texts = [messages[-1]["content"].removesuffix(synthesize.INSTRUCTION) for messages in conversations]
        self.asked += texts
        return [[Reply(self.says(text, sample), 1) for sample in range(request.samples)] for text in texts]


# ---- passages ----


def test_passages_stand_where_they_say(tmp_path):
    generator = random.Random(0)

    def sentence():
        return " ".join("".join(generator.choices("abcdefg", k=generator.randint(1, 9))) for _ in range(12)) + "."

    for i in range(3):
        paragraphs = [" ".join(sentence() for _ in range(generator.randint(1, 25))) for _ in range(20)]
        (tmp_path / f"{i}.txt").write_text("  \n" + "\n \n".join(paragraphs), encoding="utf-8")
    whole, found = corpora.load(tmp_path), list(passages(str(tmp_path)))
    spans = [origin["span"] for _, origin in found]
    assert len(found) > 30 and [whole[begin:end] for begin, end in spans] == [text for text, _ in found]
    assert all(200 <= len(text) <= 1000 and text == text.strip() for text, _ in found)
    assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:])), "no two overlap"
    assert all(text.endswith(".") for text, _ in found), "only whole sentences"
    assert sum(len(text) for text, _ in found) > 0.95 * len(whole)


def test_paragraphs_stay_whole_where_they_fit():
    a, b, c = "a" * 300, "b" * 600, "c" * 200
    assert [(f"{a}\n\n{b}\n\n{c}")[first:last] for first, last in cut(f"{a}\n\n{b}\n\n{c}")] == [f"{a}\n\n{b}", c]
    table = "| " * 800
    assert [f"{a}\n\n{table}\n\n{c}"[x:y] for x, y in cut(f"{a}\n\n{table}\n\n{c}")] == [a, c], "no sentence is so long"
    assert list(cut("short")) == [] and list(cut("")) == []
    long = "One sentence here. " * 100
    assert all(long[x:y].endswith("here.") for x, y in cut(long)) and len(list(cut(long))) == 2


@pytest.mark.slow
def test_the_same_text_comes_once(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(PASSAGE, encoding="utf-8")
    (found,) = passages(str(tmp_path))
    assert found == (PASSAGE, {"source": str(tmp_path), "span": [0, len(PASSAGE)],
                               "sha256": sha256(PASSAGE.encode()).hexdigest()[:16], "licence": None})
    assert next(passages("pydocs"))[1]["licence"] == "PSF"


# ---- the files ----


@pytest.fixture
def texts(tmp_path):
    """A file with 12 passages about 12 lighthouses, and a function (path, engine, target) -> Pairs."""
    towns = ["Arden", "Brill", "Corby", "Delph", "Elgin", "Frome", "Goole", "Hythe", "Ilkla", "Jura", "Kelso", "Lewes"]
    source = tmp_path / "towers.txt"
    source.write_text("\n\n".join(f"{PASSAGE.replace('Morrow', town)} {'So it is. ' * 60}" for town in towns),
                      encoding="utf-8")

    def run(name, engine, target=1000, apart=None, seed=1, samples=3):
        pairs = Pairs(tmp_path / name, {"model": engine.name, "prompt": synthesize.PROMPT, "seed": seed}, apart)
        from_texts(pairs, [str(source)], partial(whole_replies, engine, request=Request(samples)), target, 2)
        return pairs

    return run


def says(text, sample):
    """Of each tower: one good pair, one that is nearly the same, one that is no JSON."""
    town = re.search(r"of (\w+)", text)[1]
    asked = f"{town}: who built its lighthouse there, which is in {town} and has"
    return [json.dumps({**GOOD, "question": f"{asked} 212 steps?"}), json.dumps({**GOOD, "question": f"{asked} 212?"}),
            "no"][sample]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def untimed(path):
    return [{name: value for name, value in line.items() if name != "time"} for line in lines(path)]


def test_what_is_kept_and_what_is_told(texts, tmp_path):
    pairs = texts("a.jsonl", engine := Scripted(says))
    kept, rejected = lines(tmp_path / "a.jsonl"), lines(tmp_path / "a.rejected.jsonl")
    assert len(kept) == 12 and len(rejected) == 24 and len(engine.asked) == 12
    text = corpora.load(tmp_path / "towers.txt")
    for line in kept:
        begin, end = line["span"]
        assert re.search(r"of (\w+)", text[begin:end])[1] in line["question"]
        assert sha256(text[begin:end].encode()).hexdigest()[:16] == line["sha256"]
        assert {"model": "scripted", "prompt": synthesize.PROMPT, "seed": 1, "licence": None}.items() <= line.items()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line["time"])
    report = "\n".join(pairs.report())
    assert f"{tmp_path / 'towers.txt'}: 12 of 36 problems kept: " in report
    assert "rejected 12: no JSON object with a question, such as at [0, " in report
    assert "rejected 12: nearly the same question is there already" in report
    assert {line["reply"] for line in rejected} > {"no"}, "what was said can be read"
    assert len(load_annotated(tmp_path / "a.jsonl")) == 12


def test_a_run_goes_on_behind_its_last_passage(texts, tmp_path):
    """Stopped by a target or in the middle of a batch, it comes to the same files."""
    texts("whole.jsonl", Scripted(says))
    texts("parts.jsonl", Scripted(says), target=3)
    assert len(lines(tmp_path / "parts.jsonl")) == 4, "a batch is ended"

    def stops(text, sample):
        if "Hythe" in text:
            raise KeyboardInterrupt
        return says(text, sample)

    with pytest.raises(KeyboardInterrupt):
        texts("parts.jsonl", Scripted(stops))
    assert len(lines(tmp_path / "parts.jsonl")) == 6
    texts("parts.jsonl", last := Scripted(says))
    assert len(last.asked) == 6, "no passage is asked about again"
    for kind in ("", ".rejected"):
        assert untimed(tmp_path / f"parts{kind}.jsonl") == untimed(tmp_path / f"whole{kind}.jsonl")
    texts("parts.jsonl", last := Scripted(says))
    assert not last.asked


@pytest.mark.parametrize("damage", ['{"question": "Wh', '{"question": "Who?"}'])
def test_a_damaged_last_line_is_dropped(texts, tmp_path, damage):
    """A line without its end may be cut off, even if it can be read."""
    texts("a.jsonl", Scripted(says))
    before = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(before + damage.encode())
    texts("a.jsonl", engine := Scripted(says))
    assert (tmp_path / "a.jsonl").read_bytes() == before and not engine.asked


def test_a_pair_in_parts():
    """Each thought and answer is asked for with the passage and the question that it belongs to."""
    class Parts:
        def replies(self, conversations, request):
            asked.append(request)
            return [[Reply(f" {messages[0]['content']} | {sample}", 1) for sample in range(request.samples)]
                    for messages in conversations]

    asked, (question, step, answer) = [], synthesize.PARTS
    found = replies_in_parts(Parts(), ["a", "b"], Request(2, seed=5))
    assert [request.samples for request in asked] == [2, 1, 1]
    assert all(request.stop == ("\n",) and request.seed == 5 for request in asked)
    for text, replies in zip("ab", found):
        questions = [f"{text}\n\n{question} | {sample}" for sample in (0, 1)]
        assert [json.loads(reply) for reply in replies] == [
            {"question": q, "steps": [f"{text}\n\n{step} {q} | 0"], "answer": f"{text}\n\n{answer} {q} | 0"}
            for q in questions]


def test_what_is_no_character_harms_nothing(texts, tmp_path):
    """JSON can say half of a pair of surrogates, which no file can hold."""
    texts("a.jsonl", Scripted(lambda text, sample: json.dumps({**GOOD, "question": "\ud83d?"})))
    assert len(lines(tmp_path / "a.rejected.jsonl")) == 36


def test_other_settings_need_another_file(texts, tmp_path):
    texts("a.jsonl", Scripted(says), target=1)
    with pytest.raises(UserError, match="a.jsonl was made in another way, and not with seed 2: name another file"):
        texts("a.jsonl", Scripted(says), seed=2)
    (tmp_path / "b.jsonl").write_text('{"text": "no pair"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="made in another way"):
        texts("b.jsonl", Scripted(says))


def test_an_exam_stays_apart(texts, tmp_path):
    exam = {"Frome: who built its lighthouse there, which is in Frome and has 212 steps then?": "exam, line 1"}
    texts("a.jsonl", Scripted(says), apart=exam)
    assert len(lines(tmp_path / "a.jsonl")) == 11 and "Frome" not in (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    assert sum(line["reason"] == "the question must stay apart" for line in lines(tmp_path / "a.rejected.jsonl")) == 2


# ---- whole scripts ----


@pytest.fixture
def call(monkeypatch, capsys):
    """The script's words -> what it prints, without a process of its own."""
    def run(*words):
        monkeypatch.setattr("sys.argv", [SCRIPT, *map(str, words)])
        synthesize.main()
        return capsys.readouterr().out

    return run


def test_all_families(call, tmp_path):
    out = tmp_path / "new" / "pairs.jsonl"
    exam, (first, *_) = tmp_path / "exam.jsonl", draw("arithmetic", "train", 1, 1337)
    exam.write_text(json.dumps({"question": first.question}) + "\n", encoding="utf-8")
    text = call("-o", out, "--target", 200, "--apart", exam)
    assert text.count("problems kept") == len(FAMILIES) and "199 pairs in" in text
    assert "rejected 1: the question must stay apart" in text
    kept = lines(out)
    for line in kept:
        family = FAMILIES[line["source"]]
        right, answer = family.judge(line["question"], line["steps"])
        assert all(right) and answer == line["answer"] and line["model"] == synthesize.EXACT
    parts = [len(load_annotated(out, split)) for split in ("train", "validation", "test")]
    assert sum(parts) == 199 == len(load_annotated(out)) and parts[1:] == [9, 9]
    assert call("-o", out, "--target", 200, "--apart", exam) == text, "nothing is made or rejected twice"
    call("-o", out, "--target", 300)
    assert lines(out)[:199] == kept and len(lines(out)) == 299, "more of them go behind"


@pytest.mark.slow
def test_pairs_teach_to_answer(texts, talker, tmp_path):
    """What is kept is understood by 04_training/sft.py and by 07_cot/train.py."""
    texts("a.jsonl", Scripted(says))
    told = succeed("04_training/sft.py", "-d", tmp_path / "a.jsonl", "-l", talker, "-s", "no_save", 2, 512,
                    "1e-3", 2)
    assert "11 conversations to learn from, 1 held out" in told
    words = "--style", "chain", "-s", "no_save", 16, 8, 512, "5e-3", 2, 2, 2
    succeed("07_cot/train.py", "-d", tmp_path / "a.jsonl", *words)


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A tiny model of characters that says nothing of sense."""
    folder = tmp_path_factory.mktemp("talker")
    text, saved = folder / "characters.txt", folder / "tiny.pt"
    text.write_text("".join(map(chr, range(32, 127))) + "\n" + f"{PASSAGE}\n" * 40, encoding="utf-8")
    succeed("03_gpt/lm_model.py", "-t", "char", "-d", text, "-s", saved, 8, 1, 4096, "1e-3", 1, 2, 1, 0)
    return saved


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_a_model_on_this_machine_and_ctrl_c(talker, call, tmp_path):
    """Nothing of what it says is a pair: all is told, and Ctrl-C ends with the report; a rerun goes on."""
    source, out = tmp_path / "text.txt", tmp_path / "pairs.jsonl"
    source.write_text("\n\n".join(f"{PASSAGE} {i}. {'So it is. ' * 60}" for i in range(400)), encoding="utf-8")
    words = [sys.executable, ROOT / SCRIPT, "-d", source, "-l", talker, "-o", out, "--samples", 1, "-n", 4,
             "--concurrency", 1, "--in_parts"]
    rejected = out.with_suffix(".rejected.jsonl")
    counts = []
    for _ in range(2):
        process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   encoding="utf-8", preexec_fn=heed_ctrl_c)
        until = time.monotonic() + 60
        before = len(lines(rejected)) if rejected.exists() else 0
        while not rejected.exists() or len(lines(rejected)) < before + 2:
            assert time.monotonic() < until and process.poll() is None, process.communicate()[1][-2000:]
            time.sleep(0.02)
        with pytest.raises(UserError, match="another process writes to"):
            call(*words[2:])
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "stopped" in errors and "rejected " in told and "0 pairs in" in told
        counts.append([tuple(line["span"]) for line in lines(rejected)])
    assert counts[1][: len(counts[0])] == counts[0] and len(set(counts[1])) == len(counts[1]), "none is asked twice"


def test_an_endpoint_is_asked(call, tmp_path, monkeypatch):
    made = []

    def endpoint(url, model, concurrency):
        made.append((url, model, concurrency))
        return Scripted(lambda text, sample: json.dumps(GOOD))

    monkeypatch.setattr(synthesize, "Endpoint", endpoint)
    (tmp_path / "a.txt").write_text(PASSAGE, encoding="utf-8")
    told = call("-d", tmp_path / "a.txt", "--endpoint", "http://x/v1", "--endpoint_model", "big",
                "-o", tmp_path / "pairs.jsonl")
    assert made == [("http://x/v1", "big", 8)] and "1 of 4 problems kept" in told


@pytest.mark.parametrize(("words", "cure"), [
    (["-d", "nowhere", "-l", "x.pt"], "no checkpoint"), (["-d", "pydocs"], "Name one: -l smollm2"),
    (["-d", "pydocs", "-l", "x", "--endpoint", "y"], "Name one"), (["-d", "knights", "pydocs"], "a file of their own"),
    (["--target", 0], "at least 1"), (["--temperature", -1], "at least 0"), (["--apart", "none.jsonl"], "none.jsonl"),
    (["--apart", ROOT / "07_cot" / "tasks.py"], "no JSON"),
])
def test_mistakes_name_their_cure(words, cure, call, tmp_path):
    with pytest.raises((UserError, FileNotFoundError), match=re.escape(cure)):
        call(*words, "-o", tmp_path / "pairs.jsonl")
    assert not (tmp_path / "pairs.jsonl").exists()
