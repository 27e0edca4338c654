"""A KAN in the place of a feed-forward layer: as many parameters, the same shapes, and it learns."""

import kan_in_gpt
import pytest
import torch
from for_tests import refuse, succeed
from gpt import GPT, GPTConfig
from kan_layer import KAN


def test_it_has_as_many_parameters_and_its_grids_reach_its_inputs():
    torch.manual_seed(0)
    ids = torch.randint(50, (4, 16))
    model = GPT(GPTConfig(50, 64, 16, 2, 2))
    count = model.parameter_count()
    model = kan_in_gpt.with_kans(model, lambda step: (ids, ids), 5)
    assert all(isinstance(block.feed_forward, KAN) for block in model.blocks)
    assert abs(model.parameter_count() - count) < 0.02 * count
    seen = []
    model.blocks[0].feed_forward.register_forward_hook(lambda layer, inputs, output: seen.extend(inputs))
    model(ids)
    grid = model.blocks[0].feed_forward.layers[0].grid
    assert (seen[0] >= grid[:, 0]).all() and (seen[0] <= grid[:, -1]).all(), "inputs are outside of the splines"


@pytest.mark.slow
def test_the_script(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 200, encoding="utf-8")
    out = succeed("06_kan/kan_in_gpt.py", "-d", text, "-t", "char", 16, 4, 16, 3e-3, 60, 2, 1, "--seeds", 1)
    losses = [float(line.split("|")[3]) for line in out.splitlines() if line.startswith(("| MLP", "| KAN"))]
    assert len(losses) == 2 and max(losses) < 2.6, "neither should be near ln(20) = 3.0 any more"


@pytest.mark.slow
@pytest.mark.parametrize(("words", "cure"), [(["--grid_size", 0], "at least 1"), (["10", "--seeds", "1"], "divisible")])
def test_mistakes(words, cure):
    assert cure in refuse("06_kan/kan_in_gpt.py", *words)
