"""Models that transformers and bitsandbytes quantised and saved, read by us."""

import json

import pytest
import torch
from flags import UserError
from for_tests import oracle
from pretrained import load_pretrained
from tokenizer import BPETokenizer

SIZES = {"vocab_size": 260, "bos_token_id": None, "eos_token_id": None}
# rows of whole blocks of 64: bitsandbytes 0.50.2 takes wrong absmaxes for rows of 32, 96, 160, ... on a CPU
LLAMA = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64}
LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32, "rope_theta": 500000.0}
KINDS = {  # kind of model, its shape, kind of 4 bits, whether absmaxes are bytes, dtype of the rest
    "llama": ("Llama", LLAMA, "nf4", True, torch.float32),
    "llama, absmaxes in float32": ("Llama", LLAMA, "nf4", False, torch.float32),
    "llama fp4": ("Llama", LLAMA, "fp4", True, torch.float32),
    "llama 3.2 in bfloat16": (
        "Llama", LLAMA | {"rope_parameters": LLAMA3, "tie_word_embeddings": True}, "nf4", True, torch.bfloat16),
    "qwen2 fp4, absmaxes in float32": ("Qwen2", LLAMA, "fp4", False, torch.float16),
    "gpt2": ("GPT2", {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 64}, "nf4", True, torch.float32),
}
IDS = torch.randint(260, (2, 40), generator=torch.Generator().manual_seed(0))


def saved_in_4_bits(folder, kind):
    """Let transformers save a random model in 4 bits; return it with the weights that bitsandbytes sees there."""
    transformers, functional = oracle("transformers"), oracle("bitsandbytes.functional")
    oracle("accelerate")  # transformers quantises nothing without it
    family, sizes, bits, double, dtype = KINDS[kind]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**SIZES, **sizes))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(1.0 if parameter.dim() == 1 else 0.0)
        parameter.data = parameter.data.to(dtype)  # not the frequencies of the positions
    model.save_pretrained(folder / "dense")
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=bits, bnb_4bit_use_double_quant=double)
    with torch.compiler.set_stance("force_eager"):  # it would compile for each shape
        small = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "dense", quantization_config=settings, dtype=dtype)
        small.save_pretrained(folder / "small")
        model, count = model.float().eval(), 0
        for name, part in small.named_modules():
            if state := getattr(getattr(part, "weight", None), "quant_state", None):
                state.dtype = torch.float32  # what the file says, not rounded to the dtype of the model
                dense = functional.dequantize_4bit(part.weight.data, state)
                own = model.get_submodule(name).weight
                own.data.copy_(dense if isinstance(model.get_submodule(name), torch.nn.Linear) else dense.T)
                count += 1
    assert count == (8 if family == "GPT2" else 14)
    BPETokenizer("gpt2").save(folder / "small" / "tokenizer.json")
    return model


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_are_those_of_the_dequantised_model(kind, tmp_path):
    theirs = saved_in_4_bits(tmp_path, kind)
    config = json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["load_in_4bit"]
    model, _ = load_pretrained(tmp_path / "small")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    expected = theirs(IDS).logits
    assert 0.3 < expected.std() < 10
    assert (model(IDS)[0] - expected).abs().max() <= 2e-5 * expected.std().clamp(min=1)
    exact = load_pretrained_dense(tmp_path)
    assert (exact(IDS)[0] - expected).abs().max() > 1e-2, "was anything quantised?"


def load_pretrained_dense(folder):
    BPETokenizer("gpt2").save(folder / "dense" / "tokenizer.json")
    return load_pretrained(folder / "dense")[0]


NAME = "model.layers.0.mlp.up_proj.weight"
STATE = f"{NAME}.quant_state.bitsandbytes__nf4"


def as_bytes(state):
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


def damaged(tensors, how):
    state = json.loads(bytes(tensors[STATE].tolist()))
    if how == "no json":
        tensors[STATE] = tensors[STATE][:20].clone()
    elif how == "no bytes":
        tensors[STATE] = torch.ones(3)
    elif how == "a list":
        tensors[STATE] = as_bytes([1])
    elif how == "block 0":
        tensors[STATE] = as_bytes(state | {"blocksize": 0})
    elif how == "no shape":
        tensors[STATE] = as_bytes(state | {"shape": None})
    elif how == "another shape":
        tensors[STATE] = as_bytes(state | {"shape": [96, 640]})
    elif how == "absmax gone":
        del tensors[f"{NAME}.absmax"]
    elif how == "nested absmax gone":
        del tensors[f"{NAME}.nested_absmax"]
    elif how == "short absmax":
        tensors[f"{NAME}.absmax"] = tensors[f"{NAME}.absmax"][:-1].clone()
    elif how == "short table":
        tensors[f"{NAME}.quant_map"] = tensors[f"{NAME}.quant_map"][:8].clone()
    elif how == "weights gone":
        del tensors[NAME]
    elif how == "short weights":
        tensors[NAME] = tensors[NAME][:-1].clone()


HOW = ["no json", "no bytes", "a list", "block 0", "no shape", "another shape", "absmax gone", "nested absmax gone",
       "short absmax", "short table", "weights gone", "short weights"]


def test_damage_is_said_in_one_line(tmp_path):
    files = oracle("safetensors.torch")
    saved_in_4_bits(tmp_path, "llama")
    path = tmp_path / "small" / "model.safetensors"
    whole = {name: tensor.clone() for name, tensor in files.load_file(path).items()}
    for how in HOW:
        tensors = dict(whole)
        damaged(tensors, how)
        files.save_file(tensors, path)
        with pytest.raises(UserError, match=rf"(?s)model\.safetensors.*{NAME}.*download it again") as error:
            load_pretrained(tmp_path / "small")
        assert "\n" not in str(error.value), how


def test_8_bits_are_refused(tmp_path):
    saved_in_4_bits(tmp_path, "llama")
    path = tmp_path / "small" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["quantization_config"] |= {"load_in_4bit": False, "load_in_8bit": True}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match="quantization_config"):
        load_pretrained(tmp_path / "small")
