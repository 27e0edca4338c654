"""The head and loss in pieces: equal to the whole, forward and backward, in a fraction of the memory."""

import subprocess
import sys

import linear_cross_entropy as module
import pytest
import torch
import torch.nn.functional as F
from for_tests import ROOT
from linear_cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize("ignored", [False, True])
def test_equals_cross_entropy(monkeypatch, rows, ignored):
    torch.manual_seed(0)
    N, C, V = 64, 24, 301
    monkeypatch.setattr(module, "CHUNK_BYTES", rows * 4 * V)
    hidden, weight = torch.randn(4, N // 4, C), torch.randn(V, C)
    targets = torch.randint(V, (4, N // 4))
    if ignored:
        targets[:, ::3] = -100
    results = []
    for loss_of in (linear_cross_entropy, lambda h, w, t: F.cross_entropy((h @ w.T).flatten(0, 1), t.flatten())):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = loss_of(h, w, targets)
        (3 * loss).backward()  # a factor from outside must arrive in the gradients
        results.append((loss, h.grad, w.grad))
    for ours, theirs in zip(*results):
        assert (ours - theirs).abs().max() < 1e-5, "is the mean over the targets that count?"


def test_equals_torchs_own():
    torch.manual_seed(0)
    h, w, t = torch.randn(50, 16), torch.randn(99, 16), torch.randint(99, (50,))
    assert torch.allclose(linear_cross_entropy(h, w, t), F.linear_cross_entropy(h, w, t), atol=1e-5)


def test_gradcheck_and_frozen_sides():
    torch.manual_seed(0)
    h, w, t = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64), torch.randint(7, (5,))
    for need_h, need_w in ((True, False), (False, True)):
        inputs = h.clone().requires_grad_(need_h), w.clone().requires_grad_(need_w)
        linear_cross_entropy(*inputs, t).backward()
        assert (inputs[0].grad is not None, inputs[1].grad is not None) == (need_h, need_w)
    with torch.no_grad():
        assert linear_cross_entropy(h, w, t) > 0


def test_loss_is_computed_in_float32_under_bfloat16():
    torch.manual_seed(0)
    h, w, t = torch.randn(64, 32), torch.randn(500, 32) * 0.1, torch.randint(500, (64,))
    expected = F.cross_entropy((h.bfloat16() @ w.bfloat16().T).float(), t)
    h.requires_grad_(), w.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(h, w, t)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.allclose(loss, expected, atol=1e-4)
    assert h.grad.dtype == w.grad.dtype == torch.float32


@pytest.mark.slow
def test_the_logits_never_exist_at_once():
    """4,096 positions of a vocabulary of 50,000: 819 MB of logits, and as much for their gradients."""
    resource = pytest.importorskip("resource", reason="missing hardware: Windows can't tell its peak memory")
    assert resource
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / '03_gpt')!r})\n"
        "import resource, torch\n"
        "from linear_cross_entropy import linear_cross_entropy\n"
        "h, w = torch.randn(4096, 8, requires_grad=True), torch.randn(50_000, 8, requires_grad=True)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "linear_cross_entropy(h, w, torch.randint(50_000, (4096,))).backward()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = int(subprocess.check_output([sys.executable, "-c", program], encoding="utf-8"))
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 400e6, "are all logits alive at the same time?"


def test_gradients_are_taken_once_and_scaled():
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(11, (5,))
    loss = 3 * linear_cross_entropy(hidden, weight, targets)
    loss.backward(retain_graph=True)
    expected = torch.autograd.grad(3 * torch.nn.functional.cross_entropy(hidden @ weight.T, targets), (hidden, weight))
    assert torch.allclose(hidden.grad, expected[0], atol=1e-6) and torch.allclose(weight.grad, expected[1], atol=1e-6)
    with pytest.raises(RuntimeError, match="taken already"):
        loss.backward()
