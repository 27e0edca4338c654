"""Tiny random models of transformers give the same logits here; what is damaged is refused in one line."""

import json
import random
import re

import pytest
import torch
from flags import UserError
from for_tests import shared
from pretrained import load_pretrained
from their_models import IDS, SMALL_GPT2, THEIRS, change, difference, refused, rewrite, saved, their_model, write_gguf
from tokenizer import BPETokenizer


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
