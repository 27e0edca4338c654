"""Our BERT beside transformers' own, and the properties of what it is made of."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bert_model import BERT, FAMILIES, SIZES, BERTConfig, mean_pooled
from for_tests import oracle

SMALL = BERTConfig(97, 32, 40, 4, 3)


def small(family="bert", **settings):
    torch.manual_seed(0)
    return BERT(replace(SMALL, **FAMILIES[family] | settings)).eval()


@pytest.fixture(params=FAMILIES)
def model(request):
    return small(request.param)


def test_parameters_are_those_of_the_published_models():
    with torch.device("meta"):
        counted = {name: BERT(config).parameter_count() for name, config in SIZES.items()}
    # bert-base: 110 M, of which transformers counts 109,482,240 without the masked head, and 110,106,428 with all heads
    assert counted["bert-base-uncased"] == 110_106_428
    assert counted["minilm-l6"] == 22_713_216 + 2 * 385, "MiniLM has 22,713,216, and no next-sentence head"


def test_loss_and_gradients_equal_those_of_transformers():
    """Equal weights and batches: BertForMaskedLM computes all logits, we those of hidden tokens only."""
    transformers = oracle("transformers")
    ours = small(pooler=False)
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(
        97, 32, 3, 4, 128, hidden_dropout_prob=0, attention_probs_dropout_prob=0, max_position_embeddings=40))
    with torch.no_grad():
        copy_to(theirs, ours)
    ids, targets = torch.randint(1, 97, (2, 5, 40))  # the embedding of 0, their padding, has no gradient from below
    targets[torch.rand(5, 40) > 0.15] = -100
    real = torch.ones(5, 40, dtype=torch.bool)
    real[2, 30:] = real[4, 10:] = False
    targets[~real] = -100
    _, loss = ours(ids, targets, None, real[:, None, None])
    expected = theirs(input_ids=ids, attention_mask=real.long(), labels=targets).loss
    assert abs(loss - expected) < 1e-5
    loss.backward()
    expected.backward()
    gradient = theirs.bert.embeddings.word_embeddings.weight.grad
    assert torch.allclose(ours.token_embedding.weight.grad, gradient, atol=1e-5)


def copy_to(theirs, ours):
    """Give a BertForMaskedLM the weights of a BERT."""
    embeddings, head = theirs.bert.embeddings, theirs.cls.predictions
    pairs = [(embeddings.word_embeddings, ours.token_embedding), (embeddings.LayerNorm, ours.embedding_norm),
             (embeddings.position_embeddings, ours.position_embedding),
             (embeddings.token_type_embeddings, ours.segment_embedding),
             (head.transform.dense, ours.transform), (head.transform.LayerNorm, ours.transform_norm)]
    for layer, block in zip(theirs.bert.encoder.layer, ours.blocks):
        pairs += [(layer.attention.output.dense, block.attention.projection),
                  (layer.attention.output.LayerNorm, block.attention_norm),
                  (layer.intermediate.dense, block.feed_forward.expand),
                  (layer.output.dense, block.feed_forward.projection),
                  (layer.output.LayerNorm, block.feed_forward_norm)]
        part = layer.attention.self
        for name in ("weight", "bias"):
            joint = getattr(block.attention.query_key_value, name).chunk(3)
            for linear, values in zip((part.query, part.key, part.value), joint):
                getattr(linear, name).copy_(values)
    for their, our in pairs:
        their.load_state_dict(our.state_dict())
    head.bias.copy_(ours.output_bias)


def test_it_knows_nothing_at_first(model):
    ids, targets = torch.randint(97, (2, 64, 40))
    _, loss = model(ids, targets)
    assert abs(loss - math.log(97)) < 0.1, "the loss of a model that knows nothing is ln(vocabulary size)"


def test_it_looks_both_ways(model):
    """In the modern variant only every third layer looks further than its window."""
    ids = torch.randint(97, (1, 40))
    other = ids.clone()
    other[0, 20] = (ids[0, 20] + 1) % 97
    moved = (model.hidden(ids) - model.hidden(other)).abs().amax(-1)[0] > 0
    assert moved.all(), "every token, before and after, must know of the one that was changed"


def test_a_window_hides_what_is_far():
    model = small("modern", layer_count=2)
    ids = torch.randint(97, (1, 40))
    other = ids.clone()
    other[0, 20] = (ids[0, 20] + 1) % 97
    moved = ((model.hidden(ids) - model.hidden(other)).abs().amax(-1)[0] > 0).nonzero()[:, 0]
    assert moved.tolist() == list(range(14, 27)), "two layers see 2 x 3 tokens to each side"


def test_padding_changes_nothing(model):
    ids = torch.randint(97, (2, 30))
    real = torch.arange(40) < 30
    padded = F.pad(ids, (0, 10), value=7)
    with torch.no_grad():
        found = model.hidden(padded, mask=real.expand(2, 1, 1, 40))[:, :30]
        assert torch.allclose(found, model.hidden(ids), atol=1e-5)
        assert torch.allclose(mean_pooled(model.hidden(padded, mask=real.expand(2, 1, 1, 40)), real.expand(2, 40)),
                              mean_pooled(model.hidden(ids), torch.ones(2, 30, dtype=torch.bool)), atol=1e-5)


def test_exact_gelu():
    """BERT's is the exact one: at x = -1 it is -0.158655, in the tanh form -0.158808."""
    layer = small().blocks[0].feed_forward
    assert math.isclose(layer.activation(torch.tensor(-1.0)).item(), -0.158655254, abs_tol=1e-7)


def test_only_hidden_tokens_go_through_the_head(model):
    """The loss of all logits, of which the others are ignored, is the same."""
    ids, targets = torch.randint(97, (2, 6, 40))
    targets[torch.rand(6, 40) > 0.3] = -100
    logits, none = model(ids)
    assert none is None and logits.shape == (6, 40, 97)
    _, loss = model(ids, targets)
    assert torch.allclose(loss, F.cross_entropy(logits.flatten(0, 1), targets.flatten()), atol=1e-5)
    only = targets != -100
    assert torch.allclose(model.hidden(ids, only=only), model.hidden(ids)[only], atol=1e-5)
    _, nothing = model(ids, torch.full_like(ids, -100))
    assert nothing == 0, "a batch in which nothing happens to be hidden has no loss, and is not NaN"


def test_it_learns_a_handful_by_heart(model):
    ids, targets = torch.randint(97, (2, 4, 12))
    targets[:, ::2] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        _, loss = model(ids, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.05


def test_a_bad_length_is_told():
    with pytest.raises(ValueError, match="41 tokens are more than the model's block_size of 40"):
        small().hidden(torch.zeros(1, 41, dtype=torch.long))


def test_mean_pooling_by_hand():
    hidden, real = torch.randn(3, 5, 8), np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    found = mean_pooled(hidden, torch.from_numpy(real).bool())
    for row, length, vector in zip(hidden, (2, 5, 1), found):
        mean = row[:length].mean(0)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-6)
