"""How others describe and name what is our GPT: Hugging Face's config.json, GGUF's pairs, llama2.c's header.

Each `config_of_...` gives (GPTConfig, Layout): the shape of the model, and how its file keeps the weights.
"""

import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from flags import UserError, shown
from gpt import SIZES, GPTConfig
from positions import llama3_frequencies, rotary_frequencies

# ---- what others call the parts of our model ----

GPT2 = {
    "blocks": "h.{}.", "token_embedding": "wte", "position_embedding": "wpe", "norm": "ln_f", "output": "lm_head",
    "attention_norm": "ln_1", "feed_forward_norm": "ln_2", "attention.query_key_value": "attn.c_attn",
    "attention.projection": "attn.c_proj", "feed_forward.expand": "mlp.c_fc", "feed_forward.projection": "mlp.c_proj",
}
LLAMA = {
    "blocks": "model.layers.{}.", "token_embedding": "model.embed_tokens", "norm": "model.norm", "output": "lm_head",
    "attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
    "attention.projection": "self_attn.o_proj", "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm", "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.expand": "mlp.up_proj", "feed_forward.projection": "mlp.down_proj",
}
GGUF = {
    "blocks": "blk.{}.", "token_embedding": "token_embd", "position_embedding": "position_embd",
    "norm": "output_norm", "output": "output", "attention_norm": "attn_norm", "feed_forward_norm": "ffn_norm",
    "attention.query": "attn_q", "attention.key": "attn_k", "attention.value": "attn_v",
    "attention.query_key_value": "attn_qkv", "attention.projection": "attn_output",
    "attention.query_norm": "attn_q_norm", "attention.key_norm": "attn_k_norm", "feed_forward.gate": "ffn_gate",
    "feed_forward.expand": "ffn_up", "feed_forward.projection": "ffn_down",
}
# masks and angles that older files store, and a head that is the embedding again
IGNORED = re.compile(r"h\.\d+\.attn\.(masked_)?bias|.*rotary_emb\.inv_freq|(lm_head|output|rope_freqs)\.weight")


@dataclass
class Layout:
    """How a file keeps weights: the names, and in what order the numbers."""

    names: dict
    transposed: bool = False  # GPT-2's matrices of the blocks, which it wrote as a convolution, are (in, out)
    interleaved: bool = False  # llama.cpp and llama2.c keep the rows of Llama's queries and keys so

    def name(self, ours):
        """"blocks.3.attention.query.weight" -> "model.layers.3.self_attn.q_proj.weight"."""
        found = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+)\.(weight|bias)", ours)
        assert found  # every tensor of a GPT is called so
        layer, part, kind = found.groups()
        return (self.names["blocks"].format(layer) if layer else "") + f"{self.names[part]}.{kind}"

    def turned(self, ours, shape):
        return self.transposed and ours.startswith("blocks.") and len(shape) == 2


# ---- what a file says of the shape of its model ----

ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}
LLAMA_SHAPE: dict = {"positions": "rotary", "norm": "rms_norm", "attention": "grouped_query", "feed_forward": "swiglu"}
FAMILIES = {  # Hugging Face's model_type, and GGUF's architecture
    "llama": {"bias": "none"}, "mistral": {"bias": "none"}, "qwen2": {"bias": "query_key_value"},
    "qwen3": {"bias": "none", "qk_norm": True},
}
LLAMA3: dict = SIZES["llama-3.2-1b"].rotary_scaling or {}
# settings for which our model has no part, and the only values with which it needs none
NEEDED = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False,
    "partial_rotary_factor": 1.0, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False, "quantization_config": None,
}


def config_of_hugging_face(described, path):
    """config.json -> (GPTConfig, Layout). Raises UserError for what our model can't be, KeyError where a size lacks."""
    family = described.get("model_type")
    for name, value in NEEDED.items():
        if described.get(name) not in (None, value):
            raise UserError(f"{shown(path)} has {name} {described[name]!r}, which can't be loaded here: only {value!r}")
    if family == "gpt2":
        activation = described.get("activation_function", "gelu_new")
        if activation not in ACTIVATIONS:
            raise UserError(f"{shown(path)} has the activation_function '{activation}', which can't be loaded here:"
                            f" only {', '.join(ACTIVATIONS)}")
        return GPTConfig(
            described["vocab_size"], described["n_embd"], described["n_positions"], described["n_head"],
            described["n_layer"], feed_forward=ACTIVATIONS[activation], feed_forward_size=described.get("n_inner"),
            norm_epsilon=described.get("layer_norm_epsilon", 1e-5), tied_head=described.get("tie_word_embeddings", True)
        ), Layout(GPT2, transposed=True)
    check_family(family, path)
    # the newer way has everything in rope_parameters
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise UserError(f"{shown(path)} scales its rotary positions by '{kind}', which can't be loaded here: only"
                        " llama3")
    heads = described["num_attention_heads"]
    return GPTConfig(
        described["vocab_size"], described["hidden_size"], described["max_position_embeddings"], heads,
        described["num_hidden_layers"], **LLAMA_SHAPE, **FAMILIES[family],
        feed_forward_size=described["intermediate_size"], head_size=described.get("head_dim"),
        key_value_head_count=described.get("num_key_value_heads") or heads,
        window=described.get("sliding_window") if family == "mistral" else None,
        norm_epsilon=described.get("rms_norm_eps", 1e-6), tied_head=described.get("tie_word_embeddings", False),
        rotary_base=rope.get("rope_theta", described.get("rope_theta", 10000.0)),
        rotary_scaling={name: rope[name] for name in LLAMA3} if kind == "llama3" else None,
    ), Layout(LLAMA)


def check_family(family, path):
    if family not in FAMILIES:
        raise UserError(f"{shown(path)} describes a model of the kind '{family}', which can't be loaded here: only"
                        f" gpt2, {', '.join(FAMILIES)}")


def config_of_gguf(pairs, weights, path):
    """The same of a GGUF's pairs."""
    family = pairs["general.architecture"]
    if family != "gpt2":
        check_family(family, path)
    of_model = {key.removeprefix(f"{family}."): value for key, value in pairs.items()}
    heads, width = of_model["attention.head_count"], of_model["embedding_length"]
    common = {"vocab_size": weights["token_embd.weight"].shape[0], "embedding_size": width, "head_count": heads,
              "block_size": of_model["context_length"], "layer_count": of_model["block_count"],
              "feed_forward_size": of_model["feed_forward_length"], "tied_head": "output.weight" not in weights}
    if family == "gpt2":
        return GPTConfig(**common, norm_epsilon=of_model["attention.layer_norm_epsilon"]), Layout(GGUF)
    head_size = of_model.get("attention.key_length", width // heads)
    for name, fine in (("rope.scaling.type", "none"), ("rope.dimension_count", head_size), ("expert_count", 0)):
        if of_model.get(name, fine) != fine:
            raise UserError(f"{shown(path)} has {name} {of_model[name]!r}, which can't be loaded here: only {fine!r}")
    config = GPTConfig(
        **common, **LLAMA_SHAPE, **FAMILIES[family], head_size=head_size,
        key_value_head_count=of_model.get("attention.head_count_kv", heads),
        norm_epsilon=of_model["attention.layer_norm_rms_epsilon"],
        rotary_base=of_model.get("rope.freq_base", 10000.0),
    )
    if "rope_freqs.weight" in weights:  # by how much each pair is slowed down; the settings behind it are not stored
        slower = weights["rope_freqs.weight"].read()
        config.rotary_scaling = {**LLAMA3, "factor": slower.max().item()}
        frequencies = rotary_frequencies(head_size, config.rotary_base)
        expected = frequencies / llama3_frequencies(frequencies, **config.rotary_scaling)
        if slower.shape != expected.shape or not torch.allclose(slower, expected, rtol=1e-4):
            raise UserError(f"{shown(path)} scales its rotary positions in its own way (rope_freqs.weight), which"
                            " can't be loaded here: only Llama 3's")
    return config, Layout(GGUF, interleaved=family == "llama")


def config_of_llama2c(numbers):
    width, hidden, layers, heads, key_value_heads, vocab_size, block_size = numbers
    return GPTConfig(
        abs(vocab_size), width, block_size, heads, layers, **LLAMA_SHAPE, bias="none", feed_forward_size=hidden,
        key_value_head_count=key_value_heads, tied_head=vocab_size > 0,
    ), Layout(GGUF, interleaved=True)


# ---- and back ----


def describe_for_hugging_face(config):
    """Our GPTConfig -> (config.json, Layout). Raises UserError if transformers has no model of that shape."""
    family = next((name for name, needs in FAMILIES.items() if config.positions == "rotary"
                   and (needs["bias"], needs.get("qk_norm", False)) == (config.bias, config.qk_norm)
                   and (not config.window or name == "mistral" and config.window_layers is None)), "gpt2")
    if family == "gpt2":
        activations = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
        described = {
            "architectures": ["GPT2LMHeadModel"], "n_embd": config.embedding_size, "n_positions": config.block_size,
            "n_head": config.head_count, "n_layer": config.layer_count, "n_inner": config.feed_forward_size,
            "activation_function": activations.get(config.feed_forward, "gelu_new"),
            "layer_norm_epsilon": config.norm_epsilon,
        }
    else:
        sizes = explicit(config)
        described = {
            "architectures": [f"{family.capitalize()}ForCausalLM"], "hidden_act": "silu",
            "hidden_size": config.embedding_size, "max_position_embeddings": config.block_size,
            "num_attention_heads": config.head_count, "num_hidden_layers": config.layer_count,
            "intermediate_size": sizes["feed_forward_size"], "head_dim": sizes["head_size"],
            "num_key_value_heads": sizes["key_value_head_count"], "rms_norm_eps": config.norm_epsilon,
            "rope_theta": config.rotary_base,  # the older keys: transformers 4 and 5 both read them
            "rope_scaling": sizes["rotary_scaling"] and {"rope_type": "llama3", **sizes["rotary_scaling"]},
            "sliding_window": config.window,
        }
    described |= {"model_type": family, "vocab_size": config.vocab_size, "tie_word_embeddings": config.tied_head,
                  "torch_dtype": "float32", "bos_token_id": None, "eos_token_id": None}
    again, layout = config_of_hugging_face(described, "config.json")
    lost = [f"{name} {value!r}" for name, value in explicit(config).items() if explicit(again)[name] != value]
    if lost:
        raise UserError(f"transformers has no model of ours with {', '.join(lost)}: export one of GPT-2's or Llama's"
                        " shape")
    return described, layout


def explicit(config):
    """The settings with every size said and without dropout, so that models of the same shape compare equal."""
    heads, C = config.head_count, config.embedding_size
    grouped = config.positions == "rotary" and config.attention == "multi_head"
    head_size = config.head_size or C // heads
    return asdict(replace(
        config, dropout=0.0, attention="grouped_query" if grouped else config.attention, head_size=head_size,
        key_value_head_count=config.key_value_head_count or heads,
        feed_forward_size=config.feed_forward_size or (8 * C // 3 if config.feed_forward == "swiglu" else 4 * C),
        rotary_size=None if config.rotary_size == head_size else config.rotary_size,
        rotary_scaling=config.rotary_scaling and LLAMA3 | config.rotary_scaling,
    ))
