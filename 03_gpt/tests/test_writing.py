"""infer.py as a reader would run it: one text, several, a conversation; and what it refuses."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict

import checkpoint
import flags
import pytest
import torch
import writing
from char_tokenizer import CharTokenizer
from for_tests import ROOT, oracle, refuse, run, skip, succeed
from gpt import GPT, GPTConfig
from tokenizer import BPETokenizer
from writing_flags import check_generation, generation_flags

SCRIPT = "03_gpt/infer.py"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of a model that has learned nothing: it writes bytes at random."""
    torch.manual_seed(0)
    tokenizer, config = BPETokenizer(), GPTConfig(vocab_size=257, embedding_size=16, block_size=16, head_count=2,
                                                  layer_count=1)
    path = tmp_path_factory.mktemp("models") / "random.pt"
    run = {"steps": 1, "batch_size": 1, "learning_rate": 1.0, "dropout": 0.0, "seed": 1}
    checkpoint.save(path, "gpt", model=GPT(config).state_dict(), config=asdict(config), tokenizer=tokenizer.state(),
                    run=run, progress={"step": 1, "finished": True})
    return path


def write(saved, *words, **environment):
    """What infer.py prints after the line about the machine."""
    return succeed(SCRIPT, "-l", saved, "-n", 12, *words, **environment).partition("\n")[2]


@pytest.mark.slow
def test_one_text(saved):
    out = write(saved, "First", "--top_p", 1, "--stats")
    match = re.fullmatch(r"---- prompt\nFirst\n---- the model goes on\n(.|\n)+\n---- \(12 tokens, \d+\.\d s"
                         r": the first after \d+\.\d{3} s, then \d+\.\d tokens/s\)\n", out)
    assert match, out


@pytest.mark.slow
def test_samples_best_of_and_beams(saved):
    samples = re.split(r"---- the model goes on, sample \d of 3\n|---- \(", write(saved, "a", "--samples", 3))[1:4]
    assert len(set(samples)) == 3
    assert write(saved, "a", "--best_of", 3).split("goes on\n")[1].split("---- (")[0] in samples
    assert "---- (12 tokens" in write(saved, "a", "--beams", 3)


@pytest.mark.slow
def test_log_probabilities(saved):
    out = write(saved, "a", "--logprobs", "--temperature", 0)
    mean, lines = re.search(r"---- log-probability of each token, mean (-\d+\.\d{3})\n((?:.|\n)*)---- \(", out).groups()
    numbers = [float(line.split()[0]) for line in lines.splitlines()]
    assert len(numbers) == 12 and abs(sum(numbers) / 12 - float(mean)) < 0.002


@pytest.mark.slow
def test_stop_strings_end_the_text_and_are_not_shown(saved):
    words = ("a", "--temperature", 1, "--top_p", 1, "-n", 200)
    text = write(saved, *words).split("goes on\n")[1].split("\n---- (")[0]
    letter = next(letter for letter in text[5:] if letter.isalnum() and letter not in "\ufffd")
    out = write(saved, *words, "--stop", letter, "--stop", "never said")
    assert out.split("goes on\n")[1].split("\n---- (")[0] == text[: text.index(letter)]
    assert "(200 tokens" not in out, "does it go on where nothing is shown any more?"
    out = write(saved, *words, "--stop", letter, "--samples", 3)
    assert letter not in "".join(re.split(r"---- .*\n", out)) and "(600 tokens" not in out


@pytest.mark.slow
def test_a_file_of_prompts(saved, tmp_path):
    file = tmp_path / "prompts.txt"
    prompts = [f"{'long ' * (i % 3)}prompt {i}" for i in range(20)]  # more than fit in one batch
    file.write_text("\n\n".join(prompts), encoding="utf-8")
    out = write(saved, "--prompts", file, "--temperature", 0)
    assert re.findall(r"---- prompt\n(.*)\n---- the model goes on\n", out) == prompts
    assert "---- (240 tokens" in out
    for number in (0, 19):
        alone = write(saved, prompts[number], "--temperature", 0).split("---- (")[0]
        assert alone in out, "is it continued otherwise beside others, or streamed with broken characters?"


def converse(saved, *words):
    return subprocess.Popen(
        [sys.executable, str(ROOT / SCRIPT), "-l", str(saved), "--interactive", *map(str, words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        # a test run in the background is deaf to Ctrl-C, and so would be what it starts
        preexec_fn=None if sys.platform == "win32" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
def test_a_conversation(saved):
    process = converse(saved, "-n", 5, "--temperature", 0, "--stats")
    out, errors = process.communicate("First\n\nSecond\nFirst\n")
    assert process.returncode == 0 and not errors
    answers = re.split(r"\n---- \(.*tokens.*\)\n", out.partition("\n")[2])
    assert len(answers) == 4 and answers[0] == answers[2] and answers[3] == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_ctrl_c_ends_one_answer_and_not_the_conversation(saved):
    process = converse(saved, "-n", 10_000_000, "--top_k", 1)
    process.stdin.write("First\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.read(20)  # the answer has begun
    process.send_signal(signal.SIGINT)
    out = process.stdout.read(1)
    while not out.endswith("---- (stopped)\n"):
        out += (more := process.stdout.read(1))
        assert more, f"the conversation ended: {process.stderr.read()}"
    process.stdin.write("Second\n")
    process.stdin.flush()
    assert process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert out.endswith("---- (stopped)\n") and process.returncode == 0, errors


def letters(ids):
    return "".join(chr(ord("A") + i) for i in ids)


@pytest.mark.slow
def test_an_answer_of_real_weights_ends_where_the_model_ends_it(peers, tmp_path):
    """A folder as the hub has them, with a turn's end beside that of a text, as in Llama 3's."""
    theirs, _ = peers
    prompt = torch.tensor([[5, 6, 7]])
    expected = theirs.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None)[0, 3:].tolist()
    end = expected[4]
    expected = expected[: expected.index(end)]
    theirs.generation_config.eos_token_id = [1, end]
    theirs.save_pretrained(tmp_path)
    tokenizers = oracle("tokenizers")
    vocab = {"<|endoftext|>": 1, **{letters([i]): i for i in range(40) if i != 1}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    out = write(tmp_path, "FGH", "--temperature", 0)
    assert f"---- the model goes on\n{letters(expected)}\n---- ({len(expected) + 1} tokens" in out, "is the end shown?"


def test_the_flags_of_beam_search(peers, capsys):
    theirs, ours = peers
    stop_tokens = tuple(range(1, 40, 2))
    texts = set()
    for words, length_penalty, early_stopping in (
        ("", 1.0, False), ("--length_penalty -4", -4.0, False), ("--length_penalty 4", 4.0, False),
        ("--early_stopping", 1.0, True),
    ):
        ids = theirs.generate(
            torch.tensor([[5, 6, 7]]), max_new_tokens=12, do_sample=False, num_beams=3, eos_token_id=stop_tokens,
            length_penalty=length_penalty, early_stopping=early_stopping,
        )[0, 3:].tolist()
        parser = flags.Parser("test")
        generation_flags(parser, "nothing")
        flags.machine_flags(parser)
        args = parser.parse(["-n", "12", "--beams", "3", *words.split()])
        check_generation(args)
        writing.write(ours, torch.float32, CharTokenizer(letters(range(39))), [[5, 6, 7]], args, stop_tokens)
        text = letters(i for i in ids if i not in stop_tokens)
        assert f"---- the model goes on\n{text}\n---- ({len(ids)} tokens" in capsys.readouterr().out
        texts.add(tuple(ids))
    assert len(texts) == 4, "the flags must make a difference here, or nothing is tested"


@pytest.mark.slow
def test_compiled_it_writes_the_same(saved, tmp_path):
    if not any(map(shutil.which, ("g++", "clang++"))):
        skip("no C++ compiler for torch.compile")
    words = ("Fir", "--temperature", 0, "--logprobs")
    expected, compiled = write(saved, *words), write(saved, *words, "--compile", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert compiled.partition("---- log")[0] == expected.partition("---- log")[0]
    numbers = [list(map(float, re.findall(r"-\d+\.\d{3}", out))) for out in (expected, compiled)]
    assert len(numbers[0]) == 13 and numbers[1] == pytest.approx(numbers[0], abs=0.002)
    sources = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.cpp")]
    assert any("tanh" in source for source in sources), "has the model's GELU been compiled, or the trial only?"


@pytest.mark.slow
def test_without_a_compiler(saved, tmp_path):
    environment = {"CXX": "missing-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    process = run(SCRIPT, "-l", saved, "-n", 2, "--compile", **environment)
    assert process.returncode == 2 and "leave out --compile" in process.stderr.splitlines()[-1], process.stderr


@pytest.mark.slow
def test_mistakes_end_in_one_line_with_the_cure(saved, tmp_path):
    common = (SCRIPT, "-l", saved)
    for words, message in (
        (("--min_p", 2), "min_p 2.0 must be at least 0"), (("-p", "a", "--prompts", "b"), "choose one"),
        (("--interactive", "--samples", 2), "--interactive shows one answer"),
        (("--prompts", tmp_path / "missing.txt"), "missing.txt"), (("--prompts", saved), "is no UTF-8 text"),
        (("--prompts", os.devnull), "has no prompt"),
        (("--length_penalty", 2), "add --beams 4"), (("--early_stopping", "--samples", 2), "add --beams 4"),
        (("--beams", 2, "--length_penalty", 400), "length_penalty 400.0 must be at least -10 and at most 10"),
    ):
        assert message in refuse(*common, *words)


@pytest.mark.slow
def test_looking_inside(saved, tmp_path):
    out = write(saved, "--nearest", "a", "--analogy", "a", "b", "c")
    assert "nearest to 'a':" in out and "'b' - 'a' + 'c':" in out
    assert len(re.findall(r"^ +-?\d\.\d{3}  ['\"]", out, re.MULTILINE)) == 16
    assert "attention maps" in write(saved, "-p", "First", "--attention_maps", tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes()[:4] == b"\x89PNG"
    assert "'hello' is 5 tokens" in refuse(SCRIPT, "-l", saved, "--nearest", "hello")
    assert "0 tokens" in refuse(SCRIPT, "-l", saved, "--attention_maps", tmp_path / "maps.png")
    long = "-p", "longer than its block", "--attention_maps", tmp_path / "maps.png"
    assert "1 to 16 can be read" in refuse(SCRIPT, "-l", saved, *long)
