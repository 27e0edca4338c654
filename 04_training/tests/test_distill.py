"""Distillation: its losses, a teacher that is only asked, and students that learn more than from the text alone."""

import copy
import json
from dataclasses import asdict

import checkpoint
import distill
import flags
import numpy as np
import pytest
import students
import torch
import torch.nn.functional as F
from char_tokenizer import CharTokenizer
from chat_template import teach_to_talk
from fine_tuning import open_model
from for_tests import refuse, succeed
from gpt import FAMILIES, GPT, GPTConfig
from packing import packed

SCRIPT = "04_training/distill.py"
CONVERSATIONS = [([1, 2, 3, 4, 5], [False, False, True, True, True]), ([6, 7, 8], [False, True, True])]


def make(seed=0, width=32, layers=2, V=64, **parts):
    torch.manual_seed(seed)
    return GPT(GPTConfig(V, width, 64, 4, layers, **FAMILIES["llama"], **parts))


def test_temperature_squared_times_divergence_has_the_known_values():
    student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]])
    for T, known in ((1, 1.15042), (2, 1.28063), (4, 1.31963)):
        loss = distill.distillation_loss(student, teacher, torch.tensor([0]), 1.0, T).item()
        assert loss == pytest.approx(known, abs=1e-5), "is T squared in front, and are both divided by T?"
    # alpha weighs it against the cross-entropy, -log softmax([1, 2, 3])[0] = 2.40761, which T does not touch
    mixed = distill.distillation_loss(student, teacher, torch.tensor([0]), 0.25, 2.0).item()
    assert mixed == pytest.approx(0.25 * 1.28063 + 0.75 * 2.40761, abs=1e-5)


# what GKDTrainer.generalized_jsd_loss of trl 1.16.0 gives for these logits in float64, with reduction="sum"
LOGITS = ([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]], [[3.0, 2.0, 1.0], [2.0, 0.0, 0.0]])
OF_TRL = {0: 1.6422321781, 0.1: 0.1414619024, 0.5: 0.3767030669, 0.9: 0.1500784676, 1: 1.7741600466}


@pytest.mark.parametrize("beta", [0, 0.1, 0.5, 0.9, 1])
def test_divergence_is_trls(beta):
    student, teacher = map(torch.tensor, LOGITS)
    assert distill.divergence(student, teacher, beta).sum().item() == pytest.approx(OF_TRL[beta], abs=1e-6)


def test_divergence_is_the_two_kls_at_its_ends_and_zero_between_equals():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 20, dtype=torch.double)
    p, q = teacher.softmax(-1), student.softmax(-1)
    forward, reverse = (p * (p / q).log()).sum(-1), (q * (q / p).log()).sum(-1)
    for beta, kl in ((0, forward), (1, reverse)):
        assert torch.allclose(distill.divergence(student, teacher, beta), kl)
    small = 1e-6  # as the paper has it: JSD(beta) / beta goes to the forward KL, JSD(1 - beta) / beta to the reverse
    assert torch.allclose(distill.divergence(student, teacher, small) / small, forward, rtol=1e-4)
    assert torch.allclose(distill.divergence(student, teacher, 1 - small) / small, reverse, rtol=1e-4)
    for beta in (0, 0.5, 1):
        assert distill.divergence(teacher, teacher, beta).abs().max() < 1e-12
        assert (distill.divergence(student, teacher, beta) > 0).all()


def plain_loss(student, teacher, batch, alpha, T, beta):
    ids, targets, positions, mask = batch
    logits, known = (model(ids, None, positions, mask)[0].flatten(0, 1) for model in (student, teacher))
    counted = targets.flatten() != -100
    each = alpha * T**2 * distill.divergence(logits / T, known.detach() / T, beta)
    each = each + (1 - alpha) * F.cross_entropy(logits, targets.flatten(), reduction="none")
    return each[counted].mean()


@pytest.mark.parametrize("chunk_bytes", [1, 4 * 64 * 2, 2**20])  # one place at a time, two, all
@pytest.mark.parametrize("settings", [(0.9, 2.0, 0.0), (1.0, 1.0, 0.5), (0.5, 1.0, 1.0)])
def test_loss_and_gradients_in_chunks_are_those_of_all_logits_at_once(settings, chunk_bytes):
    teacher, student = make(1, 48), make(2)
    plain, batch = copy.deepcopy(student), packed([CONVERSATIONS, CONVERSATIONS[:1]], 8)
    loss = distill.Distilled(student, teacher, *settings, chunk_bytes=chunk_bytes)(*batch)[1]
    expected = plain_loss(plain, teacher, batch, *settings)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for w, other in zip(student.parameters(), plain.parameters()):
        assert torch.allclose(w.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_without_a_teacher_it_is_the_loss_of_sft():
    student, teacher = make(2), make(1)
    batch = packed([CONVERSATIONS], 8)
    assert distill.Distilled(student, teacher, 0.0)(*batch)[1] == student(*batch)[1]
    assert distill.Distilled(student, teacher, 1e-12)(*batch)[1].item() == pytest.approx(student(*batch)[1].item())
    experts = make(3, expert_count=2, experts_per_token=1).train()  # which have a loss of their own
    assert distill.Distilled(experts, teacher, 1e-12)(*batch)[1].item() == pytest.approx(experts(*batch)[1].item())
    nothing = batch[0], torch.full_like(batch[1], -100)
    assert distill.Distilled(student, teacher, 0.5)(*nothing)[1] == 0


def test_the_teacher_is_asked_without_dropout_and_never_moved():
    student, teacher = make(2, dropout=0.1), make(1, dropout=0.5, ngram_longest=3, ngram_rows=50).train()
    before = copy.deepcopy(teacher.state_dict())
    distilled = distill.Distilled(student, teacher, 0.9, 2.0)
    assert {id(w) for w in distilled.parameters()} == {id(w) for w in student.parameters()}
    optimizer = torch.optim.AdamW(distilled.parameters(), 1e-2)
    distilled.train()
    assert student.training and not any(part.training for part in teacher.modules()), "a teacher must not drop out"
    batch = packed([CONVERSATIONS], 8)
    for _ in range(3):
        distilled(*batch)[1].backward()
        optimizer.step()
    assert all(w.grad is None for w in teacher.parameters())
    assert all(torch.equal(w, before[name]) for name, w in teacher.state_dict().items())


# ---- what a student learns ----


def chain(seed, rows, length=17, V=16):
    """Texts (rows, length) of a process whose next token depends on the last one; a few are likely each time."""
    random = np.random.default_rng(seed)
    table = np.random.default_rng(99).dirichlet([0.3] * V, size=V).cumsum(1)
    text = [random.integers(V, size=rows)]
    for _ in range(length - 1):
        text.append((random.random(rows)[:, None] > table[text[-1]]).sum(1).clip(max=V - 1))
    return torch.from_numpy(np.stack(text, 1))


def learn(model, forward, texts, steps):
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(steps):
        text = texts[step * 4 % len(texts) :][:4]
        optimizer.zero_grad()
        forward(text[:, :-1], text[:, 1:])[1].backward()
        optimizer.step()


@pytest.fixture(scope="module")
def teacher():
    model = make(0, 48, V=16)
    learn(model, model, chain(1, 2000), 500)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_student_gets_nearer_to_the_truth_with_a_teacher_than_without_it(teacher, seed):
    few, held_out, losses = chain(10 + seed, 40), chain(2, 300), {}
    for alpha in (0.0, 0.9):
        student = make(seed, 16, 1, 16)
        learn(student, distill.Distilled(student, teacher, alpha), few, 120)
        with torch.no_grad():
            losses[alpha] = student(held_out[:, :-1], held_out[:, 1:])[1].item()
    with torch.no_grad():
        best = teacher(held_out[:, :-1], held_out[:, 1:])[1].item()
    assert best < losses[0.9] < losses[0.0] - 0.02, losses


def test_answers_that_a_model_writes_depend_on_seed_step_and_its_weights():
    found = [([5, 6, 7, 8, 1], [False] * 3 + [True] * 2), ([9, 10, 11, 2, 1], [False] * 2 + [True] * 3)]
    student = make(3)

    def batch(step, seed=7, temperature=1, block_size=16):
        return distill.written_batches(found, student, (1,), 4, block_size, seed, temperature)(step)

    assert all(map(torch.equal, batch(5), batch(5))), "an unfinished run must go on with the same batches"
    assert batch(5)[0].tolist() != batch(6)[0].tolist() and batch(5)[0].tolist() != batch(5, 8)[0].tolist()
    ids, targets, positions, _ = batch(5)
    for b, row in enumerate(ids.tolist()):
        for i in (positions[b] == 0).nonzero()[:, 0].tolist():
            asked = 3 if row[i : i + 3] == [5, 6, 7] else 2
            if row[i : i + asked] in ([5, 6, 7], [9, 10]):  # else it is the end of a row
                assert (targets[b, i : i + asked - 1] == -100).all(), "what was asked must not count"
                assert targets[b, i + asked - 1] != -100, "the first token of the answer must"
    before = ids.tolist()
    with torch.no_grad():
        student.output.weight.mul_(-1) if not student.config.tied_head else student.token_embedding.weight.mul_(-1)
    assert batch(5)[0].tolist() != before, "the answers must be those of the student as it is now"


# ---- students ----


def test_a_student_of_all_layers_and_rows_is_the_teacher_and_of_fewer_has_every_kth():
    teacher = make(1, layers=4, ngram_longest=3, ngram_rows=48, tied_head=False).eval()
    torch.nn.init.normal_(teacher.ngram_embedding.table.weight)
    own, ids = {"embedding_size": 32, "head_count": 4}, torch.randint(64, (2, 20))
    whole = students.from_layers(teacher, own | {"layer_count": 4, "ngram_rows": 48}, 0.0).eval()
    assert torch.equal(whole(ids)[0], teacher(ids)[0])
    half = students.from_layers(teacher, own, 0.0)
    for i, block in enumerate(half.blocks):
        for name, w in block.state_dict().items():
            assert torch.equal(w, teacher.blocks[2 * i].state_dict()[name])
    # a row of 6 is the mean of the 8 rows of 48 that now fall on it, for each length of n-grams
    positions = torch.arange(20)
    many, few = (model.ngram_embedding.rows_of(ids, positions) for model in (teacher, half))
    assert torch.equal(many % 48 % 6, few % 6) and torch.equal(many // 48, few // 6)
    row = few[0, 9, 1].item()
    meant = [w for i, w in enumerate(teacher.ngram_embedding.table.weight) if i // 48 == 1 and i % 48 % 6 == row % 6]
    assert len(meant) == 8
    assert torch.allclose(half.ngram_embedding.table.weight[row], torch.stack(meant).mean(0), atol=1e-6)


@pytest.mark.parametrize("parts", [{"ngram_longest": 4, "ngram_rows": 3000, "tied_head": False}, {}])
def test_a_new_student_has_a_quarter_of_the_parameters(parts):
    teacher = make(1, 128, 8, 512, **parts)
    config = students.quarter(teacher, {"embedding_size": 64, "head_count": 4})
    assert config.embedding_size == 64 and config.vocab_size == 512
    share = GPT(config).parameter_count() / teacher.parameter_count()
    assert (0.249 if parts else 0.2) < share <= 0.25
    config = students.quarter(teacher, {"embedding_size": 32, "head_count": 2, "layer_count": 3, "ngram_rows": 7})
    assert (config.embedding_size, config.head_count, config.layer_count, config.ngram_rows) == (32, 2, 3, 7)


def test_unigrams_are_guessed_by_how_often_they_were_met():
    train, held_out = [([0, 1, 1, 2], [False, True, True, True])], [([0, 1, 3], [False, True, True])]
    # of 1, 1, 2 and once more each of 0, 1, 2, 3: P(1) = 3/7, P(3) = 1/7
    expected = -(np.log(3 / 7) + np.log(1 / 7)) / 2
    assert distill.unigram_loss(train, held_out, 4) == pytest.approx(expected)


# ---- the script ----


@pytest.fixture
def files(tmp_path):
    """Words with which the script runs in seconds; teacher.pt and other.pt, whose letters are others."""
    (tmp_path / "text.txt").write_text("what is a cat? a cat is an animal.\n" * 60, encoding="utf-8")
    talks = [{"prompt": f"{a}{b}?", "completion": f"{b}{a}."} for a in "abcdef" for b in "abcdef"]
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), encoding="utf-8")
    for name, letters in (("teacher", "abcdefghijklmnopqrstuvwxyz"), ("other", "abcdefghijklmnopqrstuv")):
        tokenizer = teach_to_talk(CharTokenizer([letters + " .?:QA\n"]))
        model = make(1, 32, 2, tokenizer.vocab_size, ngram_longest=2, ngram_rows=80)
        checkpoint.save(tmp_path / f"{name}.pt", "gpt", model=model.state_dict(), config=asdict(model.config),
                        tokenizer=tokenizer.state(), run={}, progress={"finished": True}, optimizer={})
    return ["-l", tmp_path / "teacher.pt", "-d", tmp_path / "talks.jsonl", "--text", tmp_path / "text.txt",
            "-s", tmp_path / "student.pt"]


SMALL = 16, 2, 32, 1e-3


@pytest.mark.slow
def test_script_makes_a_student_that_any_script_can_load(files, tmp_path):
    out = succeed(SCRIPT, *files, "--student", "untrained", *SMALL, 4)
    assert "of what its teacher knows more than unigrams" in out and "checkpoint" in out
    student, tokenizer, loaded = open_model(tmp_path / "student.pt")
    assert student.config.embedding_size == 16 and loaded["kind"] == "gpt" and tokenizer.chat_template
    assert student.parameter_count() <= open_model(tmp_path / "teacher.pt")[0].parameter_count() / 4
    # and on from there, with its teacher's answers, in adapters
    out = succeed(SCRIPT, *files[:-1], tmp_path / "lora.pt", "--student", tmp_path / "student.pt", "--lora",
                  "--kind", "sequence", "--rank", 2, *SMALL, 3)
    assert checkpoint.load(tmp_path / "lora.pt", "adapters")["run"]["teacher"] == str(tmp_path / "teacher.pt")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--kind", "on_policy", "--beta", "0.5", "--student", "untrained"], []])
def test_an_unfinished_run_goes_on_as_if_there_had_been_no_break(files, words, tmp_path, monkeypatch, capsys):
    broken, save = tmp_path / "broken.pt", checkpoint.save

    def train(*words):
        assert distill.train_command(distill.arguments().parse([str(word) for word in words])) is not None
        return open_model(tmp_path / "student.pt")[0].state_dict()

    def also(path, kind, **contents):
        save(path, kind, **contents)
        if contents["progress"]["step"] == 5:
            save(broken, kind, **contents)

    sizes = SMALL if words else (32, *SMALL[1:])
    monkeypatch.setattr(checkpoint, "save", also)
    once = train(*files, *words, "--text_share", 0.3, *sizes, 10)
    monkeypatch.setattr(checkpoint, "save", save)
    twice = train("-l", broken, *files[2:])
    assert "after step 5" in capsys.readouterr().out
    apart = {name: (w - twice[name]).abs().max().item() for name, w in once.items()}
    assert not any(apart.values()), apart


@pytest.mark.slow
def test_mistakes_end_in_one_line(files, tmp_path):
    with_other = [*files, "--student", tmp_path / "other.pt"]
    assert "another vocabulary" in refuse(SCRIPT, *with_other)
    for words, cure in (
        (["--teacher_share", 1.5], "teacher_share 1.5 must be at least 0 and at most 1"),
        (["--kind", "on_policy", "--teacher_share", 0], "no truth"),
        (["--beta", "nan"], "beta nan must be"),
        (["--distillation_temperature", 0], "must be more than 0"),
        (["--text_share", 1], "less than 1"),
        (["--ngram_rows", 0], "at least 1"),
        (["--ngram_rows", 7], "divide 80"),
        ([16, *SMALL[1:]], "has embedding_size 32"),
        (["--student", "missing.pt"], "no checkpoint missing.pt"),
        (["--student", tmp_path / "teacher.pt", "--ngram_rows", 8], "contradicts .*leave it out"),
        (["--lora"], "name one with --student"),
        (["--text", "missing.txt", 32, *SMALL[1:]], "missing.txt"),
        (["--student", "untrained", 10], "divisible by head_count 4"),
    ):
        with pytest.raises(flags.UserError, match=cure):
            distill.train_command(distill.arguments().parse([*map(str, files), *map(str, words)]))
