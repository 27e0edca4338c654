"""Tiny random models of transformers, written and read, for the tests of real weights."""

import json

import hugging_face
import numpy as np
import pytest
import torch
from flags import UserError
from for_tests import oracle
from pretrained import load_pretrained
from tokenizer import BPETokenizer

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
SMALL = {"vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
SMALL_GPT2 = {"vocab_size": 260, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64}
THEIRS = {
    "gpt2": ("GPT2", "GPT2LMHeadModel", SMALL_GPT2),
    "gpt2 with relu": ("GPT2", "GPT2LMHeadModel", SMALL_GPT2 | {"activation_function": "relu", "n_inner": 48}),
    "llama 3": ("Llama", "LlamaForCausalLM", SMALL | {
        "rope_parameters": LLAMA3 | {"rope_theta": 500.0}, "tie_word_embeddings": True}),
    "llama untied": ("Llama", "LlamaForCausalLM", SMALL | {"rms_norm_eps": 1e-3}),
    "mistral": ("Mistral", "MistralForCausalLM", SMALL | {"sliding_window": 7}),
    "qwen2": ("Qwen2", "Qwen2ForCausalLM", SMALL | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", SMALL | {"head_dim": 16, "tie_word_embeddings": True}),
}
IDS = torch.randint(260, (2, 40), generator=torch.Generator().manual_seed(0))


def their_model(name):
    """One of THEIRS with random weights, of a size that makes logits of about 1."""
    transformers = oracle("transformers")
    torch.manual_seed(0)
    config, model, settings = THEIRS[name]
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = getattr(transformers, model)(getattr(transformers, f"{config}Config")(**settings, **ends)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(1.0 if parameter.dim() == 1 else 0.0)
    return model


def saved(model, folder, **settings):
    model.save_pretrained(folder, **settings)
    BPETokenizer("gpt2").save(folder / "tokenizer.json")
    return folder


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def rewrite(folder, edit):
    """Let `edit` change the dict of a model.safetensors."""
    torch_files = oracle("safetensors.torch")
    state = torch_files.load_file(folder / "model.safetensors")
    state = {name: tensor.clone() for name, tensor in state.items()}
    edit(state)
    torch_files.save_file(state, folder / "model.safetensors")


@torch.no_grad()
def difference(ours, theirs, ids=IDS):
    assert not ours.training
    return (ours(ids)[0] - theirs(ids).logits).abs().max().item()


def refused(path):
    with pytest.raises(UserError) as error:
        load_pretrained(path)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "transformer.h": "blk", "ln_1": "attn_norm",
    "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(path, theirs, kinds=("F32",), edit=lambda writer: None):
    """Store a model as llama.cpp's converter does, its matrices in these types by turns, and round its own to them."""
    gguf = oracle("gguf")
    config, family = theirs.config, theirs.config.model_type
    writer = gguf.GGUFWriter(path, family)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 128))
    writer.add_head_count(4)
    if family == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        if family == "qwen3":
            writer.add_key_length(config.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*hugging_face.CHARACTER.values(), "he", "<|endoftext|>"])
    writer.add_token_types([1] * 257 + [3])
    writer.add_token_merges(["h e"])
    for i, (name, parameter) in enumerate(theirs.named_parameters()):
        for old, new in GGUF_NAMES.items():
            name = name.replace(old, new)
        turned = family == "gpt2" and name.startswith("blk.") and parameter.dim() == 2
        tensor = parameter.data.numpy().T if turned else parameter.data.numpy()
        heads = {"attn_q.": 4, "attn_k.": 2}.get(name.split(".", 2)[-1].removesuffix("weight"), 0)
        if family == "llama" and heads:  # convert_hf_to_gguf.py, `permute`
            tensor = tensor.reshape(heads, 2, -1, 32).swapaxes(1, 2).reshape(-1, 32)
        kind = gguf.GGMLQuantizationType[kinds[i % len(kinds)] if tensor.ndim == 2 else "F32"]
        stored = gguf.quantize(np.ascontiguousarray(tensor), kind)
        writer.add_tensor(name, stored, raw_dtype=kind)
        rounded = gguf.dequantize(stored, kind).reshape(tensor.shape)
        if family == "llama" and heads:
            rounded = rounded.reshape(heads, -1, 2, 32).swapaxes(1, 2).reshape(-1, 32)
        parameter.data.copy_(torch.from_numpy(rounded.T if turned else rounded))
    edit(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
