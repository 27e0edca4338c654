"""The model against Hugging Face's GPT-2, and what every language model must satisfy."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from for_tests import oracle
from gpt import GPT, SIZES, GPTConfig
from weight_layouts import config_of_hugging_face

SMALL = GPTConfig(vocab_size=60, embedding_size=32, block_size=16, head_count=4, layer_count=3)
MODERN = {"positions": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "bias": "none"}
KINDS = {
    "gpt2": {},
    "the original's": {"attention": "original_scale", "feed_forward": "relu"},
    "relu2, no biases": {"feed_forward": "relu2", "bias": "none"},
    "llama": {**MODERN, "attention": "grouped_query", "key_value_head_count": 2},
    "qwen 2": {**MODERN, "attention": "grouped_query", "key_value_head_count": 1, "bias": "query_key_value"},
    "qwen 3": {**MODERN, "qk_norm": True, "head_size": 16, "tied_head": False},
    "latent": {**MODERN, "attention": "latent", "rotary_size": 4, "query_latent_size": 24},
    "experts": {**MODERN, "expert_count": 4},
    "balanced by bias": {**MODERN, "expert_count": 4, "shared_expert_size": 32, "balance": "bias"},
}


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    return GPT(replace(SMALL, **KINDS[request.param]))


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "qwen3"])
def test_logits_and_gradients_equal_transformers(family):
    transformers = oracle("transformers")
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
             "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 0}
    more = {
        "gpt2": {},
        "llama": {"rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8}},
        "qwen2": {}, "qwen3": {"head_dim": 16},
    }[family]
    if family != "gpt2":
        more |= {"intermediate_size": 48, "num_key_value_heads": 2}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **sizes, **more)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    config, layout = config_of_hugging_face(theirs.config.to_dict(), Path("config.json"))
    ours, parameters = GPT(config), dict(theirs.named_parameters())

    def in_our_order(name, tensors):
        tensor = tensors[("transformer." if family == "gpt2" else "") + layout.name(name)]
        return tensor.T if layout.turned(name, tensor.shape) else tensor

    for name, parameter in ours.named_parameters():
        parameter.data.copy_(in_our_order(name, parameters))
    ids, targets = torch.randint(60, (2, 16)), torch.randint(60, (2, 16))
    expected = theirs(ids).logits
    assert (ours(ids)[0] - expected).abs().max() < 1e-5 * expected.abs().max(), "is the GELU the tanh form?"
    torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten()).backward()
    ours(ids, targets)[1].backward()
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    for name, parameter in ours.named_parameters():
        expected = in_our_order(name, gradients)
        difference = (parameter.grad - expected).abs().max() / expected.abs().max()
        assert difference < 1e-4, f"the gradient of {name} is off by {difference:.1e}"


@pytest.mark.parametrize("name, count", {
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
    "llama-3.2-1b": 1_235_814_400, "qwen3-0.6b": 596_049_920, "smollm2-135m": 134_515_008,
}.items())
def test_parameter_counts_of_published_models(name, count):
    with torch.device("meta"):
        assert GPT(replace(SIZES[name], block_size=min(SIZES[name].block_size, 1024))).parameter_count() == count


def test_parameter_count_of_nanogpts_character_model():
    assert GPT(GPTConfig(65, 128, 64, 4, 4, bias="none")).parameter_count() == 804_096


def test_the_loss_begins_near_that_of_knowing_nothing(model):
    ids, targets = torch.randint(60, (2, 64, 16))
    # where the head is the embedding, a model begins by expecting the same token again, more so without positions
    bound = 0.45 if model.config.tied_head else 0.05
    assert math.isclose(model.eval()(ids, targets)[1].item(), math.log(60), abs_tol=bound)
    untied = GPT(replace(model.config, tied_head=False)).eval()
    assert math.isclose(untied(ids, targets)[1].item(), math.log(60), abs_tol=0.05)


def test_a_later_token_changes_no_earlier_logit(model):
    ids = torch.randint(60, (1, 16))
    changed = ids.clone()
    changed[0, 9] = (ids[0, 9] + 1) % 60
    before, after = model(ids)[0], model(changed)[0]
    assert torch.equal(before[:, :9], after[:, :9]), "is the mask missing?"
    assert not torch.allclose(before[:, 9:], after[:, 9:])


@pytest.mark.slow
def test_one_batch_is_learned_by_heart(model):
    ids = torch.randint(60, (4, 17))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        _, loss = model.train()(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.eval()(ids[:, :-1], ids[:, 1:])[1].item() < 0.05


@pytest.mark.parametrize("pieces", [(1,) * 9, (4, 1, 3, 1)])
def test_what_is_remembered_equals_the_whole_text_again(model, pieces):
    model.eval()
    ids = torch.randint(60, (2, 9))
    with torch.no_grad():
        cache, begin, found = model.new_cache(2), 0, []
        for length in pieces:
            found.append(model.hidden(ids[:, begin : begin + length], cache=cache))
            begin += length
        expected = model.hidden(ids)
    assert torch.allclose(torch.cat(found, 1), expected, atol=1e-5)


def test_targets_of_minus_100_are_ignored(model):
    ids = torch.randint(60, (2, 16))
    targets = torch.randint(60, (2, 16))
    masked = targets.clone()
    masked[:, :10] = -100
    logits = model(ids)[0]
    expected = torch.nn.functional.cross_entropy(logits[:, 10:].flatten(0, 1), targets[:, 10:].flatten())
    assert torch.allclose(model.eval()(ids, masked)[1], expected, atol=1e-6)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = GPT(GPTConfig(60, 32, 16, 4, 2, dropout=0.5))
    ids = torch.randint(60, (1, 16))
    assert not torch.equal(model(ids)[0], model(ids)[0])
    model.eval()
    assert torch.equal(model(ids)[0], model(ids)[0])


def test_too_long_and_ill_shaped_is_said_in_words(model):
    with pytest.raises(ValueError, match="17 tokens are more than the model's block_size of 16"):
        model(torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="must be divisible"):
        GPT(GPTConfig(60, 10, 16, 4, 1))


@pytest.mark.parametrize("part", ["positions", "norm", "attention", "feed_forward", "bias"])
def test_a_part_that_there_is_not_is_no_other_one(part):
    with pytest.raises(ValueError, match=f"no {part} 'rmsnorm': choose from"):
        replace(SMALL, **{part: "rmsnorm"})


@pytest.mark.parametrize(("parts", "why"), [
    ({"attention": "original_scale", "positions": "rotary"}, "goes with learned positions"),
    ({"attention": "original_scale", "window": 4}, "without a window"),
    ({"attention": "latent", "window": 4}, "no window"), ({"attention": "latent", "qk_norm": True}, "no qk_norm"),
])
def test_parts_that_would_be_dropped_are_refused(parts, why):
    with pytest.raises(ValueError, match=why):
        GPTConfig(20, 16, 8, 2, 1, **parts)


@pytest.mark.parametrize("kind", [{}, {"positions": "rotary"}], ids=["learned", "rotary"])
def test_a_window_hides_what_is_further_back(kind):
    """Of two layers that look back two tokens, itself counted, each position knows three."""
    torch.manual_seed(0)
    model = GPT(replace(SMALL, layer_count=2, window=2, **kind)).eval()
    ids = torch.randint(60, (1, 10))
    other = ids.clone()
    other[0, 3] = (ids[0, 3] + 1) % 60
    with torch.no_grad():
        changed = (model(ids)[0] != model(other)[0]).any(-1)[0]  # (T,)
    assert changed.nonzero().flatten().tolist() == [3, 4, 5]
