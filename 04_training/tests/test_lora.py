"""Few parameters beside frozen ones: against peft, and by what must not change."""

import copy
import math
from dataclasses import asdict, replace

import flags
import lora
import pytest
import torch
from fast_decode import FastDecode
from flags import UserError
from for_tests import oracle
from gpt import GPT, GPTConfig
from lora import (
    Adapter,
    LoRALinear,
    Peft,
    added_state,
    attach,
    chosen_peft,
    describe,
    load_added,
    merge_into,
    peft_flags,
)
from nf4 import Linear4bit, dequantise, quantise
from pretrained import export
from sampling import generate
from tokenizer import CharTokenizer
from torch import nn

GPT2 = GPTConfig(50, 64, 32, 4, 2)
LLAMA = replace(GPT2, positions="rotary", norm="rms_norm", attention="grouped_query", feed_forward="swiglu",
                bias="none", key_value_head_count=2)
CONFIGS = {
    "gpt2": GPT2, "llama": LLAMA, "qwen 2": replace(LLAMA, bias="query_key_value"),
    "latent": replace(LLAMA, attention="latent", rotary_size=8),
    "experts": replace(GPT2, expert_count=4, shared_expert_size=32),
}
PEFTS = {
    "lora": Peft("lora"), "rslora": Peft("lora", rank=4, rslora=True), "dora": Peft("lora", dora=True),
    "some": Peft("lora", targets=["projection"]), "qlora": Peft("qlora"), "qdora": Peft("qlora", dora=True),
    "adapter": Peft("adapter"),
}
IDS = torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(0))


def small_model(kind="gpt2"):
    torch.manual_seed(0)
    model = GPT(CONFIGS[kind]).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    return model


def learn(model):
    """Let what was added be something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@torch.no_grad()
def logits(model):
    return model(IDS)[0]


def with_4_bits(model):
    """The model with dense matrices of the blocks, as 4 bits leave them."""
    for name in lora.block_linears(model):
        linear = model.get_submodule(name)
        linear.weight.data = dequantise(quantise(linear.weight))
    return model


@pytest.mark.parametrize("kind, name", [(kind, name) for kind in CONFIGS for name in PEFTS
                                        if (kind, name) != ("experts", "adapter")])  # there is no place for it
def test_at_first_nothing_changes_and_only_the_added_learns(kind, name):
    peft = PEFTS[name]
    plain = small_model(kind)
    if peft.kind == "qlora":
        with_4_bits(plain)
    model = attach(small_model(kind), peft)
    if peft.kind == "qlora":
        assert torch.allclose(logits(model), logits(plain), atol=1e-4), "is B 0 at first?"
    else:
        assert torch.equal(logits(model), logits(plain)), "is B, or up, 0 at first, and m the length of the rows?"
    frozen = {name: w.clone() for name, w in model.state_dict().items() if name not in added_state(model)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        _, loss = model(IDS[:, :-1], IDS[:, 1:])
        loss.backward()
        losses.append(loss.item())
        for name, parameter in model.named_parameters():
            assert (parameter.grad is None) == (name not in added_state(model)), f"a gradient on {name}, or none"
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.05
    state = model.state_dict()
    assert all(torch.equal(state[name], w) for name, w in frozen.items()), "a frozen weight has moved"
    parts = {name.rpartition(".")[0] for name in added_state(model)}
    assert parts and all(name.startswith("blocks.") for name in parts), "the head is never meant"
    assert not any(isinstance(part, (LoRALinear, Linear4bit)) for name, part in model.named_modules()
                   if kind == "experts" and name.endswith("feed_forward.gate")), "the gate of the experts is not meant"


@pytest.mark.parametrize("name", [name for name in PEFTS if name != "adapter"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_merged_equals_unmerged(kind, name):
    model = learn(attach(small_model(kind), PEFTS[name]))
    for part in [part for part in model.modules() if isinstance(part, LoRALinear)]:
        x = torch.randn(3, part.linear.weight.shape[1]) / part.linear.weight.shape[1] ** 0.5
        with torch.no_grad():
            before, without = part(x), part.linear(x)
            assert (before - without).abs().max() > 1e-3
            part.merge()
            assert (part(x) - before).abs().max() <= 2e-6, "does the matrix have the scale, and the lengths?"
            assert set(added_state(part)) == {"A", "B"} | ({"m"} if PEFTS[name].dora else set())
            part.unmerge()
            assert torch.equal(part(x), before)
    expected, plain = logits(model), small_model(kind)
    assert merge_into(model) is model
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.allclose(logits(model), expected, atol=1e-5 * expected.abs().max().item())
    plain.load_state_dict(model.state_dict())
    assert torch.equal(logits(plain), logits(model)), "a plain GPT with these weights is the same model"


def their_layer(linear, peft):
    """What peft makes of a Linear."""
    library = oracle("peft")
    config = library.LoraConfig(r=peft.rank, lora_alpha=peft.alpha, use_rslora=peft.rslora, use_dora=peft.dora,
                                target_modules=["0"])
    return library.get_peft_model(nn.Sequential(copy.deepcopy(linear)), config)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_gradients_and_merged_weights_equal_those_of_peft(name, bias):
    torch.manual_seed(0)
    linear, peft = nn.Linear(48, 40, bias=bias), replace(PEFTS[name], alpha=12.0)
    theirs, ours = their_layer(linear, peft), LoRALinear(linear.requires_grad_(False), peft)
    layer = theirs.base_model.model[0]
    assert ours.A.std().item() == pytest.approx(layer.lora_A["default"].weight.std().item(), rel=0.15)
    pairs = {"A": layer.lora_A["default"].weight, "B": layer.lora_B["default"].weight}
    if peft.dora:
        pairs["m"] = layer.lora_magnitude_vector["default"].weight
        assert torch.allclose(ours.m, pairs["m"], atol=1e-6)
    for key, weight in pairs.items():
        weight.data += 0.1 * torch.randn_like(weight)
        getattr(ours, key).data.copy_(weight.data)
    x, up = torch.randn(2, 7, 48), torch.randn(2, 7, 40)
    found, expected = ours(x), theirs(x)
    assert torch.allclose(found, expected, atol=1e-5)
    assert (found - linear(x)).abs().max() > 0.1
    (found * up).sum().backward()
    (expected * up).sum().backward()
    for key, weight in pairs.items():
        assert torch.allclose(getattr(ours, key).grad, weight.grad, atol=1e-3, rtol=1e-4), f"the gradient of {key}"
    merged = theirs.eval().merge_and_unload()[0].weight
    assert torch.allclose(ours.weight, merged, atol=1e-6)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    layer = learn(LoRALinear(nn.Linear(64, 8).requires_grad_(False), Peft("lora", dropout=0.5)))
    x = torch.randn(4, 64)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("name", PEFTS)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_writing_knows_what_was_learned(kind, name):
    """The fast form of a model either has what was added, or is refused."""
    model = learn(attach(small_model(kind), PEFTS[name]))
    expected = generate(model, IDS[:, :4], 20, temperature=0)
    assert not torch.equal(generate(small_model(kind), IDS[:, :4], 20, temperature=0), expected)
    if name == "adapter":
        with pytest.raises(ValueError, match="adapter"):
            FastDecode(model)
        assert torch.equal(generate(model, IDS[:, :4], 20, temperature=0), expected)
        return
    assert torch.equal(generate(FastDecode(model), IDS[:, :4], 20, temperature=0), expected)
    for merged in (False, True):
        half = merge_into(copy.deepcopy(model)) if merged else copy.deepcopy(model)
        assert generate(FastDecode(half, torch.bfloat16), IDS[:, :4], 20, temperature=0).shape == (2, 24)
    assert torch.equal(generate(FastDecode(merge_into(model)), IDS[:, :4], 20, temperature=0), expected)


def test_the_cache_of_latent_attention_knows_it_too():
    """It multiplies by `key_up.weight` without calling the layer."""
    model = learn(attach(small_model("latent"), PEFTS["lora"]))
    cache = model.new_cache(2)
    with torch.no_grad():
        steps = [model.head(model.hidden(piece, cache=cache)) for piece in IDS.split([12, *[1] * 8], dim=1)]
    assert torch.allclose(torch.cat(steps, dim=1), logits(model), atol=1e-4)


@pytest.mark.parametrize("name", PEFTS)
def test_the_added_state_is_small_and_brings_everything_back(name, tmp_path):
    model = learn(attach(small_model("llama"), PEFTS[name]))
    torch.save({"peft": asdict(PEFTS[name]), "state": added_state(model)}, tmp_path / "added.pt")
    loaded = torch.load(tmp_path / "added.pt", weights_only=True)
    other = attach(small_model("llama"), Peft(**loaded["peft"]))
    load_added(other, loaded["state"])
    assert torch.equal(logits(other), logits(model))
    count = sum(tensor.numel() for tensor in loaded["state"].values())
    assert count < 0.4 * small_model("llama").parameter_count()
    with pytest.raises(UserError, match="added to another model, or with another rank"):
        load_added(attach(small_model("llama"), replace(PEFTS[name], rank=2, adapter_size=2)), loaded["state"])
    with pytest.raises(UserError, match="another"):
        load_added(attach(GPT(replace(GPT2, embedding_size=32)), PEFTS[name]), loaded["state"])
    again, before = (added_state(attach(small_model("llama"), PEFTS[name])) for _ in range(2))
    assert all(torch.equal(again[name], before[name]) for name in before), "the same seed, the same start"


def test_export_wants_a_merged_model(tmp_path):
    tokenizer = CharTokenizer("abcdefgh")
    model = attach(small_model("llama"), PEFTS["lora"])
    with pytest.raises(UserError, match="merge"):
        export(model, tokenizer, tmp_path)
    export(merge_into(model), tokenizer, tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    with pytest.raises(UserError, match="can't be merged"):
        merge_into(attach(small_model(), PEFTS["adapter"]))


def test_what_is_printed():
    model = small_model("llama")
    total = model.parameter_count()
    sizes = [model.get_submodule(name).weight.shape for name in lora.block_linears(model)]
    added = 8 * sum(out + into for out, into in sizes)
    attach(model, PEFTS["lora"])
    assert describe(model) == (f"trainable {added:,} of {total + added:,} parameters"
                               f" ({100 * added / (total + added):.2f} %); weights {4 * (total + added) / 1e6:.0f} MB")
    big = GPT(replace(LLAMA, embedding_size=512))
    dense = float(describe(big).split("weights ")[1].split(" MB")[0])
    blocks = sum(big.get_submodule(name).weight.numel() for name in lora.block_linears(big))
    total = big.parameter_count()
    attach(big, Peft("qlora", rank=1))
    line = describe(big)
    added = sum(tensor.numel() for tensor in added_state(big).values())
    assert f"trainable {added:,} of {total + added:,} parameters" in line
    small = float(line.split("weights ")[1].split(" MB")[0])
    expected = (4 * (total - blocks + added) + 4.127 / 8 * blocks) / 1e6
    assert small == pytest.approx(expected, abs=0.6) and dense == pytest.approx(4 * total / 1e6, abs=0.6)


def parsed(*words):
    parser = flags.Parser("")
    peft_flags(parser)
    return chosen_peft(parser.parse(list(words)))


def test_flags():
    assert parsed() is None
    assert parsed("--lora") == Peft("lora")
    assert parsed("--qlora", "--rank", "16", "--alpha", "32", "--rslora", "--dora", "--targets", "query,value") == Peft(
        "qlora", rank=16, alpha=32.0, rslora=True, dora=True, targets=["query", "value"])
    assert parsed("--adapter", "--adapter_size", "4") == Peft("adapter", adapter_size=4)


@pytest.mark.parametrize("words, message", [
    (["--dora"], "--dora goes with --lora or --qlora"),
    (["--adapter", "--rank", "4"], "--rank goes with --lora or --qlora"),
    (["--lora", "--adapter_size", "4"], "--adapter_size goes with --adapter"),
    (["--lora", "--rank", "0"], "rank 0 must be more than 0"),
    (["--lora", "--alpha", "nan"], "alpha nan must be more than 0"),
    (["--adapter", "--adapter_size", "-1"], "adapter_size -1 must be more than 0"),
])
def test_flags_that_mean_nothing(words, message):
    with pytest.raises(UserError, match=message):
        parsed(*words)


def test_two_kinds_at_once_are_refused(capsys):
    with pytest.raises(SystemExit):
        parsed("--lora", "--adapter")
    assert "not allowed with" in capsys.readouterr().err


def test_layers_that_are_not_there():
    model = small_model()
    with pytest.raises(UserError, match="no layer 'querry'.*choose from attention.query_key_value, attention.proj"):
        attach(model, Peft("lora", targets=["projection", "querry"]))
    assert all(parameter.requires_grad for parameter in model.parameters()), "a refused model is as it was"
    with pytest.raises(UserError, match="no layer 'output'"):
        attach(GPT(replace(GPT2, tied_head=False)), Peft("lora", targets=["output"]))
    with pytest.raises(UserError, match="no layer 'feed_forward.projection'"):
        attach(small_model("experts"), Peft("adapter"))
    attach(model, Peft("lora", targets=["attention.projection"]))
    assert isinstance(model.blocks[0].attention.projection, LoRALinear)
    assert isinstance(model.blocks[0].feed_forward.projection, nn.Linear)


def test_adapters_stand_behind_both_sublayers():
    model = learn(attach(small_model("llama"), Peft("adapter", adapter_size=4)))
    found = [name for name, part in model.named_modules() if isinstance(part, Adapter)]
    assert found == [f"blocks.{i}.{part}.projection" for i in range(2) for part in ("attention", "feed_forward")]
    adapter, x = model.blocks[0].attention.projection, torch.randn(3, 64)
    with torch.no_grad():
        y = adapter.linear(x)
        inner = torch.einsum("nc,rc->nr", y, adapter.down.weight) + adapter.down.bias
        gelu = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        expected = y + torch.einsum("nr,cr->nc", gelu, adapter.up.weight) + adapter.up.bias
        assert torch.allclose(adapter(x), expected, atol=1e-5)
    assert sum(w.numel() for w in added_state(model).values()) == 4 * (2 * 64 * 4 + 4 + 64)
