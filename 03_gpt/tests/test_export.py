"""Our models are loaded by transformers, and what was loaded is saved in our format."""

import dataclasses

import checkpoint
import pytest
import torch
from flags import UserError
from for_tests import oracle
from gpt import GPT, GPTConfig
from pretrained import export, load_pretrained
from their_models import IDS, difference, saved, their_model
from tokenizer import BPETokenizer, CharTokenizer
from tokenizer import from_state as tokenizer_from_state


def test_what_was_loaded_is_saved_in_our_format(tmp_path):
    theirs = their_model("llama 3")
    model, tokenizer = load_pretrained(saved(theirs, tmp_path))
    checkpoint.save(tmp_path / "ours.pt", "gpt", model=model.state_dict(), config=dataclasses.asdict(model.config),
                    tokenizer=tokenizer.state())
    loaded = checkpoint.load(tmp_path / "ours.pt", "gpt")
    again = GPT(GPTConfig(**loaded["config"]))
    again.load_state_dict(loaded["model"])
    assert difference(again.eval(), theirs) <= 1e-5
    assert tokenizer_from_state(loaded["tokenizer"]).encode("the hat") == tokenizer.encode("the hat")


LLAMA = {"positions": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "bias": "none"}
OURS = {
    "gpt2": {},
    "relu": {"feed_forward": "relu", "feed_forward_size": 48},
    "llama": LLAMA | {"rotary_scaling": {"factor": 4.0, "original_max_position_embeddings": 32}, "rotary_base": 300.0},
    "untied": LLAMA | {"attention": "grouped_query", "key_value_head_count": 2, "tied_head": False},
    "mistral": LLAMA | {"window": 5},
    "qwen2": LLAMA | {"bias": "query_key_value", "norm_epsilon": 1e-4},
    "qwen3": LLAMA | {"qk_norm": True, "head_size": 16},
}


def our_model(**settings):
    torch.manual_seed(0)
    model = GPT(GPTConfig(260, 32, 64, 4, 2, **settings)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(1.0 if parameter.dim() == 1 else 0.0)
    return model


@pytest.mark.parametrize("name", OURS)
def test_our_models_are_loaded_by_transformers(name, tmp_path):
    transformers = oracle("transformers")
    model, tokenizer = our_model(**OURS[name]), BPETokenizer("gpt2")
    tokenizer.train("the hat the cat", 260)
    export(model, tokenizer, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert difference(model, theirs) <= 1e-5 and theirs.config.eos_token_id == tokenizer.end_of_text
    ours, again = load_pretrained(tmp_path / "out")
    assert again.end_tokens == tokenizer.end_tokens
    several = tokenizer_from_state(tokenizer.state() | {"end_tokens": [65, 66]})
    export(model, several, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert theirs.generation_config.eos_token_id == [65, 66]
    assert load_pretrained(tmp_path / "out")[1].end_tokens == (65, 66)
    assert torch.equal(ours(IDS)[0], model(IDS)[0])
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert their_tokenizer.encode("the hat") == tokenizer.encode("the hat")


def test_a_model_that_transformers_does_not_have(tmp_path):
    for settings, words in (
        ({"norm": "rms_norm"}, "norm 'rms_norm'"),
        ({"feed_forward": "relu2"}, "feed_forward 'relu2'"),
        ({"bias": "none"}, "bias 'none'"),
        ({"attention": "original_scale"}, "attention 'original_scale'"),
        ({"expert_count": 2}, "expert_count 2"),
        (LLAMA | {"rotary_interleaved": True}, "rotary_interleaved True"),
        (LLAMA | {"attention": "latent"}, "attention 'latent'"),
        (LLAMA | {"bias": "query_key_value", "window": 5}, "bias 'query_key_value'"),
    ):
        with pytest.raises(UserError, match=words):
            export(our_model(**settings), BPETokenizer(), tmp_path / "out")
    changed = our_model()
    changed.blocks[1].feed_forward.gate = torch.nn.Linear(32, 32)
    with pytest.raises(UserError, match=r"no place for blocks\.1\.feed_forward\.gate\.bias"):
        export(changed, BPETokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(our_model(), CharTokenizer("abc"), tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["config.json", "model.safetensors"]
    assert files[0].stat().st_mode == files[1].stat().st_mode, "who may read the one may read the other"
