"""The exercises of README.md: functions to write, and a check of each.

    python 05_bert_mlm/exercises.py answers_05.py      # writes the file, to be filled; checks it once it is there
"""

import math
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from answers import grade
from wordpiece import WordPieceTokenizer

TOKENS = ["[UNK]", "un", "##aff", "##able", "a", "##f", "##ff", "able", "##b", "##le", "una"]


def check_corrupt(corrupt):
    ids = [random.randrange(10, 100) for _ in range(10_000)]
    chosen = [random.random() < 0.3 for _ in ids]
    inputs, targets = corrupt(ids, chosen, 3, 100, random)
    if any(target != (i if hidden else -100) for i, hidden, target in zip(ids, chosen, targets)):
        return "targets are the ids where they are chosen, and -100 elsewhere"
    if any(given != i for i, hidden, given in zip(ids, chosen, inputs) if not hidden):
        return "a token that was not chosen has changed"
    of = [(i, given) for i, hidden, given in zip(ids, chosen, inputs) if hidden]
    masked, kept = (sum(is_so) / len(of) for is_so in zip(*((given == 3, given == i) for i, given in of)))
    if abs(masked - 0.8) > 0.04 or abs(kept - 0.1) > 0.03:
        return f"of what is chosen {masked:.0%} become [MASK] and {kept:.0%} stay, instead of 80 % and 10 %"


def check_score(score):
    def log_probability(ids, at, token):  # stands for a model: of `token` at a place of ids, which it reads
        return -math.log(2 + sum(ids) % 7) - (token + at) / 10 if ids[at] == 0 else 0.0

    ids = [5, 7, 9, 4]
    expected = sum(log_probability([*ids[:at], 0, *ids[at + 1 :]], at, ids[at]) for at in range(len(ids)))
    if not math.isclose(found := score(ids, 0, log_probability), expected, rel_tol=1e-9):
        together = sum(log_probability([0] * len(ids), at, ids[at]) for at in range(len(ids)))
        hint = ": they are not hidden all at once" if math.isclose(found, together) else (
            ": hide the token before you ask for it" if not found else "")
        return f"the sum over all tokens, each hidden alone, is {expected:.4f}, not {found:.4f}{hint}"


def check_pieces(pieces):
    tokenizer = WordPieceTokenizer(TOKENS)
    for word in ("unaffable", "able", "affable", "una", "unable", "aff", "xyz"):
        expected = [TOKENS[i] for i in tokenizer.encode(word)]
        if (found := pieces(word, set(TOKENS))) != expected:
            hint = ": inside a word a piece begins with ##" if "##" not in "".join(found[1:]) and found[1:] else ""
            return f"of {word!r} the longest matches are {expected}, not {found}{hint}"


if __name__ == "__main__":
    random.seed(0)
    flags.run(lambda: grade("05_bert_mlm", globals()))
