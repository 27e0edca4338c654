"""Optimizers against torch's, the turning of matrices against the singular values it is defined by."""

import copy

import checkpoint
import numpy as np
import optimizers
import pytest
import torch
import trainer
from flags import UserError
from gpt import GPT, GPTConfig
from optimizers import AdamW, Muon, make_optimizer, orthogonalise, orthogonalise_batch

KINDS = ("adamw", "plain_adamw", "muon", "sgd")
SHAPES = ((24, 24), (64, 16), (16, 64), (48, 16), (16, 64), (20, 24))
TOKENS = np.random.default_rng(0).integers(20, size=500).astype(np.uint16)


def weights(shapes=SHAPES, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def walk(ours, theirs, ours_weights, theirs_weights, steps=8):
    """The same random gradients for two optimizers, with learning rates that change."""
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        for one, other in zip(ours_weights, theirs_weights):
            g = torch.randn(one.shape, generator=generator, dtype=one.dtype)
            one.grad, other.grad = g.clone(), g.clone()
        for optimizer in (ours, theirs):
            for group in optimizer.param_groups:
                group["lr"] *= 0.9 + 0.05 * (step % 3)
            optimizer.step()


def make(**parts):
    torch.manual_seed(0)
    return GPT(GPTConfig(20, 16, 8, 2, 2, **parts))


def train(model, optimizer, steps, first=0):
    batch = trainer.random_batches(TOKENS, 8, 8, seed=0)
    for step in range(first, steps):
        loss = model(*batch(step))[1]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def test_adamw_equals_torchs():
    sides = []
    for kind, settings in ((AdamW, {}), (torch.optim.AdamW, {"foreach": False})):
        mine = weights([*SHAPES, (7,)], torch.float64)
        groups = [{"params": mine[:3], "weight_decay": 0.3}, {"params": mine[3:], "betas": (0.8, 0.95), "eps": 1e-3}]
        sides.append((kind(groups, lr=0.1, **settings), mine))
    (ours, mine), (theirs, other) = sides
    walk(ours, theirs, mine, other)
    for one, two in zip(mine, other):
        assert torch.allclose(one, two, rtol=0, atol=1e-12), "is epsilon outside the root, and decay outside the mean?"
        assert ours.state[one].keys() == theirs.state[two].keys()
        for name, value in theirs.state[two].items():
            assert torch.allclose(torch.as_tensor(ours.state[one][name], dtype=value.dtype), value, atol=1e-12), name


def test_adamw_goes_on_from_torchs_state():
    mine, other = weights(), weights()
    theirs = torch.optim.AdamW(other, lr=0.1)
    walk(torch.optim.AdamW(mine, lr=0.1), theirs, mine, other)
    ours = AdamW(mine)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))  # or both would move one mean
    walk(ours, theirs, mine, other)
    for one, two in zip(mine, other):
        assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 24), (64, 16), (16, 64), (16, 20)])
def test_a_matrix_is_turned_as_its_singular_values_say(shape):
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    U, S, V = torch.linalg.svd(x, full_matrices=False)
    S = S / x.flatten(1).norm(dim=1)[:, None]
    for _ in range(5):
        S = 3.4445 * S - 4.7750 * S**3 + 2.0315 * S**5
    expected = U @ torch.diag_embed(S) @ V
    assert torch.allclose(orthogonalise(x), expected, atol=1e-9)
    assert torch.allclose(orthogonalise_batch(x), expected, atol=1e-9)
    assert torch.allclose(orthogonalise_batch(x.float()).double(), expected, atol=1e-4)
    if shape != (24, 24):  # a square matrix has singular values too small to be lifted
        assert S.min() > 0.65 and S.max() < 1.25


def test_gradients_of_few_directions_stay_that():
    """What one example leaves: a matrix of rank 1, whose other directions must not be blown up from rounding."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, 1, generator=generator) @ torch.randn(1, 1, 128, generator=generator)
    expected = orthogonalise(x.double())
    assert torch.allclose(orthogonalise_batch(x).double(), expected, atol=1e-3)
    assert orthogonalise_batch(torch.zeros(1, 4, 8)).abs().max() == 0, "0 / 0?"


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_equals_torchs(adjust):
    mine, other = weights(), weights()
    ours = Muon([{"params": mine[:2], "weight_decay": 0.5}, {"params": mine[2:], "momentum": 0.8}], lr=0.05,
                adjust=adjust, dtype=torch.bfloat16)
    theirs = torch.optim.Muon([{"params": other[:2], "weight_decay": 0.5}, {"params": other[2:], "momentum": 0.8}],
                              lr=0.05, adjust_lr_fn=adjust)
    walk(ours, theirs, mine, other)
    for one, two in zip(mine, other):
        assert torch.equal(ours.state[one]["momentum_buffer"], theirs.state[two]["momentum_buffer"])
        assert torch.equal(one, two)


def test_joined_matrices_are_turned_apart():
    joined = weights([(48, 16)])
    apart = [torch.nn.Parameter(part.clone()) for part in joined[0].data.chunk(3)]
    ours, others = Muon([{"params": joined, "parts": 3}], dtype=torch.float32), Muon(apart, dtype=torch.float32)
    joined[0].grad = torch.randn(48, 16, generator=torch.Generator().manual_seed(1))
    for part, gradient in zip(apart, joined[0].grad.chunk(3)):
        part.grad = gradient
    ours.step()
    others.step()
    assert torch.allclose(joined[0], torch.cat(apart), atol=1e-6)


def test_muon_refuses_what_it_can_not_move():
    for shape, parts in (((7,), 1), ((2, 3, 4), 1), ((8, 4), 3)):
        with pytest.raises(UserError, match="take AdamW"):
            Muon([{"params": weights([shape]), "parts": parts}])
    with pytest.raises(UserError, match="no adjust 'x'"):
        Muon(weights(), adjust="x")
    with pytest.raises(UserError, match="no optimizer 'x'"):
        make_optimizer(make(), "x", 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_has_one_optimizer_and_decays_if_it_is_a_matrix(kind):
    for model in (make(), make(tied_head=False, positions="rotary", norm="rms_norm", attention="grouped_query",
                               feed_forward="swiglu", bias="none", expert_count=2)):
        groups = make_optimizer(model, kind, 1e-3, weight_decay=0.3).param_groups
        held = [w for group in groups for w in group["params"]]
        assert len(held) == len({id(w) for w in held}) == len(list(model.parameters()))
        for group in groups:
            for w in group["params"]:
                assert group["weight_decay"] == (0.3 if w.dim() == 2 else 0)


def test_muon_moves_the_matrices_of_the_blocks_only():
    model = make(tied_head=False)
    together = make_optimizer(model, "muon", 0.02, adamw_share=0.25)
    muon, adamw = together.optimizers
    names = {id(w): name for name, w in model.named_parameters()}
    moved = {names[id(w)] for group in muon.param_groups for w in group["params"]}
    layers = {"attention.query_key_value", "attention.projection", "feed_forward.expand", "feed_forward.projection"}
    assert moved == {f"blocks.{i}.{layer}.weight" for i in range(2) for layer in layers}
    for group in muon.param_groups:
        for w in group["params"]:
            assert group["parts"] == (3 if "query_key_value" in names[id(w)] else 1)
    assert [group["lr"] for group in adamw.param_groups] == [0.005, 0.005]
    assert [group.get("lr_scale", 1.0) for group in together.param_groups] == [1.0, 1.0, 0.25, 0.25]


@pytest.mark.parametrize("kind", KINDS)
def test_goes_on_from_a_checkpoint_bit_for_bit(kind, tmp_path):
    straight = make()
    train(straight, make_optimizer(straight, kind, 1e-2), 12)
    first = make()
    optimizer = make_optimizer(first, kind, 1e-2)
    train(first, optimizer, 6)
    checkpoint.save(tmp_path / "a.pt", "gpt", model=first.state_dict(), optimizer=optimizer.state_dict())
    kept = checkpoint.load(tmp_path / "a.pt", "gpt")
    second = make()
    second.load_state_dict(kept["model"])
    optimizer = make_optimizer(second, kind, 5e-2)
    optimizer.load_state_dict(kept["optimizer"])
    train(second, optimizer, 12, first=6)
    for ours, theirs in zip(second.parameters(), straight.parameters()):
        assert torch.equal(ours, theirs), "is the momentum saved?"


@pytest.mark.parametrize(("kind", "learning_rate"), list(zip(KINDS, (1e-2, 1e-2, 1e-2, 0.1))))
def test_one_batch_can_be_learned_by_heart(kind, learning_rate):
    model = make()
    optimizer = make_optimizer(model, kind, learning_rate)
    ids, targets = trainer.random_batches(TOKENS, 2, 8, seed=0)(0)
    for _ in range(150):
        loss = model(ids, targets)[1]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss.item() < 0.1


def test_weights_without_a_gradient_stay():
    for kind in KINDS:
        model = make()
        model.blocks[0].requires_grad_(False)
        before = {name: w.clone() for name, w in model.named_parameters()}
        train(model, make_optimizer(model, kind, 1e-2), 1)
        for name, w in model.named_parameters():
            assert torch.equal(w, before[name]) == name.startswith("blocks.0."), name


def test_where_bfloat16_pays_it_is_chosen(monkeypatch):
    asked = []

    def choose(name, device, width):
        asked.append((name, device.type, width))
        return torch.bfloat16

    monkeypatch.setattr(optimizers, "choose_dtype", choose)
    assert Muon(weights([(64, 16)])).param_groups[0]["dtype"] == torch.bfloat16
    assert asked == [("auto", "cpu", 16)]
    assert Muon(weights([(64, 16)]), dtype=torch.float32).param_groups[0]["dtype"] == torch.float32


def sparse_gradient(rows, values, shape):
    return torch.sparse_coo_tensor(torch.tensor([rows]), torch.tensor(values), shape, check_invariants=True)


def test_rowwise_adagrad_of_one_column_is_torchs_adagrad():
    ours, theirs = (torch.nn.Parameter(torch.ones(5, 1)) for _ in range(2))
    mine, other = optimizers.RowwiseAdagrad([ours], lr=0.3), torch.optim.Adagrad([theirs], lr=0.3)
    for rows, values in (([0, 3], [[1.0], [-2.0]]), ([3, 3, 1], [[0.5], [0.25], [4.0]]), ([0], [[0.1]])):
        ours.grad, theirs.grad = (sparse_gradient(rows, values, (5, 1)) for _ in range(2))
        mine.step()
        other.step()
        assert torch.allclose(ours, theirs), "rows that come twice in a gradient must be added up first"
    assert ours[2] == ours[4] == 1, "rows that no token asked for must not move"


def test_rowwise_adagrad_has_one_size_for_a_row():
    w = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = optimizers.RowwiseAdagrad([w], lr=0.1)
    for _ in range(2):
        w.grad = sparse_gradient([1], [[3.0, 4.0]], (3, 2))
        optimizer.step()
    size = (9 + 16) / 2
    first = torch.tensor([3.0, 4.0]) / size**0.5
    assert torch.allclose(w[1], -0.1 * (first + first / 2**0.5))
    assert optimizer.state[w]["sum"].tolist() == pytest.approx([0, 2 * size, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_ngrams_has_its_own_optimizer(kind, tmp_path):
    model = make(ngram_longest=3, ngram_rows=50)
    optimizer = make_optimizer(model, kind, 1e-2)
    before = train(model, optimizer, 2)
    checkpoint.save(tmp_path / "a.pt", "test", model=model.state_dict(), optimizer=optimizer.state_dict())
    after = train(model, optimizer, 40, first=2)
    assert after < before
    (group,) = [group for group in optimizer.param_groups if group["params"][0] is model.ngram_embedding.table.weight]
    assert group["lr"] == pytest.approx(0.16) and group["lr_scale"] * 1e-2 == pytest.approx(0.16)
    again = make(ngram_longest=3, ngram_rows=50)
    optimizer = make_optimizer(again, kind, 1e-2)
    loaded = checkpoint.load(tmp_path / "a.pt", "test")
    again.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    train(again, optimizer, 40, first=2)
    for one, other in zip(again.parameters(), model.parameters()):
        assert torch.equal(one, other)
