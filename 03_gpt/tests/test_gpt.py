"""The model against Hugging Face's GPT-2, and what every language model must satisfy."""

import math

import pytest
import torch
from for_tests import oracle
from gpt import GPT, GPTConfig

SMALL = GPTConfig(vocab_size=60, embedding_size=32, block_size=16, head_count=4, layer_count=3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(SMALL)


def test_logits_and_gradients_equal_transformers_gpt2():
    transformers = oracle("transformers")
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=60, n_embd=32, n_positions=16, n_head=4, n_layer=3, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        bos_token_id=0, eos_token_id=0,
    ))
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.3)
    ours = GPT(SMALL)
    ours.load_state_dict(from_gpt2(theirs.state_dict()))
    ids, targets = torch.randint(60, (2, 16)), torch.randint(60, (2, 16))
    expected = theirs(ids).logits
    assert (ours(ids)[0] - expected).abs().max() < 1e-5 * expected.abs().max(), "is the GELU the tanh form?"

    torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten()).backward()
    ours(ids, targets)[1].backward()
    expected = from_gpt2({name: parameter.grad for name, parameter in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        difference = (parameter.grad - expected[name]).abs().max() / expected[name].abs().max()
        assert difference < 1e-4, f"the gradient of {name} is off by {difference:.1e}"


def from_gpt2(state):
    """Names and shapes of GPT-2's weights -> ours; its matrices stand the other way round."""
    names = {
        "transformer.wte": "token_embedding", "transformer.wpe": "position_embedding", "transformer.ln_f": "norm",
        "transformer.h": "blocks", "ln_1": "attention_norm", "ln_2": "feed_forward_norm", "c_attn": "query_key_value",
        "attn": "attention", "mlp": "feed_forward", "c_fc": "expand", "c_proj": "projection",
    }
    renamed = {}
    for name, tensor in state.items():
        turned = tensor.T if "c_" in name and tensor.dim() == 2 else tensor
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        renamed[name] = turned
    renamed.pop("lm_head.weight", None)
    return renamed


def test_parameter_counts_of_gpt2():
    with torch.device("meta"):
        assert GPT(GPTConfig(50257, 768, 1024, 12, 12)).parameter_count() == 124_439_808
        assert GPT(GPTConfig(50257, 1024, 1024, 16, 24)).parameter_count() == 354_823_168


def test_the_loss_begins_near_that_of_knowing_nothing(model):
    ids = torch.randint(60, (8, 16))
    assert math.isclose(model(ids, ids.roll(-1, 1))[1].item(), math.log(60), abs_tol=0.25)


def test_a_later_token_changes_no_earlier_logit(model):
    ids = torch.randint(60, (1, 16))
    changed = ids.clone()
    changed[0, 9] = (ids[0, 9] + 1) % 60
    before, after = model(ids)[0], model(changed)[0]
    assert torch.equal(before[:, :9], after[:, :9]), "is the mask missing?"
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_one_batch_is_learned_by_heart(model):
    ids = torch.randint(60, (4, 17))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        _, loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_targets_of_minus_100_are_ignored(model):
    ids = torch.randint(60, (2, 16))
    targets = torch.randint(60, (2, 16))
    masked = targets.clone()
    masked[:, :10] = -100
    logits = model(ids)[0]
    expected = torch.nn.functional.cross_entropy(logits[:, 10:].flatten(0, 1), targets[:, 10:].flatten())
    assert torch.allclose(model(ids, masked)[1], expected, atol=1e-6)


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
