"""Rows of benchmark.py about training further: a step with LoRA beside peft's, 4 bits beside bitsandbytes', packing."""

import importlib
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import measure
from chat_data import conversations
from chat_template import teach_to_talk
from gpt import GPT, SIZES
from lora import Peft, attach
from nf4 import dequantise, quantise
from packing import fill_rows
from prepare import ensure_tokenizer
from sft import examples

LENGTH, COUNTED = 256, 4  # tokens of a row; every so many of them counts, as with short answers to longer questions
BLOCK_SIZE, ROWS = 256, 8


def peer(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise flags.UserError(f"the comparison needs {name}: pip install -r .ci/oracles.txt") from error


def step_of(loss_of, weights):
    """A training step, as a function: forward, backward, AdamW."""
    weights = [w for w in weights if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, 1e-4, fused=True)

    def step():
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    return lambda: measure.seconds(step)


def repeated(function, *inputs, times=20):
    """A function that measures the seconds of a call."""
    function(*inputs)
    return lambda: measure.seconds(lambda: [function(*inputs) for _ in range(times)]) / times


def our_lora(kind, ids, targets):
    torch.manual_seed(0)
    model = attach(GPT(SIZES["smollm2-135m"]), Peft(kind))
    return step_of(lambda: model(ids, targets)[1], model.parameters())


def their_lora(ids, targets):
    """The same shape in transformers, with peft's LoRA of rank 8 on the same matrices."""
    transformers, peft = peer("transformers"), peer("peft")
    shape = SIZES["smollm2-135m"]
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.embedding_size, intermediate_size=shape.feed_forward_size,
        num_hidden_layers=shape.layer_count, num_attention_heads=shape.head_count,
        num_key_value_heads=shape.key_value_head_count, tie_word_embeddings=True)
    added = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
    model = peft.get_peft_model(transformers.LlamaForCausalLM(config), added).train()
    labels = torch.cat([torch.full_like(targets[:, :1], -100), targets[:, :-1]], dim=1)  # they shift them themselves
    return step_of(lambda: model(input_ids=ids, labels=labels).loss, model.parameters())


def rows(rounds):
    """What benchmark.py prints of this."""
    ids = torch.randint(SIZES["smollm2-135m"].vocab_size, (1, LENGTH))
    targets = ids.roll(-1, 1).where(torch.arange(LENGTH) % COUNTED == 0, -100)
    theirs = their_lora(ids, targets)
    for kind, name in (("lora", "LoRA"), ("qlora", "QLoRA, in 4 bits")):
        what = f"a step of {LENGTH} tokens with {name}, rank 8, SmolLM2-135M's shape, a quarter counts"
        ours = our_lora(kind, ids, targets)
        yield measure.row_in_turn(what, "s", ours, "transformers and peft, LoRA", theirs, rounds)

    functional = peer("bitsandbytes.functional")
    for shape in ((1536, 576), (4096, 4096)):
        weight = torch.randn(shape)
        theirs = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        yield measure.row_in_turn(f"{shape[0]} x {shape[1]} weights out of NF4, absmaxes of 8 bits", "s",
                                  repeated(dequantise, quantise(weight)), "bitsandbytes",
                                  repeated(functional.dequantize_4bit, *theirs), rounds)

    tokenizer = teach_to_talk(ensure_tokenizer("tokenizer", None, "pydocs"))
    lengths = [len(ids) - 1 for ids, _ in examples(conversations("docs", "train"), tokenizer, BLOCK_SIZE)]
    packed = len(fill_rows(lengths, BLOCK_SIZE)) * BLOCK_SIZE
    padded = sum(len(some) * max(some) for some in (lengths[i : i + ROWS] for i in range(0, len(lengths), ROWS)))
    yield (f"{1 - sum(lengths) / packed:.1%} of the tokens in packed rows of {BLOCK_SIZE} are padding; of batches of"
           f" {ROWS} that are padded to their longest, {1 - sum(lengths) / padded:.1%}.")
