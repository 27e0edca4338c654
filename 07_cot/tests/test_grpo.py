"""GRPO: groups with and without signal, collapses, and that it learns."""

import json
import signal

import checkpoint
import grpo
import pytest
import self_training_table
import star
import torch
import trainer
from chains import Chain
from for_tests import refuse, succeed
from optimizers import make_optimizer
from policy_loss import GRPO, VARIANTS, PolicyLoss, token_weights
from schedules import constant
from self_training import Enough, Watch

# ---- groups ----


def groups_of(student, *words):
    args = grpo.arguments().parse(["-d", "larger", "--questions", "16", *map(str, words)])
    grpo.check(args)
    student.args = args
    policy = PolicyLoss(student.model, args.ratio, args.clip_low, args.clip_high, args.beta)
    return policy, grpo.Groups(student, policy, Watch(student, student.problems("train", 100, 0)))


def test_groups_without_signal_are_counted_and_skipped(monkeypatch, student_of_larger):
    student = student_of_larger()
    _, groups = groups_of(student, "--samples", 4)
    rewards = {}

    def planted(question, chain):
        """Of every second question all chains are as good."""
        seen = rewards.setdefault(question, [])
        seen.append(len(rewards) % 2 and len(seen) % 2)
        return float(seen[-1])

    monkeypatch.setattr(student, "reward", planted)
    state = groups.roll_out(0)
    asked = len(rewards)
    assert (state["groups"], state["with_signal"]) == (asked, (asked + 1) // 2)
    assert len(state["parts"][0]) == 4 * state["with_signal"], "chains of groups without signal must not be there"
    assert (state["parts"][3][state["parts"][1] != -100].abs() > 0).all(), "every token has an advantage"

    monkeypatch.setattr(student, "reward", lambda question, chain: 1.0)
    with pytest.raises(Enough, match="no signal"):
        groups.roll_out(1)


def test_dynamic_sampling_replaces_groups_without_signal(monkeypatch, student_of_larger):
    student = student_of_larger()
    _, groups = groups_of(student, "--samples", 4, "--variant", "dapo", "--questions", 8)
    turns = iter(range(10**6))
    monkeypatch.setattr(student, "reward", lambda question, chain: float((i := next(turns)) % 8 < 4 and i % 2))
    state = groups.roll_out(0)
    assert len(state["parts"][0]) == 8 * 4 and state["groups"] == 16, "half of the groups have a signal"


def test_a_rollout_is_what_the_policy_said(student_of_larger):
    student = student_of_larger()
    policy, groups = groups_of(student, "--beta", 0.1)
    ids, targets, old, better, _, reference = groups.batch(0)
    counted = targets != -100
    assert torch.allclose(old[counted], policy.look(ids, targets), atol=1e-4), "log-probabilities of another model"
    assert torch.allclose(reference, old, atol=1e-4), "at first the policy is the reference"
    _, loss = policy(ids, targets, old, better, token_weights(targets, "chains", 9), reference)
    assert policy.seen[0][1] == pytest.approx(0, abs=1e-4)
    again = groups_of(student_of_larger(), "--beta", 0.1)[1]
    torch.manual_seed(0)
    first = again.roll_out(0)["parts"]
    torch.manual_seed(0)
    assert all(map(torch.equal, first, again.roll_out(0)["parts"])), "chance must hang on (seed, step) alone"


def test_a_chain_that_did_not_end_earns_nothing(student_of_larger):
    student = student_of_larger()
    end = student.tokenizer.end_of_text
    right = student.tokenizer.encode("#3")
    assert student.reward("13?", Chain("#3", [*right, end])) == 1
    assert student.reward("13?", Chain("#3", right)) == 0
    assert student.reward("13?", Chain("#1", [*student.tokenizer.encode("#1"), end])) == 0


def test_pieces_of_a_batch_add_up(student_of_larger):
    """trainer.py weights a piece by its tokens: with token weights the chains still count alike."""
    student = student_of_larger()
    policy, batch = groups_of(student)
    parts = batch.batch(0)
    gradients = []
    for rows in (1000, 3):
        policy.zero_grad()
        trainer.add_gradients(policy, parts, rows, torch.float32)
        gradients.append([w.grad.clone() for w in policy.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients))


# ---- learning, and not ----


def learn(student, learning_rate, steps, *words):
    policy, groups = groups_of(student, *words)
    watch, rate = groups.watch, constant(learning_rate, steps)
    optimizer = make_optimizer(policy, "adamw", learning_rate, 0.0)
    trainer.train(policy, groups.batch, optimizer, rate, steps, watch.validate, on_row=watch.look)
    return watch


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_that_guesses_learns(variant, student_of_larger):
    """It has learned to say one of two digits, and is rewarded for the larger."""
    student = student_of_larger()
    before, _ = student.share_right(student.problems("train", 100, 0))
    watch = learn(student, 2e-3, 40, "--variant", variant)
    assert before < 0.75 and watch.points[-1]["right"] > 0.9, f"{before:.2f} -> {watch.points[-1]['right']:.2f}"


def test_a_collapse_is_noticed_and_the_best_weights_kept(student_of_larger):
    student = student_of_larger()
    problems = student.problems("train", 100, 0)
    before, _ = student.share_right(problems)
    policy, groups = groups_of(student)
    watch, optimizer = groups.watch, make_optimizer(policy, "adamw", 1.0, 0.0)
    watch.validate()
    with pytest.raises(Enough, match="collapse"):
        trainer.train(policy, groups.batch, optimizer, constant(1.0, 10), 10, watch.validate, on_row=watch.look)
    assert student.share_right(problems)[0] < before - 0.1
    student.model.load_state_dict(watch.state["best"])
    assert student.share_right(problems)[0] == before, "the best weights are gone"


@pytest.mark.parametrize(("name", "value", "sign"), [("right", 0.49, "solved"), ("ended", 0.8, "end"),
                                                     ("entropy", 0.41, "nats")])
def test_each_sign_of_a_collapse(name, value, sign):
    point = {"right": 0.6, "ended": 1.0, "entropy": 0.2}
    watch = Watch(None, [], {"points": [point | {"entropy": None}, point, point | {"right": 0.55}], "cpu_seconds": 0,
                             "best": None})
    assert watch.collapse() is None
    watch.points.append(point | {name: value})
    assert sign in watch.collapse()


# ---- the script ----


@pytest.fixture(scope="module")
def reasoner(tmp_path_factory):
    """A small reasoner of sums of two digits that has not learned all of them."""
    path = tmp_path_factory.mktemp("grpo") / "small.pt"
    succeed("07_cot/train.py", "-d", "arithmetic", "--style", "chain", "--difficulty", 1, "--problems", 100, "-s", path,
            32, 32, 32, 1e-2, 40, 2, 2)
    return path


WORDS = ("--questions", 8, "--samples", 4, 16, 1e-4, 10)


@pytest.mark.slow
def test_the_script(reasoner, tmp_path):
    out = succeed("07_cot/grpo.py", "--reasoner", reasoner, "-s", tmp_path / "new.pt",
                  "--results", tmp_path / "r.jsonl", "--variant", "dr_grpo", "--beta", 0.1, *WORDS, cwd=tmp_path)
    assert "groups had a signal" in out and "before" in out
    assert (tmp_path / "r.jsonl").read_text(encoding="utf-8").count("\n") == 1
    kept = checkpoint.load(tmp_path / "new.pt", "gpt")
    assert kept["run"]["std"] == "none" and kept["progress"]["finished"]
    for words, part in ((("--std", "none", "--clip_low", 2), "clip_low"), (("--samples", 1), "samples"),
                        (("--temperature", 0), "temperature"), (("-d", "words"), "not words"),
                        (("-l", reasoner), "--reasoner")):
        assert part in refuse("07_cot/grpo.py", "--reasoner", reasoner, *words)


@pytest.mark.slow
def test_an_unfinished_run_goes_on_as_if_nothing_had_been(reasoner, tmp_path, monkeypatch):
    def train(save, *words):
        words = ("--reasoner", reasoner, "-s", save, "--epochs", 2, *words, *WORDS)
        return grpo.train_command(grpo.arguments().parse(list(map(str, words))))

    whole = train(tmp_path / "whole.pt")
    plain = grpo.Groups.batch

    def stopped(self, step):
        if step == 5:
            signal.raise_signal(signal.SIGINT)
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(grpo.Groups, "batch", stopped)
        assert train(tmp_path / "parts.pt") is None
    assert checkpoint.load(tmp_path / "parts.pt", "gpt")["progress"]["step"] == 6
    parts = train(tmp_path / "parts.pt", "-l", tmp_path / "parts.pt")
    one, other = (checkpoint.load(tmp_path / name, "gpt")["model"] for name in ("whole.pt", "parts.pt"))
    assert all(torch.equal(w, other[name]) for name, w in one.items())
    assert [point["right"] for point in whole["points"]] == [point["right"] for point in parts["points"]]
    assert (whole["groups"], whole["after"]) == (parts["groups"], parts["after"])


def test_the_default_is_grpo():
    args = grpo.arguments().parse([])
    grpo.check(args)
    assert {name: getattr(args, name) for name in GRPO} == GRPO


# ---- the table ----


def test_recorded_runs_are_not_repeated(tmp_path, capsys, monkeypatch):
    """Planted records, as two scripts would have left them: the gain is the mean over seeds, in points."""
    point = {"cpu_seconds": 1.0, "right": 0.4}
    common = {"before": 0.4, "perplexity_before": 1.08, "perplexity_after": 1.04, "cpu_seconds": 80.4,
              "ended_early": None, "points": [point, point | {"cpu_seconds": 2.0, "right": 0.6}]}
    records = [{**common, **grpo.NUMBERS, "what": "grpo", "variant": "grpo", "seed": seed, "after": after,
                "groups": 100, "with_signal": 80} for seed, after in ((1, 0.6), (2, 0.7))]
    records.append({**common, **star.NUMBERS, "what": "star", "seed": 1, "after": 0.5, "ended_early": "a collapse"})
    shorter = {**records[0], "steps": 2, "after": 0.1}  # another run: found first, and not taken
    lines = "".join(f"{json.dumps(each)}\n" for each in [shorter, *records])
    (tmp_path / "r.jsonl").write_text(lines, encoding="utf-8")
    words = ["--methods", "grpo", "star", "--results", str(tmp_path / "r.jsonl"), "-o", str(tmp_path / "f.png")]
    monkeypatch.setattr("sys.argv", ["table", *words, "--seeds", "1"])
    self_training_table.main()
    assert "| grpo | 40.0% | 60.0% | +20.0 points | 1.0400 | 80 | 80% |" in capsys.readouterr().out
    assert (tmp_path / "f.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["records"]) == 2
    lines = list(self_training_table.table({"grpo": records[:2], "star": records[2:]}))
    assert "| 60.0%, 70.0% | +25.0 points |" in lines[2], lines[2]
    assert lines[3].startswith("| star; seed 1 stopped: a collapse | 40.0% | 50.0% |")
