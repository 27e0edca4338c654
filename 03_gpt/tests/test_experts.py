"""The mixture of experts against transformers' Mixtral and DeepSeek-V3, and its balance."""

import pytest
import torch
from blocks import FeedForward, SwiGLU
from experts import MixtureOfExperts
from for_tests import oracle
from gpt import GPT, GPTConfig

E, C, SIZE = 6, 16, 24


def mixture(**settings):
    torch.manual_seed(0)
    return MixtureOfExperts(C, [SwiGLU(C, SIZE) for _ in range(E)], 2, **settings)


def close(ours, theirs):
    return (ours - theirs).abs().max() < 1e-6 * theirs.abs().max().clamp(min=1)


def load_experts(theirs, ours):
    """Our experts' weights into the stacked ones of transformers."""
    gate_and_up = [torch.cat([expert.gate.weight, expert.expand.weight]) for expert in ours.experts]
    theirs.gate_up_proj.data = torch.stack(gate_and_up).detach().clone()
    theirs.down_proj.data = torch.stack([expert.projection.weight for expert in ours.experts]).detach().clone()


def test_equals_mixtral_with_its_gradients_and_its_loss():
    mixtral = oracle("transformers.models.mixtral.modeling_mixtral")
    config = mixtral.MixtralConfig(hidden_size=C, intermediate_size=SIZE, num_local_experts=E, num_experts_per_tok=2,
                                   experts_implementation="eager")
    ours, theirs = mixture(), mixtral.MixtralSparseMoeBlock(config)
    load_experts(theirs.experts, ours)
    theirs.gate.weight.data = ours.gate.weight.detach().clone()
    x = torch.randn(3, 20, C)
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = ours(mine), theirs(yours)
    assert close(y, expected), "do the weights of the chosen sum to 1?"
    y.square().sum().backward()
    expected.square().sum().backward()
    assert close(mine.grad, yours.grad) and close(ours.gate.weight.grad, theirs.gate.weight.grad)
    # theirs adds up the k choices, ours takes their share
    loss = mixtral.load_balancing_loss_func((ours.gate(x.flatten(0, 1)),), E, top_k=2)
    assert close(ours.balance_loss / ours.loss_weight, loss / 2)


def test_equals_deepseek_v3():
    deepseek = oracle("transformers.models.deepseek_v3.modeling_deepseek_v3")
    config = deepseek.DeepseekV3Config(
        hidden_size=C, moe_intermediate_size=SIZE, n_routed_experts=E, num_experts_per_tok=2, n_group=1, topk_group=1,
        n_shared_experts=2, routed_scaling_factor=1.0, norm_topk_prob=True,
        experts_implementation="eager")
    ours, theirs = mixture(shared=SwiGLU(C, 2 * SIZE), balance="bias").eval(), deepseek.DeepseekV3MoE(config)
    torch.nn.init.normal_(ours.bias)
    load_experts(theirs.experts, ours)
    theirs.gate.weight.data, theirs.gate.e_score_correction_bias = ours.gate.weight.detach().clone(), ours.bias.clone()
    for name, part in (("gate_proj", "gate"), ("up_proj", "expand"), ("down_proj", "projection")):
        getattr(theirs.shared_experts, name).weight.data = getattr(ours.shared, part).weight.detach().clone()
    x = torch.randn(3, 20, C)
    assert close(ours(x), theirs(x)), "the bias chooses, and must not weigh"


def test_each_expert_runs_on_its_own_tokens_only():
    seen = []

    class Watched(FeedForward):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    ours = MixtureOfExperts(C, [Watched(C, SIZE) for _ in range(E)], 2)
    ours(torch.randn(5, 10, C))
    assert sum(seen) == 2 * 50 and (ours.load * 100).round().tolist() == seen


def test_one_expert_for_all_is_a_feed_forward_layer():
    layer = SwiGLU(C, SIZE)
    x = torch.randn(4, C)
    both = MixtureOfExperts(C, [layer, layer], 2)
    assert close(both(x), layer(x))
    single = MixtureOfExperts(C, [layer, SwiGLU(C, SIZE)], 1)
    single(x).sum().backward()
    assert single.gate.weight.grad.abs().sum() > 0, "with one expert per token the gate must learn, too"


@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_an_unfair_gate_is_balanced(balance):
    """A gate that likes the first expert: with either balance its load falls, without one it stays."""
    loads = {}
    for kind in (balance, None):
        torch.manual_seed(0)
        ours = mixture(balance=kind, bias_step=0.01, loss_weight=1.0)
        ours.gate.weight.data[0] += 0.5
        optimizer = torch.optim.SGD(ours.gate.parameters(), lr=0.1)
        x = torch.randn(400, C) + 0.5
        for _ in range(100):
            optimizer.zero_grad()
            ours(x)
            if kind == "loss":
                ours.balance_loss.backward()
            optimizer.step()
        loads[kind] = ours.load.max()
    assert loads[None] > 0.45 and loads[balance] < 0.25


def test_the_model_adds_the_loss_in_training_only():
    torch.manual_seed(0)
    config = GPTConfig(40, 16, 8, 2, 2, expert_count=4, feed_forward="swiglu")
    model, ids = GPT(config), torch.randint(40, (2, 8))
    _, training = model(ids, ids)
    extra = sum(block.feed_forward.balance_loss for block in model.blocks)
    _, evaluation = model.eval()(ids, ids)
    assert extra > 0 and torch.allclose(training - extra, evaluation)


def test_as_many_active_parameters_as_the_dense_one():
    dense = GPT(GPTConfig(40, 16, 8, 2, 1, bias="none"))
    experts = GPT(GPTConfig(40, 16, 8, 2, 1, bias="none", expert_count=8, experts_per_token=2))
    layer = experts.blocks[0].feed_forward
    active = sum(p.numel() for p in layer.experts[0].parameters()) * 2
    assert active == sum(p.numel() for p in dense.blocks[0].feed_forward.parameters())


def test_too_many_experts_per_token_are_said_in_words():
    with pytest.raises(ValueError, match="experts_per_token 7 must be from 1 to expert_count 6"):
        MixtureOfExperts(C, [SwiGLU(C, SIZE) for _ in range(E)], 7)
