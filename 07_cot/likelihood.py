"""Multiple choice without writing a word: which of the choices does the model find likeliest behind the question?

    exam = Likelihoods(engine, "mmlu:college_mathematics", shots)
    exam.answer([question, ...])    # [("B", [-1.2, -0.9, -1.5, -1.4]), ...]: the letter, and all four log-likelihoods

A model that can't follow a form of answers can still be asked in this way. Hendrycks et al. 2021, "Measuring Massive
Multitask Language Understanding", section 4.1; of whole choices: Brown et al. 2020, "Language Models are Few-Shot
Learners", section 2.4.
"""

import sys
from itertools import takewhile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from engine import LocalEngine
from evaluation import autocast
from flags import UserError
from prompting import LETTERS, listed, listed_beginning, unlisted, unlisted_beginning

WAYS = ("letters", "choices")  # the likeliest letter; the likeliest choice, per character
AT_ONCE = 8  # texts in a batch


def common(*rows):
    """How many ids some lists begin with together."""
    return sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, zip(*rows)))


class Reader:
    """Log-likelihoods of texts that begin alike: what they share is read once, and remembered for all of them.

    Exact for whatever tokenizer: shared are tokens, and where a text's own differ from those of `beginning`, though its
    characters are the same, the memory is used only as far as they agree. Raises UserError for an engine that can't say
    how likely a text is.
    """

    def __init__(self, engine, beginning=""):
        if not isinstance(engine, LocalEngine):
            raise UserError(f"{engine.name} writes, but does not say how likely a text is: use --prompting direct,"
                            " zero_shot or few_shot, or a model on this machine")
        self.engine, self.model = engine, engine.model
        self.device = self.model.head_weight.device
        self.known, self.memory = self.encode(beginning), None

    def encode(self, text):
        return self.engine.tokenizer.encode(text, disallowed_special=())

    @torch.no_grad()
    def log_likelihoods(self, pairs):
        """For each (context, what goes on) its sum of log p(token | all before it), over what the context has not.

        The first token of all has nothing before it, and is not counted. Raises UserError for a text that is longer
        than the model reads.
        """
        read, counted = [], []  # the ids without the last one, from which nothing is predicted; how many are counted
        for context, goes_on in pairs:
            ids = self.encode(context + goes_on)
            read.append(tuple(ids[:-1]))
            counted.append((ids, len(ids) - max(1, common(ids, self.encode(context)))))
        longest, block_size = max(map(len, read)), self.model.config.block_size
        if longest > block_size:
            raise UserError(f"a question with those shown has {longest:,} tokens, and {self.engine.name} reads"
                            f" {block_size:,}: show fewer with --shots")
        most = {}  # four letters behind one question are one text to read, of which its last place is asked for
        for row, (_, count) in zip(read, counted):
            most[row] = max(count, most.get(row, 0))
        known = {}
        order = sorted(most, key=len)  # of about the same length: little is read that is padding
        with autocast(self.device, self.engine.dtype):
            for first in range(0, len(order), AT_ONCE):
                these = order[first : first + AT_ONCE]
                known |= dict(zip(these, self.predictions(these, [most[row] for row in these])))
        sums = []
        for row, (ids, count) in zip(read, counted):
            places = torch.arange(most[row] - count, most[row])
            sums.append(known[row][places, ids[-count:]].sum().item())
        return sums

    def predictions(self, rows, counts):
        """What follows the last counts[i] tokens of each row: a list of log-probabilities (count, V)."""
        shared = min(common(self.known, *rows), min(len(row) - count for row, count in zip(rows, counts)))
        cache = self.remembered(shared, len(rows), max(map(len, rows)))
        longest = max(map(len, rows)) - shared
        ids = torch.zeros(len(rows), longest, dtype=torch.long)  # padding stands behind, where no token looks
        for i, row in enumerate(rows):
            ids[i, : len(row) - shared] = torch.tensor(row[shared:])
        hidden = self.model.hidden(ids.to(self.device), cache=cache)  # (B, T, C)
        found = []
        for i, (row, count) in enumerate(zip(rows, counts)):
            end = len(row) - shared
            found.append(self.model.head(hidden[i, end - count : end]).float().log_softmax(-1).cpu())
        return found

    def remembered(self, shared, count, length):
        """A cache for `count` texts of `length` tokens that holds the first `shared` ones; None if there are none."""
        if not shared:
            return None
        if self.memory is None:
            self.memory = self.model.new_cache(1, len(self.known))
            self.model.hidden(torch.tensor([self.known], device=self.device), cache=self.memory)
        cache = self.model.new_cache(count, length)
        for new, old in zip(cache, self.memory):
            for room, stored in zip(new.stored, old.stored):
                room[:, :, :shared] = stored[:, :, :shared]
            new.length = shared
        return cache


class Likelihoods:
    """An exam of MMLU, answered with the likeliest of the letters or, by the way "choices", of the choices.

    A choice's log-likelihood is divided by its number of characters: long ones are less likely only because they are.
    """

    def __init__(self, engine, exam, shots, way="letters"):
        if not exam.startswith("mmlu:"):
            raise UserError(f"{exam} has no choices to compare: use --prompting direct, zero_shot or few_shot")
        self.by_letters = way == "letters"
        self.beginning = (listed_beginning if self.by_letters else unlisted_beginning)(exam, shots)
        self.reader = Reader(engine, self.beginning)

    def answer(self, questions):
        """[(the letter, [log-likelihood of each letter, or of each choice per character])] of some Questions."""
        pairs = [(self.beginning + (listed if self.by_letters else unlisted)(question), f" {each}")
                 for question in questions for each in (LETTERS if self.by_letters else question.choices)]
        sums = self.reader.log_likelihoods(pairs)
        scores = [each / (1 if self.by_letters else len(goes_on)) for each, (_, goes_on) in zip(sums, pairs)]
        groups = [scores[i : i + len(LETTERS)] for i in range(0, len(scores), len(LETTERS))]
        return [(LETTERS[group.index(max(group))], group) for group in groups]
