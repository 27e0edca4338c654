"""GGUF files, written by its own package."""


import numpy as np
import pytest
import weight_files
from for_tests import oracle
from pretrained import load_pretrained
from their_models import LLAMA3, difference, refused, their_model, write_gguf


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
