"""variants.py and depth.py: what they compare, and that they run."""

import re

import pytest
import torch
from depth import DEPTHS, KINDS, build, gradient_norms
from for_tests import refuse, shared, succeed
from gpt import GPT, GPTConfig
from variants import VARIANTS, active_parameters

SMALL = (16, 4, 16, 3e-3, 6, 2)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "play.txt"
    path.write_text(shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:50_000], encoding="utf-8")
    return path


def test_variants_have_about_as_many_parameters_at_work():
    with torch.device("meta"):
        models = {name: GPT(GPTConfig(2048, 128, 128, 4, 4, **settings)) for name, settings in VARIANTS.items()}
    counts = {name: active_parameters(model) for name, model in models.items()}
    assert all(abs(count / counts["GPT-2's block"] - 1) < 0.1 for count in counts.values()), counts
    experts = models["+ 8 experts, 2 for each token"]
    gates = sum(block.feed_forward.gate.weight.numel() for block in experts.blocks)
    layer = sum(p.numel() for p in experts.blocks[0].feed_forward.experts[0].parameters())
    assert counts["+ 8 experts, 2 for each token"] == experts.parameter_count() - 4 * 6 * layer and gates == 4 * 8 * 128


def test_without_residual_connections_gradients_vanish_with_depth():
    ids = torch.randint(60, (4, 16), generator=torch.Generator().manual_seed(0))
    norms = {}
    for name, (residual, norm) in KINDS.items():
        torch.manual_seed(0)
        model = build(GPTConfig(60, 32, 16, 4, DEPTHS[-1], norm=norm), residual)
        norms[name] = gradient_norms(model, ids, ids.roll(-1, 1))
        assert len(norms[name]) == 12 and all(p.grad is None for p in model.parameters())
    assert norms["neither"][0] < 1e-3 * norms["neither"][-1]
    assert 0.1 < norms["both"][0] / norms["both"][-1] < 10


def test_a_block_without_residual_connections_forgets_what_came_in():
    torch.manual_seed(0)
    config = GPTConfig(60, 32, 16, 4, 1)
    plain, usual = build(config, False).blocks[0], build(config, True).blocks[0]
    usual.load_state_dict(plain.state_dict())
    x = torch.randn(1, 5, 32)
    inner = plain.attention(plain.attention_norm(x))
    assert torch.allclose(plain(x), plain.feed_forward(plain.feed_forward_norm(inner)))
    y = x + inner
    assert torch.allclose(usual(x), y + usual.feed_forward(usual.feed_forward_norm(y)), atol=1e-6)


@pytest.mark.slow
def test_scripts(text, tmp_path):
    out = succeed("03_gpt/variants.py", "-t", "char", "-d", text, "-o", tmp_path / "v.png", 64, 4, 16, 3e-3, 6, 2, 1)
    assert all(f"{name}: " in out for name in VARIANTS) and "the experts got" in out
    words = (64, 4, 16, 3e-3, 6, 2, 1, "-t", "char", "-d", text, "-o", tmp_path / "some.png", "--only", "ROPE")
    out = succeed("03_gpt/variants.py", *words, "--only", "expert", "--seeds", 5, 6)
    for name in VARIANTS:
        each = re.findall(rf"^{re.escape(name)}: .* validation loss (\d\.\d{{3}})$", out, re.MULTILINE)
        told = re.findall(rf"^{re.escape(name)}, 2 seeds: .* losses (\S+) (\S+), mean (\S+)$", out, re.MULTILINE)
        if name in ("+ RoPE", "+ 8 experts, 2 for each token"):
            assert [tuple(each)] == [losses[:2] for losses in told] and each[0] != each[1], out
            assert abs(float(told[0][2]) - (float(each[0]) + float(each[1])) / 2) < 0.0011
        else:
            assert not each and not told
    alone = succeed("03_gpt/variants.py", *words, "--seeds", 6)
    assert re.search(r"RoPE: .*loss (\S+)", alone)[1] == re.findall(r"RoPE: .*loss (\S+)", out)[1], "seed 6 is seed 6"
    assert "no variant has Mamba in its name: GPT-2" in refuse("03_gpt/variants.py", "--only", "Mamba")
    assert "seed -1 must be 0 or more" in refuse("03_gpt/variants.py", "--seeds", 0, -1)
    out = succeed("03_gpt/depth.py", "-t", "char", "-d", text, "-o", tmp_path / "d.png", *SMALL)
    assert all(f"{depth} layers, {name}: validation loss" in out for depth in DEPTHS for name in KINDS)
    assert all((tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in "vd")
