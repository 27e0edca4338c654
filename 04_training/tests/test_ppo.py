"""PPO: the formulas against the papers and autograd, rollouts against the model itself, and that it learns."""

import json
import signal
from dataclasses import asdict

import checkpoint
import docs_task
import ppo
import pytest
import reward
import rollouts
import torch
import trainer
from chat_template import prompt_tokens, teach_to_talk
from flags import UserError
from for_tests import refuse, succeed
from gpt import FAMILIES, GPT, GPTConfig
from optimizers import make_optimizer
from schedules import SCHEDULES
from tokenizer import CharTokenizer

LETTERS = "abcdefgh xQA:\n.?"
TOKENIZER = teach_to_talk(CharTokenizer(LETTERS))


def tiny(seed=0, **parts):
    torch.manual_seed(seed)
    return GPT(GPTConfig(TOKENIZER.vocab_size, 32, 64, 4, 2, **FAMILIES["llama"], **parts))


def asked(*texts):
    return [rollouts.Question([{"role": "user", "content": text}],
                         prompt_tokens([{"role": "user", "content": text}], TOKENIZER), None) for text in texts]


QUESTIONS = asked("a?", "bb b?", "c c c c?", "d?", "ee?", "f f?", "gg g g g?", "h?")


def rollouts_of(model, score, *words, reference=None):
    args = ppo.arguments().parse(["--rollout", "8", "--max_new_tokens", "8", "--reward_at", "end", *map(str, words)])
    args.batch_size, args.seed = args.typed.get("batch_size", 4), 1337
    policy = ppo.PPO(model, args.clip_range, args.entropy_weight)
    return rollouts.Rollouts(policy, reference or tiny().eval(), TOKENIZER, QUESTIONS, score, args, torch.float32)


def no_score(questions, texts):
    return [0.0] * len(texts)


# ---- the formulas ----


def test_advantages_of_the_known_example():
    found = rollouts.advantages(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.4, 0.6]]), 1.0, 0.95)
    assert torch.allclose(found, torch.tensor([[0.451, 0.58, 0.4]]), atol=1e-6)


@pytest.mark.parametrize(("gamma", "smoothing"), [(1.0, 0.95), (0.9, 0.5), (0.9, 0.0), (0.7, 1.0)])
def test_advantages_are_the_sum_of_equation_16(gamma, smoothing):
    torch.manual_seed(0)
    rewards, values = torch.zeros(2, 2, 9)
    rewards[0, 2:8], values[0, 2:8] = torch.randn(2, 6)  # between a question and padding
    rewards[1, 0:3], values[1, 0:3] = torch.randn(2, 3)
    found = rollouts.advantages(rewards, values, gamma, smoothing)
    for row, first, last in ((0, 2, 8), (1, 0, 3)):
        r, v = rewards[row, first:last].tolist(), [*values[row, first:last].tolist(), 0.0]
        deltas = [r[t] + gamma * v[t + 1] - v[t] for t in range(len(r))]
        expected = [sum((gamma * smoothing) ** k * delta for k, delta in enumerate(deltas[t:])) for t in range(len(r))]
        assert found[row, first:last].tolist() == pytest.approx(expected, abs=1e-5)
        assert found[row, last:].abs().sum() == 0, "something was earned in the padding"
    if smoothing == 1:  # what came, less what was expected: equation 18
        worth = sum(gamma**t * r for t, r in enumerate(rewards[1, :3].tolist()))
        assert found[1, 0].item() == pytest.approx(worth - values[1, 0].item(), abs=1e-5)


def test_whitening_is_of_what_counts():
    torch.manual_seed(0)
    x, mask = 3 + 5 * torch.randn(4, 9), torch.rand(4, 9) < 0.5
    white = rollouts.whitened(x, mask)
    assert white[mask].mean().item() == pytest.approx(0, abs=1e-6)
    assert white[mask].var(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert white[~mask].abs().sum() == 0
    other = torch.where(mask, x, 1e6)
    assert torch.equal(rollouts.whitened(other, mask), white), "padding was counted"


def batch_of(policy, advantage, shift=0.0, returns=0.0, old_values=0.0):
    """A batch of two rows, whose old policy found each token e^shift times as likely."""
    ids = torch.randint(TOKENIZER.vocab_size, (2, 7), generator=torch.Generator().manual_seed(0))
    targets = torch.full((2, 7), -100)
    targets[0, 2:5], targets[1, 3:7] = ids[0, 3:6], torch.tensor([1, 2, 3, 4])
    old = torch.zeros(2, 7)
    with torch.no_grad():
        old[targets != -100] = policy.look(ids, targets)[0] + shift
    return ids, targets, old, *(torch.full((2, 7), number) for number in (old_values, advantage, returns))


def gradients(policy, loss):
    return torch.autograd.grad(loss, list(policy.model.parameters()))


@pytest.mark.parametrize("advantage", [1.5, -0.7])
def test_at_ratio_1_it_is_the_policy_gradient(advantage):
    policy = ppo.PPO(tiny())
    parts = batch_of(policy, advantage)
    ours = gradients(policy, policy(*parts)[1])
    logits, _ = policy.model(parts[0])
    plain = advantage * torch.nn.functional.cross_entropy(logits.transpose(1, 2), parts[1], ignore_index=-100)
    for mine, theirs in zip(ours, gradients(policy, plain), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6), "the gradient is that of - A log pi"


@pytest.mark.parametrize(("advantage", "shift", "still"), [
    (1.0, -0.5, True), (1.0, 0.5, False), (-1.0, 0.5, True), (-1.0, -0.5, False), (1.0, -0.1, False)])
def test_beyond_the_clip_on_the_good_side_nothing_more_is_gained(advantage, shift, still):
    """With advantage 1 a token that became e^.5 times as likely has its reward; one that fell so far has a way back."""
    policy = ppo.PPO(tiny())
    policy(*(parts := batch_of(policy, advantage, shift)))
    moved = sum(each.abs().sum() for each in gradients(policy, policy(*parts)[1]))
    assert (moved == 0) == still


def test_the_loss_is_that_of_equation_9():
    """Term by term, in numpy's way, from the log-probabilities that the model itself gives."""
    policy = ppo.PPO(tiny(), clip_range=0.1, entropy_weight=0.3)
    torch.nn.init.normal_(policy.value.weight)
    parts = batch_of(policy, 0.0)
    torch.manual_seed(1)
    noise = [0.3 * torch.randn(2, 7) for _ in range(4)]
    parts = (*parts[:2], parts[2] + noise[0], *noise[1:])
    logits, _ = policy.model(parts[0])
    hidden = policy.model.hidden(parts[0])
    total, count = 0.0, 0
    for b, t in (parts[1] != -100).nonzero().tolist():
        p = logits[b, t].softmax(-1)
        ratio = (p[parts[1][b, t]].log() - parts[2][b, t]).exp().item()
        old_value, gain, returned = (part[b, t].item() for part in parts[3:])
        value = policy.value(hidden[b, t]).item()
        near = min(max(value, old_value - 0.1), old_value + 0.1)
        surrogate = min(ratio * gain, min(max(ratio, 0.9), 1.1) * gain)
        total += surrogate - 0.5 * max((value - returned) ** 2, (near - returned) ** 2)
        total -= 0.3 * (p * p.log()).sum().item()
        count += 1
    assert policy(*parts)[1].item() == pytest.approx(-total / count, rel=1e-4)


def test_values_do_not_move_the_language():
    policy = ppo.PPO(tiny())
    torch.nn.init.normal_(policy.value.weight)
    _, loss = policy(*batch_of(policy, 0.0, returns=2.0))
    loss.backward()
    assert policy.value.weight.grad.abs().sum() > 0
    assert sum(w.grad.abs().sum() for w in policy.model.parameters()) == 0


def test_no_dropout_of_any_kind_while_training():
    model = tiny(dropout=0.5, ngram_longest=2, ngram_rows=50, ngram_dropout=0.5)
    torch.nn.init.normal_(model.ngram_embedding.table.weight)
    policy = ppo.PPO(model)
    parts = batch_of(policy.train(), 1.0)
    assert policy(*parts)[1].item() == pytest.approx(policy(*parts)[1].item(), abs=1e-7)
    assert policy.seen[-1][1] == pytest.approx(0, abs=1e-6), "the KL of a policy with itself is 0"


# ---- rollouts ----


def test_a_rollout_is_what_the_model_said(monkeypatch):
    """Log-probabilities are those of sampling, token by token, in float32; the rest of a row counts nothing."""
    said, complete = [], rollouts.complete
    monkeypatch.setattr(rollouts, "complete", lambda *args, **more: said.append(complete(*args, **more)) or said[-1])
    drawn = rollouts_of(tiny(seed=2), no_score)
    drawn.state = drawn.roll_out(5)
    ids, targets, old, values, _, _ = drawn.state["parts"]
    for row, answer in enumerate(said[0]):
        counted = targets[row] != -100
        assert targets[row][counted].tolist() == answer.ids
        assert torch.allclose(old[row][counted], torch.tensor(answer.log_probabilities), atol=1e-5)
        assert old[row][~counted].abs().sum() == values[row][~counted].abs().sum() == 0
        first = counted.nonzero()[0].item()
        assert any(ids[row, : first + 1].tolist() == each.prompt for each in QUESTIONS), "a question is missing"
        assert torch.equal(ids[row, first + 1 : first + len(answer.ids)], targets[row, first:][: len(answer.ids) - 1])
    assert sorted(i for part in drawn.state["order"][:2] for i in part) == list(range(8))
    again = rollouts_of(tiny(seed=2), no_score).roll_out(5)
    assert all(map(torch.equal, again["parts"], drawn.state["parts"])), "chance must hang on (seed, step) alone"
    other = rollouts_of(tiny(seed=2), no_score).roll_out(6)["parts"]
    assert other[0].shape != ids.shape or not torch.equal(other[0], ids)


def returns_of(drawn, step=0):
    """What each token was worth, with smoothing 1: the rewards from there on, whatever the values are."""
    parts = drawn.roll_out(step)["parts"]
    return parts[1] != -100, parts[5]


def test_a_reward_at_the_end_and_what_distance_costs():
    plain = rollouts_of(tiny(), lambda questions, texts: [2.0] * len(texts), "--smoothing", 1, "--beta", 7)
    mask, returns = returns_of(plain)  # the reference is the policy: no distance
    ended = plain.roll_out(0)["parts"][1].eq(TOKENIZER.end_of_text).any(1)
    assert 0 < ended.sum() < 8, "the test needs answers of both sorts"
    expected = torch.where(ended, 2.0, 2.0 - rollouts.NO_END)
    assert torch.allclose(returns[mask], expected[:, None].expand_as(mask)[mask], atol=1e-4)

    other = tiny(seed=3).eval()
    far = rollouts_of(tiny(), no_score, "--smoothing", 1, "--beta", 0.5, reference=other)
    mask, returns = returns_of(far)
    ids, targets, old, *_ = far.roll_out(0)["parts"]
    logits, _ = other(ids)
    likely = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")
    first = mask.float().argmax(1)[:, None]
    whole = -0.5 * ((old - likely) * mask).sum(1) - rollouts.NO_END * ~ended
    assert torch.allclose(returns.gather(1, first)[:, 0], whole, atol=1e-4)


def test_an_answer_that_got_what_all_get_teaches_nothing(monkeypatch):
    """With values of 0 at first, late tokens would look better than early ones, and answers would get short."""
    monkeypatch.setattr(rollouts, "NO_END", 0.0)
    parts = rollouts_of(tiny(), lambda questions, texts: [2.0] * len(texts), "--beta", 0).roll_out(0)["parts"]
    mask = parts[1] != -100
    assert torch.allclose(parts[3][mask], torch.tensor(2.0)) and torch.allclose(parts[5][mask], torch.tensor(2.0))
    assert parts[4].abs().max() < 1e-3, "an advantage without a difference"


def test_rewards_at_every_token_add_up_to_the_whole():
    def count(questions, texts):
        return [float(text.count("a")) + 0.5 for text in texts]

    ends, every = (rollouts_of(tiny(), count, "--smoothing", 1, "--reward_at", at) for at in ("end", "every"))
    (mask, at_end), (_, at_every) = returns_of(ends), returns_of(every)
    first = mask.float().argmax(1)[:, None]
    assert torch.allclose(at_end.gather(1, first), at_every.gather(1, first) + 0.5, atol=1e-5)
    question, ids = QUESTIONS[0], TOKENIZER.encode("bab")
    assert every.steps_of_reward(question, (ids, "bab", False), 1.5 - rollouts.NO_END) == [0, 1, -1]
    assert ends.steps_of_reward(question, (ids, "bab", True), 1.5) == [0, 0, 1.5]


def test_minibatches_are_rows_of_the_rollout_and_padding_changes_nothing():
    drawn = rollouts_of(tiny(), lambda questions, texts: [float(len(text)) for text in texts])
    parts = drawn.batch(0)
    first = drawn.state["parts"]
    _, loss = drawn.policy(*parts)
    rows = [next(i for i in range(8) if torch.equal(part, first[2][i, : len(part)])) for part in parts[2]]
    _, padded = drawn.policy(*(part[rows] for part in first))
    assert loss.item() == pytest.approx(padded.item(), abs=1e-5)
    assert all(drawn.batch(step)[0] is not None for step in (1, 2, 3)) and drawn.state["parts"] is first
    drawn.batch(4)
    assert drawn.state["parts"] is not first, "2 epochs of 2 parts are 4 steps"


def test_a_policy_that_went_too_far_answers_anew():
    drawn = rollouts_of(tiny(), no_score, "--target_kl", 0.01)
    drawn.batch(0)
    first = drawn.state["parts"]
    drawn.policy.seen.append([10, 0.09, 0])
    drawn.batch(1)
    assert drawn.state["parts"] is first
    drawn.policy.seen.append([10, 0.11, 0])
    drawn.batch(2)
    assert drawn.state["parts"] is not first and not drawn.policy.seen


@pytest.mark.slow
@pytest.mark.parametrize("at", ["end", "every"])
def test_it_learns_to_say_one_letter(at):
    def score(questions, texts):
        return [text.count("x") / max(len(text), 4) for text in texts]

    model = tiny(seed=4)
    drawn = rollouts_of(model, score, "--reward_at", at, "--beta", 0.01, "--rollout", 64, 32)
    before = torch.tensor(score(None, [text for _, text, _ in drawn.answer(model, QUESTIONS * 8)])).mean()
    optimizer = make_optimizer(drawn.policy, "adamw", 3e-3, 0.0)
    trainer.train(drawn.policy, drawn.batch, optimizer, SCHEDULES["linear"](3e-3, 120), 120, lambda: 0.0)
    answers = drawn.answer(model, QUESTIONS * 8)
    after = torch.tensor(score(None, [text for _, text, _ in answers])).mean()
    assert before < 0.2 and after > 0.7, f"{before:.2f} -> {after:.2f}: {answers[0][1]!r}"


# ---- the script ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that knows nothing, questions, and a reward model that likes an x."""
    folder = tmp_path_factory.mktemp("ppo")
    model = tiny()
    contents = {"model": model.state_dict(), "config": asdict(model.config), "tokenizer": TOKENIZER.state(),
                "run": {"steps": 1}, "progress": {"finished": True, "step": 1}}
    checkpoint.save(folder / "lm.pt", "gpt", **contents)
    checkpoint.save(folder / "reward.pt", "gpt", **contents,
                    reward_head=reward.RewardModel(tiny(seed=1)).head.state_dict())
    words = [a + b for a in "abcdefgh" for b in "abcdefgh"]
    (folder / "q.jsonl").write_text("".join(json.dumps({"prompt": f"{word}?", "completion": "x."}) + "\n"
                                            for word in words), encoding="utf-8")
    return folder


def words_of(folder, save, *more):
    return ("-l", folder / "lm.pt", "-d", folder / "q.jsonl", "-s", save, 4, 32, 1e-3, 10, "--reward",
            folder / "reward.pt", "--rollout", 8, "--max_new_tokens", 8, *more)


@pytest.mark.slow
@pytest.mark.parametrize("added", [(), ("--lora",)])
def test_an_unfinished_run_goes_on_as_if_nothing_had_been(folder, tmp_path, added, monkeypatch):
    def train(*words):
        return ppo.train_command(ppo.arguments().parse(list(map(str, words))))

    kind = "adapters" if added else "gpt"
    assert train(*words_of(folder, tmp_path / "whole.pt", *added)) is not None
    plain = rollouts.Rollouts.batch

    def stopped(self, step):
        if step == 5:  # in the middle of a rollout
            signal.raise_signal(signal.SIGINT)
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(rollouts.Rollouts, "batch", stopped)
        assert train(*words_of(folder, tmp_path / "parts.pt", *added)) is None
    assert checkpoint.load(tmp_path / "parts.pt", kind)["progress"]["step"] == 6
    words = words_of(folder, tmp_path / "parts.pt", *added)
    assert train("-l", tmp_path / "parts.pt", *words[2:]) is not None
    whole, parts = (checkpoint.load(tmp_path / name, kind) for name in ("whole.pt", "parts.pt"))
    for name in ("model", "value", "reference"):
        assert whole[name].keys() == parts[name].keys() != set()
        assert all(torch.equal(w, parts[name][key]) for key, w in whole[name].items()), f"{name} differs"
    for one, other in zip(whole["progress"]["history"], parts["progress"]["history"], strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    assert any(not torch.equal(w, whole["reference"][key]) for key, w in whole["model"].items()
               if key in whole["reference"]), "nothing was learned, or the reference moved along"


@pytest.mark.slow
def test_the_script(folder, tmp_path):
    out = succeed("04_training/ppo.py", *words_of(folder, tmp_path / "a.pt", "--epochs", 1, "--reward_at", "every"))
    assert out.count("ended, entropy") == 5 and "step 8: reward" in out and "% clipped" in out
    assert "step 0: reward" in out and "KL 0.00 and" in out and "after wins" in out


@pytest.mark.slow
def test_what_nothing_can_be_learned_with_is_refused(folder):
    assert "rollout 6 must be divisible by batch_size 4" in refuse(
        "04_training/ppo.py", *words_of(folder, "no_save"), "--rollout", 6)
    for words, said in (
        (("--beta", -0.1), "beta -0.1 must be at least 0.0"), (("--beta", "inf"), "beta inf must be at least 0.0"),
        (("--gamma", 1.5), "gamma 1.5 must be at least 0.0 and at most 1.0"), (("--epochs", 0), "epochs 0 must be"),
        (("--clip_range", 0), "clip_range 0.0 must be"), (("--target_kl", "nan"), "target_kl nan must be"),
        (("--smoothing", -1), "smoothing -1.0"), (("--reward", "nowhere.pt"), "no checkpoint nowhere.pt"),
        (("--reward", folder / "lm.pt"), "is no reward model"), (("--reward", "judge"), "knows the answers of docs"),
        (("--max_new_tokens", 30), "no question of"),
    ):
        with pytest.raises(UserError, match=said):
            ppo.train_command(ppo.arguments().parse([*map(str, words_of(folder, "no_save", *words))]))


@pytest.mark.slow
def test_help():
    out = " ".join(succeed("04_training/ppo.py", "-h").split())
    assert "'judge'" in out and "--target_kl" in out and "(default: 0.05)" in out


def test_the_judge_is_that_of_docs():
    pairs = docs_task.pairs("validation")[:3]
    questions = [rollouts.Question([], [], pair) for pair in pairs]
    score = rollouts.scorer("judge", None, None)
    assert score(questions, [pair.answer for pair in pairs]) == [1.0] * 3 and score(questions, [""] * 3) == [0.0] * 3
