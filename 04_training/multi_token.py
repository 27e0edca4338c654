"""A second head that predicts the token after the next: more to learn from each batch, and drafts when writing.

    MultiTokenPrediction(model) is trained in the model's place; afterwards `model` alone is what it always was.

Shapes: B sequences, T positions, C = embedding size.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from blocks import make_rotary
from gpt import Block
from key_value_cache import KeyValueCache
from linear_cross_entropy import linear_cross_entropy


class MultiTokenPrediction(nn.Module):
    """A GPT and one block more, which from what is known at a token and the token after it predicts the one after that.

    Called with ids and targets like a GPT, it gives (None, loss + weight x the loss of the second prediction).
    DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 2.2, equations 21 to 25, with depth 1; the weight 0.3 is
    theirs.
    """

    def __init__(self, model, weight=0.3):
        super().__init__()
        C = model.config.embedding_size
        self.model, self.config, self.weight = model, model.config, weight
        self.hidden_norm, self.embedding_norm, self.norm = nn.RMSNorm(C), nn.RMSNorm(C), nn.RMSNorm(C)
        self.join = nn.Linear(2 * C, C, bias=False)
        self.block = Block(model.config, make_rotary(model.config))
        for part in (self.join, self.block):
            part.apply(model.initialise)

    def beside(self):
        """The weights that the model does not have."""
        return {name: w for name, w in self.state_dict().items() if not name.startswith("model.")}

    def hidden_after(self, hidden, next_ids, positions=None, mask=None, cache=None):
        """What is known at each token (B, T, C) and the token after it (B, T) -> what is known there (B, T, C)."""
        if positions is None:
            T = hidden.shape[1]
            positions = cache.next_positions(T) if cache else torch.arange(T, device=hidden.device)
        # M [RMSNorm(h_i); RMSNorm(Emb(t_i+1))]
        pair = [self.hidden_norm(hidden), self.embedding_norm(self.model.token_embedding(next_ids))]
        return self.norm(self.block(self.join(torch.cat(pair, dim=-1)), positions, mask, cache))

    def forward(self, ids, targets, positions=None, mask=None):
        hidden, head = self.model.hidden(ids, positions, mask), self.model.head_weight
        loss = linear_cross_entropy(hidden, head, targets)
        following = torch.where(targets[:, :-1] == -100, -100, targets[:, 1:])  # (B, T - 1)
        shorter = (None if positions is None else positions[..., :-1], None if mask is None else mask[..., :-1, :-1])
        after = self.hidden_after(hidden[:, :-1], targets[:, :-1].clamp(min=0), *shorter)
        return None, loss + self.weight * linear_cross_entropy(after, head, following)


@torch.no_grad()
def write_with_drafts(predictor, prompt, max_new_tokens):
    """Go on with a prompt (a list of ids), always with the likeliest token -> (new ids, drafts right, drafts made).

    Each pass of the model reads the token that is sure and the draft of the next one. If the model itself would have
    said the draft, the pass has given two tokens, else one: the text is the same as without drafts.
    Leviathan, Kalman and Matias 2023, "Fast Inference from Transformers via Speculative Decoding", section 2.
    """
    model, device = predictor.model, predictor.join.weight.device
    predictor.eval()
    length = min(model.config.block_size, len(prompt) + max_new_tokens + 1)
    cache = model.new_cache(1, length)
    attention = predictor.block.attention
    memory = KeyValueCache(attention.cached_sizes, 1, length, dtype=predictor.join.weight.dtype, device=device)

    def likeliest(hidden):
        return model.head(hidden).argmax(-1)[0].tolist()

    hidden = model.hidden(torch.tensor([prompt], device=device), cache=cache)
    sure, drafts, right = likeliest(hidden[:, -1:]), 0, 0
    follow = [*prompt[1:], sure[0]]  # the token after each of `hidden`
    while len(sure) < max_new_tokens and cache[0].length + 2 <= length:
        after = predictor.hidden_after(hidden, torch.tensor([follow], device=device), cache=memory)
        (draft,) = likeliest(after[:, -1:])
        hidden = model.hidden(torch.tensor([[sure[-1], draft]], device=device), cache=cache)
        said = likeliest(hidden)
        drafts += 1
        if said[0] == draft:
            right += 1
            follow = said
        else:  # forget the draft
            for layer in cache:
                layer.length -= 1
            hidden, follow = hidden[:, :1], said[:1]
        sure += follow
    return sure[:max_new_tokens], right, drafts
