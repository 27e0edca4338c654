"""Settings of this chapter's tests, and small models of transformers with ours beside them."""

from pathlib import Path

import pytest
import torch
from for_tests import one_thread, oracle  # noqa: F401
from gpt import GPT
from pretrained import config_of_hugging_face


@pytest.fixture(params=["gpt2", "llama"])
def peers(request):
    """(a random model of transformers, our GPT with its weights): 40 tokens, 1 ends a text and 0 is padding."""
    transformers = oracle("transformers")
    tokens = {"vocab_size": 40, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    torch.manual_seed(0)
    if request.param == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_positions=64, n_head=4, n_layer=2, **tokens)
    else:
        config = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, **tokens)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    config, layout = config_of_hugging_face(theirs.config.to_dict(), Path("config.json"))
    ours, state = GPT(config).eval(), theirs.state_dict()
    for name, parameter in ours.named_parameters():
        found = layout.name(name) if request.param == "llama" else f"transformer.{layout.name(name)}"
        parameter.data.copy_(state[found].T if layout.turned(name, state[found].shape) else state[found])
    return theirs, ours
