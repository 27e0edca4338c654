"""The scripts, run as a reader would run them, with flags that take seconds; and what they count and keep."""

import math
import os
import re
import signal
import subprocess
import sys
import time

import approximate
import checkpoint
import least_squares
import numpy as np
import pytest
import torch
import watched_fits
from flags import UserError
from for_tests import ROOT, heed_ctrl_c, refuse, succeed
from functions import sample, values
from kan_layer import KAN
from mlp import MLP

TRAIN, INFER = "06_kan/train.py", "06_kan/infer.py"
NUMBER = r"(\d\.\d\de[-+]\d\d)"
SMALL = ("--grid", 5, 10, "--starts", 2, "--points", 400)


def errors(out, what="test RMSE"):
    """What is printed of the KAN, then of the MLP."""
    return [float(number) for number in re.findall(rf"{what} {NUMBER}", out)]


def untimed(out):
    """The output without seconds and without the names of files."""
    return re.sub(r"\d+\.\d\d s|checkpoint .*", "", out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    saved = tmp_path_factory.mktemp("kan") / "small.pt"
    return saved, succeed(TRAIN, *SMALL, "-s", saved)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV file of y = 1000 + 300 a b with a of 0 ... 5 and b of -20 ... -10."""
    random = np.random.default_rng(0)
    a, b = random.uniform(0, 5, 200), random.uniform(-20, -10, 200)
    path = tmp_path_factory.mktemp("tables") / "points.csv"
    path.write_text("x1,x2,y\n" + "".join(f"{p},{q},{1000 + 300 * p * q}\n" for p, q in zip(a, b)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_what_it_prints_and_leaves(trained):
    saved, out = trained
    assert "400 training and 400 test points; lm, at most 160 steps" in out
    kan, mlp = (int(number) for number in re.findall(r": (\d+) parameters", out))
    assert kan == 3 * (10 + 3 + 1) and abs(kan - mlp) < 10
    on_kan, on_mlp = errors(out)
    assert on_kan < 2e-2 < on_mlp, "a KAN of this shape is made for this function"
    assert out.count("failed starts") == 2 and re.search(r"best: \d of 2$", out, re.MULTILINE)
    for best, each in zip(errors(out, "training RMSE"), re.findall(r"each start: (.*)$", out, re.MULTILINE)):
        assert len(each.split()) == 2 and math.isclose(min(map(float, each.split())), best, rel_tol=0.1)
    assert saved.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_a_checkpoint_gives_the_networks_back(trained):
    saved, out = trained
    models, loaded = approximate.load_models(saved)
    x, y = sample("exp_sin", 400, loaded["run"]["seed"], edges=True)
    printed = errors(out, "training RMSE")
    for model, error, exact in zip(models.values(), printed, loaded["errors"].values()):
        assert math.isclose(least_squares.rmse(model, x, y), exact, rel_tol=1e-9)
        assert math.isclose(error, exact, rel_tol=0.01)
    assert loaded["run"]["widths"] == models["kan"].widths == [2, 1, 1] and models["kan"].grid_size == 10
    assert torch.equal(loaded["points"], x) and loaded["scale"]["deviation"] == 1
    test = sample("exp_sin", 400, loaded["run"]["seed"] + 2**20)
    assert math.isclose(least_squares.rmse(models["kan"], *test), errors(out)[0], rel_tol=0.01)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(trained):
    again = succeed(TRAIN, *SMALL, "-s", "no_save", "--seed", 1337)
    assert untimed(again).strip() == untimed(trained[1]).strip()
    assert errors(succeed(TRAIN, *SMALL, "-s", "no_save", "--seed", 7, 0.01, 80)) != errors(again)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_other_optimizers(optimizer):
    out = succeed(TRAIN, *SMALL, "--optimizer", optimizer, "-s", "no_save", "-d", "product", "--order", 2,
                  0.02, 300)
    assert "KAN 2-2-1, grid 10, order 2" in out and max(errors(out)) < 0.1
    for steps, gradients in re.findall(r"cost: ([\d,]+) steps, ([\d,]+) gradient", out):
        steps, gradients = int(steps.replace(",", "")), int(gradients.replace(",", ""))
        assert steps == gradients == 300 if optimizer == "adamw" else 0 < steps <= 300 < gradients


def arguments(*words):
    return approximate.training_arguments("").parse([*map(str, words)])


def test_a_fit_that_ends_in_no_number_is_a_failed_start(monkeypatch, capsys):
    """One start in two is broken: the other is kept, and the broken one is counted."""
    fits = []

    def broken(model, x, y, on_step, **settings):
        fits.append(1)
        if len(fits) % 2:
            on_step(500.0, 0, 1)
            on_step(math.nan, 1, 1)
        return least_squares.levenberg_marquardt(model, x, y, on_step=on_step, **settings)

    monkeypatch.setattr(watched_fits, "levenberg_marquardt", broken)
    args = arguments("--starts", 2, "--grid", 5, "--points", 200, "-s", "no_save")
    assert approximate.train_command(args)["kan"] < 5
    assert capsys.readouterr().out.count("the best: 1 of 2") == 2


@pytest.mark.parametrize("passes", [7, 100])
def test_ctrl_c_saves_what_there_is(monkeypatch, tmp_path, capsys, passes):
    """After 7 looks the KAN has hardly begun; after 100 it is there, and the MLP has begun."""
    look, looks = watched_fits.Watch.on_step, []

    def interrupted(self, *words):
        used = look(self, *words)
        looks.append(used)
        if len(looks) == passes:
            raise KeyboardInterrupt
        return used

    monkeypatch.setattr(watched_fits.Watch, "on_step", interrupted)
    path = tmp_path / "stopped.pt"
    words = ("--starts", 1, "--grid", 5, 10, "--points", 200, "-s", path, 0.01, 60)
    assert approximate.train_command(arguments(*words)) is None
    assert "stopped" in capsys.readouterr().out
    models, loaded = approximate.load_models(path)
    assert list(models) == (["kan"] if passes == 7 else ["kan", "mlp"])
    x, y = sample("exp_sin", 200, 1337, edges=True)
    for kind, model in models.items():
        assert math.isclose(least_squares.rmse(model, x, y), loaded["errors"][kind], rel_tol=1e-9)
    monkeypatch.undo()
    errors = approximate.train_command(arguments("-l", path))
    assert list(errors) == ["kan", "mlp"], "one that is not there yet must be begun"
    assert errors["kan"] < 1.1 * loaded["errors"]["kan"], "are the weights those that were kept?"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_a_real_ctrl_c_saves_and_says_where(tmp_path):
    path = tmp_path / "interrupted.pt"
    words = [sys.executable, str(ROOT / TRAIN), "--starts", "10000", "--points", "200", "-s", str(path)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "preexec_fn": heed_ctrl_c}
    with subprocess.Popen(words, **settings) as process:
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert "training" in lines[1]  # from here on it is fitting
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, failure = process.communicate(timeout=60)
    assert process.returncode == 130 and not failure, failure
    assert "stopped" in out and "interrupted.pt" in out
    models, loaded = approximate.load_models(path)
    found = least_squares.rmse(models["kan"], *sample("exp_sin", 200, 1337, edges=True))
    assert math.isclose(found, loaded["errors"]["kan"], rel_tol=1e-9)


@pytest.mark.slow
def test_going_on_from_a_checkpoint(trained, tmp_path):
    saved, out = trained
    copy = tmp_path / "finer.pt"
    again = succeed(TRAIN, "-l", saved, "-s", copy, "--grid", 20)
    assert "KAN 2-1-1, grid 20" in again and "400 training" in again
    assert all(new <= old for new, old in zip(errors(again, "training RMSE"), errors(out, "training RMSE")))
    assert errors(again, "training RMSE")[0] < errors(out, "training RMSE")[0] / 5, "is the old KAN made finer?"
    assert approximate.load_models(copy)[0]["kan"].grid_size == 20
    begun = succeed(TRAIN, "-l", saved, "-s", "no_save", "-d", "product", 0.01, 1)
    assert begun.startswith("product:") and "KAN 2-1-1" in begun


@pytest.mark.slow
def test_a_table_of_numbers(table, tmp_path):
    saved = tmp_path / "table.pt"
    out = succeed(TRAIN, "-d", table, "--widths", 2, 2, 1, "--grid", 3, "--starts", 3, "-s", saved)
    assert "160 training and 40 test points" in out
    deviation = float(re.search(r"the mean: RMSE (\d+)", out)[1])
    assert 1000 < deviation < 10000 and min(errors(out)) < deviation / 50, "errors are in the numbers of the file"
    out = succeed(INFER, 2, -15, 4, -11.5, "-l", saved)
    for (kan, mlp), exact in zip(re.findall(r"KAN (\S+), MLP (\S+)$", out, re.MULTILINE), (-8000, -12800)):
        assert min(abs(float(kan) - exact), abs(float(mlp) - exact)) < deviation / 20
    assert "exact" not in out and "outside" in succeed(INFER, 6, -15, "-l", saved)
    text = succeed(INFER, "--formula", "-l", saved)
    assert "y = -" in text and "x2 is brought from -19.9" in text


@pytest.mark.slow
def test_values_are_those_of_the_model(trained):
    saved, _ = trained
    out = succeed(INFER, 0.5, -0.2, -1, 0.25, "-l", saved)
    points = torch.tensor([[0.5, -0.2], [-1, 0.25]], dtype=torch.float64)
    expected = [model(points)[:, 0].tolist() for model in approximate.load_models(saved)[0].values()]
    expected.append(values("exp_sin", points)[:, 0].tolist())
    lines = re.findall(r"^f\(.*\): KAN (\S+), MLP (\S+), exact (\S+)$", out, re.MULTILINE)
    assert len(lines) == 2
    assert np.allclose([[float(number) for number in line] for line in lines], np.transpose(expected), rtol=1e-6)
    assert succeed(INFER, "-l", saved).count("exact") == 3
    assert "outside" in succeed(INFER, 2, 0, "-l", saved) and "outside" not in out


@pytest.mark.slow
def test_the_formula_and_the_figure(trained, tmp_path):
    saved, _ = trained
    picture = tmp_path / "kan.png"
    out = succeed(INFER, "--formula", "--plot", picture, "-l", saved)
    assert all(float(r2) > 0.999 for r2 in re.findall(r"R\^2 (\S+)$", out, re.MULTILINE)) and out.count("R^2") == 4
    assert re.findall(r"to 1: (\S+)", out) == ["sin", "x^2", "exp"]
    assert re.search(r"^y = .*exp\(.*sin\(.*x1.*x2", out, re.MULTILINE) and "where" not in out
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_pruning_leaves_a_smaller_kan(tmp_path):
    saved = tmp_path / "wide.pt"
    succeed(TRAIN, "-d", "I.12.11", "--widths", 2, 4, 1, *SMALL[:2], "--starts", 1, "--points", 300, "-s", saved)
    models, loaded = approximate.load_models(saved)
    with torch.no_grad():
        models["kan"].layers[1].weight[:, :, :3] = 0  # of three of the four neurons nothing is heard
    contents = checkpoint.load(saved, "kan")
    contents["models"]["kan"] = models["kan"].state_dict()
    checkpoint.save(saved, **{name: value for name, value in contents.items() if name != "format"})
    assert "pruned to 2-1-1" in succeed(INFER, 0.5, 1, "--prune", 0.01, "-l", saved)


@pytest.mark.slow
def test_from_a_wide_kan_to_a_pruned_one_that_is_fitted_on(tmp_path):
    sparse, pruned = tmp_path / "sparse.pt", tmp_path / "pruned.pt"
    out = succeed(TRAIN, "--widths", 2, 3, 1, "--grid", 5, "--optimizer", "adamw", "--sparsity", 0.1, "--starts", 1,
                  "--points", 300, "--seed", 2, "-s", sparse, 0.03, 1500)
    again = succeed(TRAIN, "-l", sparse, "--prune", 0.05, "--optimizer", "lm", "--grid", 5, 10, 20, "-s", pruned)
    widths = [int(width) for width in re.match(r"pruned to 2-(\d)-1\nexp_sin", again).groups()]
    assert approximate.load_models(pruned)[0]["kan"].widths == [2, *widths, 1] and widths < [3]
    assert errors(again)[0] < errors(out)[0] / 100, "is lm freed from the price of curves?"
    assert approximate.load_models(sparse)[0]["kan"].widths == [2, 3, 1], "what was loaded must stay"


@pytest.mark.slow
def test_classes():
    out = succeed(TRAIN, "-d", "moons", "--widths", 2, 2, 1, *SMALL, "-s", "no_save", 0.01, 60)
    assert all(float(share) > 80 for share in re.findall(r"([\d.]+)% of the test points", out))
    assert out.count("in the right class") == 2


def test_an_mlp_of_about_as_many_parameters():
    for count in (1, 20, 130, 1000):
        for inputs in (1, 2, 10):
            widths = approximate.equal_mlp(count, inputs)
            found = MLP(widths).parameter_count()
            for other in (widths[1] - 1, widths[1] + 1):
                assert other < 1 or abs(found - count) <= abs(
                    MLP([inputs, other, other, 1]).parameter_count() - count)


def test_grids_become_finer_while_parameters_are_few():
    assert approximate.doubled([2, 1, 1], 3) == [5, 5, 10, 20, 40, 80]
    assert approximate.doubled([2, 5, 1], 3) == [5, 5, 10]
    assert approximate.doubled([100, 1, 1], 3) == [5, 5]


def test_the_default_networks_are_trained_once(monkeypatch, tmp_path):
    monkeypatch.setattr(approximate, "DEFAULT_CHECKPOINT", tmp_path / "kan.pt")
    monkeypatch.setitem(approximate.DEFAULTS, "starts", 1)
    monkeypatch.setitem(approximate.STEPS, "lm", 8)
    assert approximate.ensure_model() == tmp_path / "kan.pt"
    written = (tmp_path / "kan.pt").stat().st_mtime_ns
    assert approximate.ensure_model() == tmp_path / "kan.pt" and (tmp_path / "kan.pt").stat().st_mtime_ns == written


@pytest.mark.slow
def test_mistakes_end_in_one_line_with_the_cure(trained, tmp_path):
    saved, _ = trained
    assert "choose from bessel" in refuse(TRAIN, "-d", "nothing")
    assert "stand before the flag" in refuse(TRAIN, "--widths", 2, 1, 1, "1e-2")
    assert "give 2, or 4 for two points" in refuse(INFER, 1, 2, 3, "-l", saved)
    assert "finite" in refuse(INFER, 1, "nan", "-l", saved)
    assert "prune 1.5 must be" in refuse(INFER, "--prune", 1.5, "-l", saved)
    assert "digits -1 must be" in refuse(INFER, "--digits", -1, "-l", saved)
    checkpoint.save(tmp_path / "gpt.pt", "gpt", model={})
    assert "not 'kan'" in refuse(INFER, "-l", tmp_path / "gpt.pt")


@pytest.mark.parametrize("words, cure", [
    (("-d", "{folder}"), "or give the path of a CSV file"), (("-d", "{short}"), "give at least 10"),
    (("-d", "{odd}"), "line 3: y is 'three'"), (("-d", "{huge}"), "too large"),
    (("--widths", 3, 1), "must begin with 2"), (("--widths", 2, 0, 1), "must begin with 2"),
    (("--mlp_widths", 2, 5, 2), "and end with 1"), (("--grid", 0), "at least 1"),
    (("--sparsity", 0.1), "goes with --optimizer adamw"), (("--sparsity", -1), "must be at least 0"),
    (("--prune", 0.1), "name its checkpoint with -l"), (("-l", "{saved}", "--prune", 1), "less than 1"),
    (("--order", 0), "order 0 must be at least 1"), (("--starts", 0), "starts 0 must be at least 1"),
    (("--points", 3), "at least 10"), ((0,), "learning_rate 0.0 must be more than 0"), ((11,), "at most 10"),
    ((0.01, 0), "steps 0 must be"), (("-d", "hundred", "--grid", 40), "take --optimizer lbfgs"),
    (("--trials", 0), "trials 0 must be at least 1"), (("-l", "{saved}", "--trials", 3), "leave it out"),
    (("-l", "{folder}/none.pt"), "no checkpoint"), (("-l", "{saved}", "--widths", 2, 2, 1), "2 2 1 contradicts"),
    (("-l", "{saved}", "--order", 2), "order 2 contradicts"), (("-l", "{saved}", "--starts", 3), "leave it out"),
    (("-l", "{saved}", "-d", "bessel"), "must begin with 1"), (("-s", "{folder}"), "name of a file"),
])
def test_what_can_not_be_trained_is_told(trained, tmp_path, words, cure):
    files = {"folder": tmp_path, "saved": trained[0]}
    for name, text in (("short", "1,2\n2,3\n"), ("odd", "1,2\n2,three\n"), ("huge", "1e308,1\n-1e308,2\n" * 6)):
        files[name] = tmp_path / f"{name}.csv"
        files[name].write_text("x1,y\n" + text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        approximate.train_command(arguments(*(str(word).format(**files) for word in words)))
    assert cure in str(error.value)


@pytest.mark.slow
def test_a_kan_of_one_curve_is_drawn_too(tmp_path):
    saved = tmp_path / "bessel.pt"
    out = succeed(TRAIN, "-d", "bessel", "--starts", 1, "--grid", 40, "--points", 300, "-s", saved)
    assert "KAN 1-1, grid 40" in out and errors(out)[0] < 1e-2
    assert isinstance(approximate.load_models(saved)[0]["kan"], KAN)
    succeed(INFER, 0.3, "--plot", tmp_path / "k.png", "-l", saved)
    assert (tmp_path / "k.png").exists()
