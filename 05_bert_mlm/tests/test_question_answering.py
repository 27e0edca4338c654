"""Answers as spans: the head is Hugging Face's, the best span is found, nothing outside the text is pointed at."""

import math
import signal
from dataclasses import asdict

import answer_spans as spans
import checkpoint
import docs_questions
import pytest
import question_answering as qa
import torch
import torch.nn.functional as F
import trainer
from bert_model import BERT, FAMILIES, BERTConfig
from bert_pretrained import load_bert
from bert_tokens import Marks, teach_to_mask
from flags import UserError
from for_tests import oracle, refuse, skip, succeed
from prepare import ensure_tokenizer
from tokenizer import BPETokenizer
from wordpiece import WordPieceTokenizer

SCRIPT = "05_bert_mlm/question_answering.py"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.?", *(f"##{c}" for c in "abcde")]


def our_tokenizer():
    return teach_to_mask(ensure_tokenizer("tokenizer", None, "pydocs"))


def small_tokenizer():
    tokenizer = BPETokenizer()
    tokenizer.train("Return the list of names. What does it return?\nIt is used to open a file.\n" * 20, 300)
    return teach_to_mask(tokenizer)


def tiny(tokenizer, family="bert", block_size=128, seed=0):
    torch.manual_seed(seed)
    return qa.QuestionAnswering(BERT(BERTConfig(tokenizer.vocab_size, 32, block_size, 4, 2, **FAMILIES[family]))).eval()


def some_examples(tokenizer, count=6, split="validation"):
    asked = docs_questions.questions(split)[:: len(docs_questions.questions(split)) // count][:count]
    marks = Marks.of(tokenizer)
    return asked, [spans.encode(each.question, each.context, tokenizer, marks, (each.start, each.end))
                   for each in asked]


def test_the_loss_is_that_of_hugging_face(tmp_path):
    """BertForQuestionAnswering of transformers, which lets all positions of a row compete."""
    transformers = oracle("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    theirs = transformers.BertForQuestionAnswering(
        transformers.BertConfig(vocab_size=len(PIECES), **sizes)).eval()
    theirs.bert.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    model, tokenizer = load_bert(tmp_path)
    ours = qa.QuestionAnswering(model).eval()
    ours.head.load_state_dict(theirs.qa_outputs.state_dict())

    marks = Marks.of(tokenizer)
    some = [spans.encode("abc?", "a bc d.", tokenizer, marks, (2, 6)),
            spans.encode("x?", "y z.", tokenizer, marks, (0, 1))]
    ids, targets, mask, segments, _ = spans.padded(some, marks)
    with torch.no_grad():
        said = theirs(input_ids=ids, attention_mask=mask[:, 0, 0].long(), token_type_ids=segments,
                      start_positions=targets[:, 0], end_positions=targets[:, 1])
        everywhere = torch.ones_like(ids, dtype=torch.bool)
        logits = ours.logits(ids, mask, segments, everywhere)
        _, loss = ours(ids, targets, mask, segments, everywhere)
    assert torch.allclose(logits[:, 0], said.start_logits, atol=1e-5), "is the first of the two vectors the start's?"
    assert torch.allclose(logits[:, 1], said.end_logits, atol=1e-5)
    assert loss.item() == pytest.approx(said.loss.item(), abs=1e-5), "the mean of beginning and end, not their sum"


def test_the_best_span_is_found():
    torch.manual_seed(0)
    logits = 3 * torch.randn(20, 2, 45)
    logits[:, :, :5] = logits[:, :, 43:] = -math.inf
    logits[0, 0, 40], logits[0, 1, 6] = 50, 50  # tempting, but the wrong way round
    logits[1, 0, 6], logits[1, 1, 40] = 20, 20  # too far apart
    first, last, share = qa.best_spans(logits)
    for b, (start, end) in enumerate(logits.softmax(-1)):
        every = {(i, j): (start[i] * end[j]).item() for i in range(45) for j in range(i, min(45, i + qa.LONGEST))}
        best = max(every, key=every.get)
        assert (first[b], last[b]) == best, "is start <= end kept, and the length?"
        assert share[b].item() == pytest.approx(every[best], rel=1e-4)


@pytest.mark.parametrize("make", [our_tokenizer, lambda: load_bert("minilm")[1]], ids=["ours", "wordpiece"])
def test_the_target_tokens_say_the_answer(make):
    try:
        tokenizer = make()
    except UserError as error:
        skip(str(error))
    marks = Marks.of(tokenizer)
    for each in docs_questions.every():
        example = spans.encode(each.question, each.context, tokenizer, marks, (each.start, each.end))
        assert docs_questions.exact_match(example.text(*example.span), each.answer), (each, example.text(*example.span))
        first, last = example.span
        assert example.ids[example.begin - 1] == example.ids[-1] == marks.sep
        assert example.begin <= first <= last < len(example.ids) - 1 == example.begin + len(example.places)
        (start, after_first), (before_last, end) = (example.places[i - example.begin] for i in (first, last))
        assert start <= each.start < after_first and before_last < each.end <= end, "a token without a part of it"
        if tokenizer.kind == "wordpiece":
            assert (start, end) == (each.start, each.end)
        else:  # a token begins with the space before it
            assert tokenizer.decode(example.ids[first : last + 1]).strip() == example.text(first, last)


def test_special_tokens_in_a_text_are_ordinary_text():
    for tokenizer in (small_tokenizer(), WordPieceTokenizer(PIECES)):
        marks = Marks.of(tokenizer)
        example = spans.encode("a [SEP] b?", "see [MASK] or [SEP] end.", tokenizer, marks)
        assert example.ids.count(marks.sep) == 2 and marks.mask not in example.ids and example.span is None
        assert example.text(example.begin, len(example.ids) - 2) == "see [MASK] or [SEP] end."


def test_a_batch():
    tokenizer = small_tokenizer()
    marks = Marks.of(tokenizer)
    some = [spans.encode("Return?", "It is.", tokenizer, marks, (0, 2)), spans.encode("a?", "bc", tokenizer, marks)]
    ids, targets, mask, segments, allowed = spans.padded(some, marks)
    for b, each in enumerate(some):
        n = len(each.ids)
        text = range(each.begin, n - 1)
        assert ids[b, :n].tolist() == each.ids and (ids[b, n:] == marks.pad).all()
        assert mask[b, 0, 0].nonzero()[:, 0].tolist() == list(range(n))
        assert allowed[b].nonzero()[:, 0].tolist() == list(text), "neither the question, nor [SEP], nor padding"
        assert segments[b].nonzero()[:, 0].tolist() == [*text, n - 1], "the second [SEP] is of the text's segment"
    assert targets[0, :2].tolist() == list(some[0].span)
    assert (targets[0, 2:] == -100).all() and (targets[1] == -100).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family):
    tokenizer = small_tokenizer()
    marks, answering = Marks.of(tokenizer), tiny(tokenizer, family, 300)
    short = spans.encode("Return?", "It is a list.", tokenizer, marks, (0, 2))
    long = spans.encode("What does it return?", "Return the list of names. " * 4, tokenizer, marks, (0, 6))
    n = len(short.ids)
    with torch.no_grad():
        ids, _, *rest = spans.padded([short], marks)
        alone = answering.logits(ids, *rest)[0]
        ids, _, *rest = spans.padded([short, long], marks)
        assert ids.shape[1] > n
        beside = answering.logits(ids, *rest)[0]
        ids[0, n:] = 7
        junk = answering.logits(ids, *rest)[0]
    inside = slice(short.begin, n - 1)
    assert torch.allclose(beside[:, inside], alone[:, inside], atol=1e-5), "padding was looked at"
    assert torch.allclose(junk[:, inside], alone[:, inside], atol=1e-5)
    outside = torch.ones(len(beside[0]), dtype=torch.bool)
    outside[inside] = False
    assert (beside[:, outside] == -math.inf).all(), "an answer in the question or in padding"
    assert beside[:, inside].isfinite().all()


def test_answers_come_in_order_and_with_the_mean_loss():
    tokenizer = our_tokenizer()
    marks, answering = Marks.of(tokenizer), tiny(tokenizer)
    asked, some = some_examples(tokenizer, 7)
    texts, shares, loss = qa.answer(answering, some, marks, 3)
    losses = []
    for text, share, example, each in zip(texts, shares, some, asked):
        alone = qa.answer(answering, [example], marks, 1)
        assert (alone[0][0], alone[1][0]) == (text, pytest.approx(share, rel=1e-3))
        assert text in each.context and 0 < share < 1
        losses.append(alone[2])
        with torch.no_grad():
            assert answering(*spans.padded([example], marks))[1].item() == pytest.approx(alone[2], rel=1e-4)
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_all_examples_come_once_and_with_their_like():
    tokenizer = our_tokenizer()
    marks, batch_size = Marks.of(tokenizer), 4
    _, some = some_examples(tokenizer, 2 * spans.POOL * batch_size)
    batch = qa.batches(some, marks, batch_size, seed=1)
    seen = []
    for step in range(2 * spans.POOL):
        ids, _, mask, *_ = batch(step)
        seen += [tuple(row[real].tolist()) for row, real in zip(ids, mask[:, 0, 0])]
    assert sorted(seen) == sorted(tuple(each.ids) for each in some)
    real = sum(len(ids) for ids in seen)
    assert sum(batch(step)[0].numel() for step in range(2 * spans.POOL)) < 1.15 * real, "rows of unlike lengths meet"
    again = qa.batches(some, marks, batch_size, seed=1)
    assert all(map(torch.equal, batch(5), again(5))) and batch(5)[0].tolist() != batch(5 + 2 * spans.POOL)[0].tolist()


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    tokenizer = our_tokenizer()
    _, some = some_examples(tokenizer)
    gradients = []
    for rows in (2, 6):
        answering = tiny(tokenizer)
        trainer.add_gradients(answering, spans.padded(some, Marks.of(tokenizer)), rows, torch.float32)
        gradients.append(torch.cat([w.grad.flatten() for w in answering.parameters() if w.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_handful_is_learned_by_heart(family):
    tokenizer = our_tokenizer()
    marks, answering = Marks.of(tokenizer), tiny(tokenizer, family)
    asked, some = some_examples(tokenizer)
    optimizer = torch.optim.Adam(answering.parameters(), 3e-3)
    for _ in range(80):
        loss = answering(*spans.padded(some, marks))[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    texts, shares, loss = qa.answer(answering, some, marks, 4)
    assert docs_questions.scores(texts, asked) == (100, 100) and loss < 0.1 and min(shares) > 0.7, (texts, loss)


# ---- the script ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT that knows nothing, and one whose block is too small for any question."""
    folder = tmp_path_factory.mktemp("qa")
    tokenizer = our_tokenizer()
    for name, block_size in (("bert.pt", 128), ("narrow.pt", 16)):
        model = tiny(tokenizer, "modern", block_size).model
        checkpoint.save(folder / name, "bert", model=model.state_dict(), config=asdict(model.config),
                        tokenizer=tokenizer.state(), run={"steps": 1}, progress={"finished": True, "step": 1})
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """What the script says after a short run, and the checkpoint."""
    return succeed(SCRIPT, "-l", folder / "bert.pt", "-s", folder / "qa.pt", 8, 1e-3, 10, 0.0), folder / "qa.pt"


@pytest.mark.slow
def test_the_script_trains_and_measures(trained):
    out, path = trained
    assert "questions to learn from" in out and "of the held-out answers are exact" in out
    guess = float(out.partition("a guess anywhere in the text is ")[2].split()[0])
    before = float(out.partition("loss before training ")[2].split(",")[0])
    assert abs(before - guess) < 0.3, "an untrained head should guess evenly"
    table = [line for line in out.splitlines() if line.startswith(("EM / F1", "all", *docs_questions.KINDS))]
    assert len(table) == 2 + len(docs_questions.KINDS) and table[0].split()[-2:] == ["this", "model"], out
    assert path.with_suffix(".png").exists() and path.with_suffix(".csv").exists()
    assert checkpoint.load(path, "bert_qa")["answer_head"]["weight"].shape == (2, 32)


@pytest.mark.slow
def test_the_script_answers(trained, folder):
    context = folder / "text.txt"
    context.write_text("a.b: Cut it off.\na.c: Return a copy.\n", encoding="utf-8")
    _, path = trained
    out = succeed(SCRIPT, "-l", path, "--ask", "What does a.c return?", "--context", context).splitlines()
    text, share = out[-2], out[-1]
    assert text in context.read_text(encoding="utf-8") and share.startswith("  probability ")
    said = context.read_text(encoding="utf-8")
    same = succeed(SCRIPT, "-l", path, "--ask", "What does a.c return?", "--context", said)
    assert same.splitlines()[-2:] == [text, share]


@pytest.mark.slow
def test_the_script_refuses_in_one_line(trained, folder):
    _, path = trained
    ask = SCRIPT, "-l", path, "--ask"
    assert "neither of them empty" in refuse(*ask, "Why?")
    assert "neither of them empty" in refuse(SCRIPT, "-l", path, "--context", "Because.")
    assert "shorten it" in refuse(*ask, "Why? " * 100, "--context", "Because.")
    assert "give the part of it that has the answer" in refuse(*ask, "Why?", "--context", "Because. " * 100)
    assert "not 'bert_qa'" in refuse(SCRIPT, "-l", folder / "bert.pt", "--ask", "Why?", "--context", "Because.")
    train = SCRIPT, "-s", "no_save", "-l"
    assert "no question fits into the model's block_size 16" in refuse(*train, folder / "narrow.pt")
    assert "dropout 2.0 must be" in refuse(*train, folder / "bert.pt", 8, 1e-3, 10, 2.0)
    assert "no checkpoint" in refuse(SCRIPT, "-l", folder / "none.pt")


def few(monkeypatch):
    """Few questions, so that a run is short."""
    every = {split: docs_questions.questions(split)[:16] for split in docs_questions.SPLITS}
    monkeypatch.setattr(spans, "questions", every.get)


@pytest.mark.slow
def test_an_unfinished_run_goes_on_as_if_nothing_had_been(folder, tmp_path, monkeypatch, capsys):
    few(monkeypatch)
    usual, heads = qa.batches, []
    numbers = ["4", "1e-3", "6", "0.1"]

    def broken(*settings):
        batch = usual(*settings)
        return lambda step: (signal.raise_signal(signal.SIGINT) if step == 3 else None, batch(step))[1]

    for name, batches in (("whole", usual), ("broken", broken)):
        monkeypatch.setattr(qa, "batches", batches)
        path = str(tmp_path / f"{name}.pt")
        done = qa.train_command(qa.arguments().parse(["-l", str(folder / "bert.pt"), "-s", path, *numbers]))
        monkeypatch.setattr(qa, "batches", usual)
        assert (done is None) == (name == "broken")
        if done is None:
            capsys.readouterr()
            assert qa.train_command(qa.arguments().parse(["-l", path])) is not None
            assert "going on with the unfinished run" in capsys.readouterr().out
        heads.append(checkpoint.load(path, "bert_qa"))
    assert heads[1]["progress"]["step"] == 6
    assert torch.equal(heads[0]["answer_head"]["weight"], heads[1]["answer_head"]["weight"]), "is the head loaded?"
    assert all(map(torch.equal, heads[0]["model"].values(), heads[1]["model"].values()))


def test_untrained_and_real_weights(tmp_path, monkeypatch, capsys):
    few(monkeypatch)
    words = "-s", "no_save", "4", "1e-4", "1"
    assert qa.train_command(qa.arguments().parse(["-l", "untrained", *words]))
    assert f"{BERT(qa.open_model('untrained')[0]).parameter_count():,} parameters" in capsys.readouterr().out
    tokenizer = WordPieceTokenizer(PIECES)
    torch.manual_seed(0)
    config = BERTConfig(tokenizer.vocab_size, 32, 512, 4, 1)
    monkeypatch.setattr(qa, "load_bert", lambda name: (BERT(config), tokenizer))
    monkeypatch.setattr(qa, "REAL_NUMBERS", {"batch_size": 4, "learning_rate": 3e-4, "steps": 1, "dropout": 0.0})
    args = qa.arguments().parse(["-l", "minilm", "-s", "no_save"])
    assert qa.train_command(args) and args.learning_rate == 3e-4


@pytest.mark.slow
def test_help():
    assert "an unfinished run goes on" in " ".join(succeed(SCRIPT, "-h").split())


def test_the_default_is_trained_once(tmp_path, monkeypatch):
    calls, path = [], tmp_path / "qa.pt"
    monkeypatch.setattr(qa, "DEFAULT_CHECKPOINT", path)
    monkeypatch.setattr(qa, "train_command", lambda args: calls.append(args) or checkpoint.save(path, "bert_qa") or [])
    assert qa.ensure_answering() == qa.ensure_answering() == path and len(calls) == 1


def test_the_loss_at_a_span_by_hand():
    logits = torch.tensor([[[0.0, 1.0, 2.0], [3.0, -1.0, 0.0]]])
    answering = tiny(small_tokenizer())
    answering.logits = lambda *inputs: logits
    targets = torch.tensor([[2, 0, -100]])
    expected = -(F.log_softmax(logits[0, 0], 0)[2] + F.log_softmax(logits[0, 1], 0)[0]) / 2
    assert answering(None, targets, None, None, None)[1].item() == pytest.approx(expected.item(), rel=1e-6)
