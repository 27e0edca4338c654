"""The original's step: its architecture beside torch's own layer, and the losses that its real code had."""

import original_recipe
import pytest
import torch
from torch import nn

SIZES = {"embedding_size": 24, "block_size": 16, "head_count": 3, "layer_count": 2}


@torch.no_grad()
def waves(model):
    """Fill all weights with numbers that any version of torch computes alike."""
    for i, weight in enumerate(model.parameters()):
        weight.copy_(((torch.arange(weight.numel()) * 0.7 + i).sin() * 0.3).view(weight.shape))
    return model


def waves_ids():
    return torch.arange(3 * 4 * 9).square().view(3, 4, 9) % 47  # three batches of 4 blocks of 8, and the token after


def test_three_steps_have_the_losses_of_the_real_code():
    """Its train_model() at commit cb738d9, run once on the same weights and batches, learning rate 0.05."""
    model = waves(original_recipe.OriginalModel(50, **SIZES, dropout=0.0))
    optimizer = original_recipe.original_optimizer(model, 0.05)
    losses = [original_recipe.original_step(model, optimizer, ids[:, :-1], ids[:, 1:]) for ids in waves_ids()]
    expected = [4.185748, 3.785990, 3.609766]
    assert losses == pytest.approx(expected, abs=1e-4), "scale by C, decay of 0.01 on all, no clipping, tril?"


def torchs_block(ours, C, nh):
    """nn.TransformerEncoderLayer with the weights of a block of ours."""
    theirs = nn.TransformerEncoderLayer(C, nh, 4 * C, dropout=0.0, batch_first=True, norm_first=True)
    attention = theirs.self_attn
    queries, keys, values = (torch.cat([getattr(head, name).weight for head in ours.heads])
                             for name in ("query", "key", "value"))
    with torch.no_grad():
        # torch divides by sqrt(C / nh), which is sqrt(nh) less than sqrt(C)
        attention.in_proj_weight.copy_(torch.cat([queries * nh**-0.5, keys, values]))
        attention.in_proj_bias.zero_()
    for mine, other in ((ours.projection, attention.out_proj), (ours.feed_forward[0], theirs.linear1),
                        (ours.feed_forward[2], theirs.linear2), (ours.attention_norm, theirs.norm1),
                        (ours.feed_forward_norm, theirs.norm2)):
        other.load_state_dict(mine.state_dict())
    return theirs


def test_the_model_equals_torchs_layers_but_for_the_scale():
    torch.manual_seed(0)
    model = original_recipe.OriginalModel(50, **SIZES).eval()
    ids = torch.randint(50, (4, 11))
    x = model.token_embedding(ids) + model.position_embedding.weight[:11]
    mask = nn.Transformer.generate_square_subsequent_mask(11)
    for block in model.blocks:
        x = torchs_block(block, 24, 3)(x, src_mask=mask, is_causal=True)
    expected = nn.functional.layer_norm(x, (24,), model.norm.weight, model.norm.bias) @ model.output.weight.T
    assert torch.allclose(model(ids), expected, atol=1e-5), "scale, order of norms, ReLU, or who looks at whom?"


def test_dropout_is_where_the_originals_is():
    """Of the heads' joined output and of the feed-forward's: with all of both dropped, one bias alone is left."""
    block = original_recipe.OriginalBlock(24, 16, head_count=3, dropout=1.0)
    x = torch.randn(2, 5, 24)
    assert torch.allclose(block(x), x + block.projection.bias), "is it after the projection, not before?"
    model = original_recipe.OriginalModel(50, **SIZES, dropout=1.0)
    with torch.no_grad():
        for block in model.blocks:
            block.projection.bias.zero_()
    ids = torch.randint(50, (2, 16))
    expected = model.output(model.norm(model.token_embedding(ids) + model.position_embedding.weight))
    assert torch.allclose(model(ids), expected), "the original has no dropout of embeddings"


def test_the_defaults_are_the_reports_second_command():
    with torch.device("meta"):
        model = original_recipe.OriginalModel(200_019)
    block = 4 * 384**2 + 384 + 8 * 384**2 + 4 * 384 + 384 + 4 * 384  # no biases in queries, keys and values
    assert sum(p.numel() for p in model.parameters()) == 2 * 200_019 * 384 + 256 * 384 + 6 * block + 2 * 384
    assert model.blocks[0].dropout.p == 0.2 and len(model.blocks[0].heads) == 6
    optimizer = original_recipe.original_optimizer(model)
    assert optimizer.param_groups[0]["lr"] == 3e-4 and not optimizer.param_groups[0]["fused"]
