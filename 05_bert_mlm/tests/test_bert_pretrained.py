"""Real weights: MiniLM, and small random models that transformers writes, in the shapes in which files come."""

import json
from pathlib import Path

import bert_pretrained
import pytest
import torch
import torch.nn.functional as F
from bert_model import mean_pooled
from bert_pretrained import is_pretrained, load_bert
from flags import UserError
from for_tests import minilm, oracle
from wordpiece import SPECIAL

TOKENS = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), ".", "the"]
SENTENCES = ["The cat sat on the mat.", "A list is sorted in place by sort(), which returns None; sorted() makes one.",
             "Unaffable naïveté?", "北京"]


def padded(rows):
    """(ids, real), both (B, T), of lists of different lengths."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids, torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]


@torch.no_grad()
def test_minilm_equals_transformers():
    transformers = oracle("transformers")
    folder = minilm()
    model, tokenizer = load_bert("minilm")
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    cls, sep = tokenizer.special_tokens["[CLS]"], tokenizer.special_tokens["[SEP]"]
    ids, real = padded([[cls, *tokenizer.encode(text), sep] for text in SENTENCES])
    batch = their_tokenizer(SENTENCES, padding=True, return_tensors="pt")
    assert torch.equal(ids, batch.input_ids) and torch.equal(real.long(), batch.attention_mask)
    expected, hidden = theirs(**batch), model.hidden(ids, mask=real[:, None, None])
    assert not model.training and hidden.dtype == torch.float32
    assert (hidden - expected.last_hidden_state)[real].abs().max() <= 5e-6, "is GELU exact, the epsilon 1e-12?"
    assert (model.pooled(hidden[:, 0]) - expected.pooler_output).abs().max() <= 5e-6
    weights = batch.attention_mask[:, :, None].float()
    mean = F.normalize((expected.last_hidden_state * weights).sum(1) / weights.sum(1), dim=-1)
    assert (mean_pooled(hidden, real) - mean).abs().max() <= 1e-6, "is padding left out?"
    # the head that its file lacks says nothing; one row alone is as in a batch
    assert model.next_sentence(hidden[:, 0]).abs().max() == 0
    alone = model.hidden(ids[:1, : real[0].sum()])
    assert (mean_pooled(alone, real[:1, : real[0].sum()]) - mean[:1]).abs().max() <= 1e-6
    with pytest.raises(ValueError, match="block_size of 512"):
        model.hidden(torch.zeros(1, 513, dtype=torch.long))


def saved(folder, kind="BertForPreTraining", cased=False, **settings):
    """(their small model with random weights of a size that makes logits of about 1, its folder)."""
    transformers = oracle("transformers")
    torch.manual_seed(0)
    settings = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                "intermediate_size": 48, "max_position_embeddings": 40, "type_vocab_size": 3,
                "layer_norm_eps": 1e-6} | settings
    model = getattr(transformers, kind)(transformers.BertConfig(**settings)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(1.0 if parameter.dim() == 1 else 0.0)
    model.save_pretrained(folder)
    tokens = [*TOKENS[:-1], "The"] if cased else TOKENS
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return model


def random_batch():
    """(ids, real, segments), (3, 20) each, with padding at the end of two rows."""
    generator = torch.Generator().manual_seed(1)
    ids, segments = (torch.randint(high, (3, 20), generator=generator) for high in (60, 3))
    return ids, torch.arange(20) < torch.tensor([20, 13, 1])[:, None], segments


@torch.no_grad()
def check(model, theirs):
    """All outputs equal those of their BertForPreTraining, at tokens that are no padding."""
    ids, real, segments = random_batch()
    expected = theirs(ids, attention_mask=real.long(), token_type_ids=segments)
    pooled = theirs.bert(ids, attention_mask=real.long(), token_type_ids=segments).pooler_output
    hidden = model.hidden(ids, mask=real[:, None, None], segments=segments)
    assert 0.3 < expected.prediction_logits.std() < 5
    assert (model.head(hidden) - expected.prediction_logits)[real].abs().max() <= 1e-5
    assert (model.pooled(hidden[:, 0]) - pooled).abs().max() <= 1e-5
    logits = model.next_sentence(model.pooled(hidden[:, 0]))
    assert (logits - expected.seq_relationship_logits).abs().max() <= 1e-5
    logits, _ = model(ids, mask=real[:, None, None], segments=segments)
    assert (logits - expected.prediction_logits)[real].abs().max() <= 1e-5


def rewrite(folder, edit):
    """Let `edit` change the dict of a model.safetensors."""
    files = oracle("safetensors.torch")
    state = {name: tensor.clone() for name, tensor in files.load_file(folder / "model.safetensors").items()}
    edit(state)
    files.save_file(state, folder / "model.safetensors")


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_all_heads_equal_transformers(tmp_path):
    theirs = saved(tmp_path)
    model, tokenizer = load_bert(tmp_path)
    check(model, theirs)
    assert model.parameter_count() == sum(parameter.numel() for parameter in theirs.parameters())
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in model.parameters())
    assert model.config.block_size == 40 and model.config.segment_count == 3 and model.config.dropout == 0.1
    assert tokenizer.lowercase and tokenizer.encode("The") == [58]


def test_a_cased_model_in_half_precision(tmp_path):
    saved(tmp_path, cased=True)
    rewrite(tmp_path, lambda state: state.update({name: tensor.bfloat16() for name, tensor in state.items()}))
    theirs = oracle("transformers").BertForPreTraining.from_pretrained(tmp_path, dtype=torch.float32).eval()
    model, tokenizer = load_bert(tmp_path)
    check(model, theirs)
    assert not tokenizer.lowercase and tokenizer.encode("The") == [58] and tokenizer.encode("the") != [58]


def older(state):
    """The names of TensorFlow's days, and what is stored twice."""
    for name in list(state):
        state[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
              ] = state.pop(name)
    state["bert.embeddings.position_ids"] = torch.arange(40)[None]
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
    state["cls.predictions.decoder.bias"] = state.pop("cls.predictions.bias")


def without_prefix(state):
    for name in list(state):
        state[name.removeprefix("bert.")] = state.pop(name)


@pytest.mark.parametrize("edit", [older, without_prefix])
def test_older_names(edit, tmp_path):
    theirs = saved(tmp_path)
    rewrite(tmp_path, edit)
    change(tmp_path / "config.json", position_embedding_type="absolute", torch_dtype="float32")
    check(load_bert(tmp_path)[0], theirs)


@torch.no_grad()
@pytest.mark.parametrize("kind, heads", [("BertModel", (False, True)), ("BertForMaskedLM", (True, False)),
                                         ("BertForNextSentencePrediction", (False, True))])
def test_models_without_some_of_the_heads(kind, heads, tmp_path):
    theirs = saved(tmp_path, kind)
    model, _ = load_bert(tmp_path)
    assert (model.config.masked_head, model.config.pooler) == heads
    ids, real, segments = random_batch()
    expected = theirs(ids, attention_mask=real.long(), token_type_ids=segments)
    hidden = model.hidden(ids, mask=real[:, None, None], segments=segments)
    ours = {"BertModel": lambda: hidden, "BertForMaskedLM": lambda: model.head(hidden)}.get(
        kind, lambda: model.next_sentence(model.pooled(hidden[:, :1])))()  # (3, 1, 2)
    expected = expected[0].view(3, -1, ours.shape[-1])
    assert (ours - expected)[real[:, : ours.shape[1]]].abs().max() <= 1e-5


def refused(path):
    with pytest.raises(UserError) as error:
        load_bert(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("changes, words", [
    ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
    ({"model_type": "roberta"}, "model_type 'roberta'"),
    ({"is_decoder": True}, "is_decoder True"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings False"),
    ({"hidden_size": 64}, "in the shape (60, 32) instead of (60, 64)"),
    ({"intermediate_size": 40}, "encoder.layer.0.intermediate.dense.weight in the shape (48, 32) instead of (40, 32)"),
    ({"num_hidden_layers": 3}, "lacks the tensor encoder.layer.2.attention.self.query.weight"),
    ({"num_hidden_layers": 1}, "has the tensor encoder.layer.1."),
    ({"num_hidden_layers": 10**9}, "too few for 1000000000 layers"),
    ({"num_attention_heads": 5}, "must be divisible by head_count 5"),
    ({"vocab_size": 20}, "a tokenizer of 59 tokens for a model that knows 20"),
    ({"vocab_size": "many"}, "is damaged"),
])
def test_a_configuration_of_another_model(changes, words, tmp_path):
    saved(tmp_path)
    change(tmp_path / "config.json", **changes)
    assert words in refused(tmp_path)


def test_damaged_files(tmp_path):
    saved(tmp_path)
    weights, config, vocabulary = (tmp_path / name for name in ("model.safetensors", "config.json", "vocab.txt"))
    whole = weights.read_bytes()
    rewrite(tmp_path, lambda state: state.pop("bert.encoder.layer.1.attention.self.key.weight"))
    assert "lacks the tensor encoder.layer.1.attention.self.key.weight" in refused(tmp_path)
    weights.write_bytes(whole)
    rewrite(tmp_path, lambda state: state.update({"qa_outputs.weight": torch.ones(2, 32)}))
    assert "has the tensor qa_outputs.weight, for which" in refused(tmp_path)
    weights.write_bytes(whole)
    rewrite(tmp_path, lambda state: state.pop("cls.seq_relationship.bias"))
    assert "lacks the tensor cls.seq_relationship.bias" in refused(tmp_path)
    weights.write_bytes(whole[:-8])
    assert "model.safetensors is damaged or not whole" in refused(tmp_path)
    weights.unlink()
    assert "no file" in refused(tmp_path)
    config.write_text("{", encoding="utf-8")
    assert "is damaged" in refused(tmp_path)
    vocabulary.unlink()
    assert "no vocabulary" in refused(tmp_path)
    config.unlink()
    assert "config.json is not there: give a folder" in refused(tmp_path)
    assert "is not there" in refused(tmp_path / "missing") and "is not there" in refused("model.gguf")


def test_names(monkeypatch, tmp_path):
    assert is_pretrained("minilm") and is_pretrained("bert-base-uncased") and is_pretrained("owner/name")
    assert is_pretrained(tmp_path) and not is_pretrained("checkpoints/05_bert_mlm.pt") and not is_pretrained("a")

    # without the package, and from the hub: what is asked for, under which name
    asked = []

    def bring(name, file, folder, needed=True):
        asked.append((name, file))
        return file != "tokenizer.json"

    monkeypatch.setattr(bert_pretrained, "PACKAGE", "no_such_package")
    monkeypatch.setattr(bert_pretrained.pretrained, "bring", bring)
    assert bert_pretrained.find("minilm").name == "sentence-transformers--all-MiniLM-L6-v2"
    files = ["config.json", "tokenizer_config.json", "tokenizer.json", "vocab.txt", "model.safetensors"]
    assert asked == [("sentence-transformers/all-MiniLM-L6-v2", file) for file in files]
    assert bert_pretrained.find("bert-base-uncased").name == "google-bert--bert-base-uncased"
    assert bert_pretrained.find("owner/name").name == "owner--name"
    assert isinstance(bert_pretrained.find("owner/name"), Path)
