"""The comparison is of equals, goes on where it stopped, and its page says what its results say."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import answer
import answer_summary as summary
import pytest
import scaling_law
from for_tests import ROOT, heed_ctrl_c, refuse, succeed
from functions import SHAPES, TARGETS
from watched_fits import build

ANSWER, SCALING = "06_kan/answer.py", "06_kan/scaling_law.py"
PAGE = (ROOT / "06_kan/EXPERIMENTS.md").read_text(encoding="utf-8")


def test_networks_have_equal_parameters():
    for name in TARGETS:
        count = answer.usual_size(name)
        built = [answer.network_of(name, network, optimizer, count)
                 for network in answer.NETWORKS for optimizer in answer.OPTIMIZERS]
        assert len(built) - built.count(None) == 3 * (5 - (name not in SHAPES) - (name == "hundred"))
        for kind, config, grids in filter(None, built):
            model = build(kind, config | ({"grid_size": grids[-1]} if kind == "kan" else {}))
            assert abs(model.parameter_count() - count) <= 0.12 * count, (name, config)
    assert answer.halved(40) == [5, 10, 20, 40] and answer.halved(5) == [5]


def rows_of(*errors, network="KAN, told", optimizer="lm"):
    blank = dict.fromkeys(answer.COLUMNS, 1.0) | {"function": "product", "network": network, "optimizer": optimizer}
    return [blank | {"size": 210, "seed": seed, "test": error} for seed, error in enumerate(errors)]


def test_the_tables_say_medians_best_ones_and_failures():
    rows = rows_of(2e-3, 1e-3, 4e-2) + rows_of(1e-3, 1e-3, 3e-3, network="MLP, 1 hidden")
    line = list(summary.table(rows))[2]
    assert line == "| product | lm | 2.0e-03 / 1.0e-03, 1 failed |  | **1.0e-03** / 1.0e-03 |  |  |"
    told, mlp = list(summary.costs(rows))[2:]
    assert told.startswith("| KAN, told | lm | 0 of 1 | 2.0 | 1 of 3 |")
    assert mlp.startswith("| MLP, 1 hidden | lm | 1 of 1 | 1.0 | 0 of 3 |")


@pytest.mark.slow
def test_a_small_comparison_and_going_on(tmp_path):
    words = ("-d", "product", "exp_sin", "--seeds", 0, "--seconds", 0.03, "--results", tmp_path, "-o", tmp_path)
    out = succeed(ANSWER, *words)
    assert len(re.findall(r"^\| (?:product|exp_sin) \|", out, re.MULTILINE)) == 6 and "45 fits" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "answer.json", "answer_parameters.png", "answer_costs.png"}
    path = tmp_path / "answer.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert all(math.isfinite(row[9]) for row in rows)
    kept = dict(json.loads(path.read_text(encoding="utf-8")), rows=rows[:-2])
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert len(succeed(ANSWER, *words)) > 0
    again = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert again[:-2] == rows[:-2], "what is there must not be done again"
    assert [row[:6] for row in again] == [row[:6] for row in rows]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_ctrl_c_leaves_what_is_done(tmp_path):
    words = [sys.executable, str(ROOT / ANSWER), "-d", "product", "--seconds", "0.02", "--results", str(tmp_path), "-o",
             str(tmp_path)]
    path = tmp_path / "answer.json"
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "preexec_fn": heed_ctrl_c}
    with subprocess.Popen(words, **settings) as process:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, failure = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in failure
    assert 0 < len(answer.load(path)) < 75


@pytest.mark.slow
def test_mistakes(tmp_path):
    assert "choose from" in refuse(ANSWER, "-d", "nothing")
    assert "seconds 0.0 must be more than 0" in refuse(ANSWER, "--seconds", 0)
    assert "must rise" in refuse(SCALING, "--grid", 20, 10)
    (tmp_path / "answer.json").write_text("[]", encoding="utf-8")
    assert "delete it" in refuse(ANSWER, "--results", tmp_path)


def test_the_page_has_the_tables_of_the_results():
    rows = [row for row in answer.load(ROOT / "06_kan/figures/answer.json").values() if row["budget"] >= 2]
    assert len({row["seed"] for row in rows}) >= 5, "asked are five seeds"
    for line in [*summary.table(rows), *summary.costs(rows)]:
        assert line in PAGE, f"not in EXPERIMENTS.md: {line}"


def test_the_slope_is_that_of_a_power():
    assert math.isclose(scaling_law.slope([5, 10, 20, 40], [9, 10**-3.5, 20**-3.5, 40**-3.5]), -3.5)


@pytest.mark.slow
def test_the_error_falls_with_the_fourth_power(tmp_path):
    out = succeed(SCALING, "--grid", 5, 10, 20, 40, "--seeds", 0, "--points", 1000, "-o", tmp_path / "law.png")
    assert float(re.search(r"from 10 cells on: (\S+)", out)[1]) < -3.8, "the paper has -4"
    assert (tmp_path / "law.png").exists()
