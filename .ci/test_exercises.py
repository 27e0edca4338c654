"""Every chapter's exercises: stubs that can be filled, solutions that are right, mistakes that are named."""

import re

import pytest
from for_tests import ROOT, refuse, run, succeed

CHAPTERS = sorted(path.parent.name for path in ROOT.glob("*/exercises.py"))

MISTAKES = {  # (chapter, what a reader may write): what is said of it
    ("01_tokenizer", "def update_counts(counts, ids, pair, new_id): return {}"): "change the dict itself",
    ("01_tokenizer", "def update_counts(counts, ids, pair, new_id): counts[pair] += 1"): "that pair is still counted",
    ("01_tokenizer", "def update_counts(counts, ids, pair, new_id): del counts[pair]"): "no pair with the new token",
    ("01_tokenizer", """
def encode_word(data, merges):
    ids = list(data)
    while at := [i for i, pair in enumerate(zip(ids, ids[1:])) if pair in merges]:
        ids[at[0] : at[0] + 2] = [merges[ids[at[0]], ids[at[0] + 1]]]
    return ids"""): "not the first from the left",
    ("01_tokenizer", "def longest_match(text, tokens): return list(text)"): "not the first",
    ("01_tokenizer", "def cut_number(d): return [d[i : i + 3] for i in range(0, len(d), 3)]"): "from the right",
    ("02_attention", "def causal_weights(q, k): return (q @ k.transpose(-2, -1)).softmax(-1)"): "not the weights",
    ("03_gpt", "def bytes_per_token(l, h, s): return 2 * l * h * s"): "keys and values",
    ("04_training", """
def adamw_step(w, g, m, v, t, lr, beta1, beta2, eps, decay):
    g = g + decay * w
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    return w - lr * m / (1 - beta1**t) / ((v / (1 - beta2**t)) ** 0.5 + eps), m, v"""): "not go through the gradient",
    ("04_training", """
def adamw_step(w, g, m, v, t, lr, beta1, beta2, eps, decay):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    return w - lr * decay * w - lr * m / (v**0.5 + eps), m, v"""): "divide them by 1 - beta^t",
    ("04_training", "def learning_rate(step, steps, highest, warmup, lowest): return highest * step / warmup"):
        "the first step must learn something",
    ("04_training", "def bits_per_byte(loss, tokens, size): return loss * tokens / size"): "those are nats",
    ("04_training", "def discounted(counts, lower, D): return (counts - D).clip(0) / counts.sum()"): "yours sum to",
    ("04_training", """
def newton_schulz(x):
    u, _, v = x.svd()
    return u @ v.T"""): "by a decomposition",
    ("04_training", """
import math
def dpo_loss(pc, pr, rc, rr, beta):
    return math.log1p(math.exp(-beta * (pc - pr)))"""): "where is the reference",
    ("04_training", """
def gae(rewards, values, gamma, smoothing):
    return [r + gamma * n - v for r, v, n in zip(rewards, values, [*values[1:], 0])]"""): "later surprises",
    ("05_bert_mlm", "def score(ids, mask, f): return sum(f([mask] * len(ids), i, t) for i, t in enumerate(ids))"):
        "not hidden all at once",
    ("05_bert_mlm", "def pieces(word, tokens): return ['un', 'aff', 'able']"): "begins with ##",
    ("06_kan", "def backward(x, W, b, d_y): return d_y @ W, d_y.T @ x, d_y.sum(0)"): "multiply d_y by its slope",
    ("07_cot", "def pass_at_k(n, c, k): return 1 - (1 - c / n) ** k"): "none is drawn twice",
}


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_from_the_stub_to_the_solutions(chapter, tmp_path):
    script, answers = f"{chapter}/exercises.py", tmp_path / "answers.py"
    said = succeed(script, answers)
    stub = answers.read_text(encoding="utf-8")
    names = re.findall(r"^def (\w+)\(", stub, re.MULTILINE)
    assert f"{len(names)} functions to fill" in said
    process = run(script, answers)
    assert process.returncode == 1 and process.stdout.split("\n") == [*(f"{name}: not there yet" for name in names), ""]
    pages = "\n".join((ROOT / chapter / page).read_text(encoding="utf-8") for page in ("README.md", "FURTHER.md")
                      if (ROOT / chapter / page).exists())
    solutions = re.findall(r"<details>.*?```python\n(.*?)```", pages, re.DOTALL)
    answers.write_text("\n".join(solutions), encoding="utf-8")
    assert re.findall(r"^(\w+): right$", succeed(script, answers), re.MULTILINE) == names
    wrong = "\n".join(f"def {name}(*words):\n    return None" for name in names)
    answers.write_text(wrong, encoding="utf-8")
    process = run(script, answers)
    assert process.returncode == 1 and ": right" not in process.stdout
    assert "folder that exists" in refuse(script, tmp_path / "nowhere" / "answers.py")


@pytest.mark.slow
@pytest.mark.parametrize("chapter", sorted({chapter for chapter, _ in MISTAKES}))
def test_a_likely_mistake_is_named(chapter, tmp_path):
    for (where, answer), said in MISTAKES.items():
        if where == chapter:
            (tmp_path / "answers.py").write_text(answer, encoding="utf-8")
            assert said in run(f"{chapter}/exercises.py", tmp_path / "answers.py").stdout, answer


def test_an_error_is_told_with_its_line(tmp_path):
    answers = tmp_path / "answers.py"
    for answer, said in {"\ndef cut_number(digits):\n    return digits[99]": ", in line 3",
                         "\ndef cut_number(digits):\n    raise KeyboardInterrupt": "stopped, in line 3"}.items():
        answers.write_text(answer, encoding="utf-8")
        assert said in run("01_tokenizer/exercises.py", answers).stdout
    for answer, said in {"\ndef cut_number(digits)": "line 2)", "\n\n1 / 0": ", in line 3"}.items():
        answers.write_text(answer, encoding="utf-8")
        assert said in refuse("01_tokenizer/exercises.py", answers)
