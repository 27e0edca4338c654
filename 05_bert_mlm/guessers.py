"""What counting alone guesses of hidden tokens: the marks that a masked language model has to beat.

Shapes: B rows, T positions, V = vocabulary size, N hidden tokens.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from ngram import Ngram


class Guessers:
    """By how often each token comes, how often after the one to the left, and how often between both neighbours.

    They see what BERT sees: a neighbour that is hidden tells them nothing.
    """

    def __init__(self, tokens, vocab_size, marks):
        bigram = Ngram(tokens, 2, vocab_size, kneser_ney=True)
        unigram = Ngram(tokens, 1, vocab_size)
        self.hidden = marks.mask
        self.alone = torch.tensor(unigram.next([]), dtype=torch.float32)  # (V,)
        self.after = torch.tensor(np.stack([bigram.next([left]) for left in range(vocab_size)]), dtype=torch.float32)
        self.after[marks.mask] = self.alone  # (V, V): row by the token on the left

    def log_probabilities(self, inputs, targets):
        """{name: (N, V)} of what stands at the hidden places of a batch."""
        rows, places = (targets != -100).nonzero(as_tuple=True)
        left, right = inputs[rows, places - 1], inputs[rows, places + 1]
        after = self.after[left]
        # p(w | l, r) = p(w | l) p(r | w) / sum of that over w
        between = after * torch.where((right == self.hidden)[:, None], 1.0, self.after.T[right])
        between = between / between.sum(-1, keepdim=True)
        found = {"unigram": self.alone.expand_as(after), "bigram": after, "bigram, both sides": between}
        return {name: likely.log() for name, likely in found.items()}

    def scores(self, batches):
        """{name: (mean loss, share of hidden tokens whose likeliest token is right)}."""
        totals = {}
        for inputs, targets, *_ in batches:
            wanted = targets[targets != -100]
            for name, logp in self.log_probabilities(inputs, targets).items():
                loss = -logp.gather(1, wanted[:, None]).sum().item()
                right = (logp.argmax(-1) == wanted).sum().item()
                totals[name] = np.add(totals.get(name, 0), [loss, right, len(wanted)])
        return {name: (loss / count, right / count) for name, (loss, right, count) in totals.items()}
