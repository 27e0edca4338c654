"""Translate spelled-out numbers into digits: the encoder and decoder of the first transformer, and who looks where.

    python 02_attention/translation.py "two hundred and seven thousand and fifteen"

"and", "thousand" and "hundred" have no digit of their own, and a zero no word: the model has to learn the
alignment. Vaswani et al. 2017, "Attention Is All You Need", figure 1, without its feed-forward layers.
"""

import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from atomic import save_figure
from attention import CausalSelfAttention, CrossAttention, MultiHeadAttention
from attention_maps import draw_maps
from timed_training import train_for

SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
PADDING, BEGIN, END = 0, 1, 2
WORDS = ["<padding>", *SMALL, *TENS, "hundred", "thousand", "and"]
DIGITS = ["<padding>", "<begin>", "<end>", *"0123456789"]
MOST_WORDS, MOST_DIGITS = 12, 8  # "nine hundred and ninety-nine thousand ..." and BEGIN, six digits, END


def spell(number):
    """The words of a number below a million: 40,105 -> ["forty", "thousand", "one", "hundred", "and", "five"]."""
    if number < 20:
        return [SMALL[number]]
    if number < 100:
        return [TENS[number // 10 - 2], *(spell(number % 10) if number % 10 else [])]
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = number % size
    joint = ["and"] * (0 < rest < 100)
    return [*spell(number // size), name, *joint, *(spell(rest) if rest else [])]


def padded(rows):
    longest = max(map(len, rows))
    return torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])


def source(texts):
    """Lists of words -> ids (B, S)."""
    return padded([[WORDS.index(word) for word in words] for words in texts])


def target(numbers):
    """Numbers -> ids (B, T) from BEGIN to END."""
    return padded([[BEGIN, *(DIGITS.index(digit) for digit in str(number)), END] for number in numbers])


class Translator(nn.Module):
    """Words (B, S) and the digits so far (B, T) -> logits of the next digits (B, T, V)."""

    def __init__(self, embedding_size=64, head_count=4):
        super().__init__()
        C, nh = embedding_size, head_count
        self.word_embedding, self.word_position = nn.Embedding(len(WORDS), C), nn.Embedding(MOST_WORDS, C)
        self.digit_embedding, self.digit_position = nn.Embedding(len(DIGITS), C), nn.Embedding(MOST_DIGITS, C)
        self.encoder = MultiHeadAttention(C, nh)  # words look at all words
        self.decoder = CausalSelfAttention(C, nh)  # digits look back at digits
        self.cross = CrossAttention(C, nh)  # digits look at words
        self.norms = nn.ModuleList(nn.LayerNorm(C) for _ in range(5))
        self.head = nn.Linear(C, len(DIGITS))

    def encode(self, words):
        """(B, S) -> what the decoder looks at (B, S, C), and where words are (B, 1, 1, S)."""
        mask = (words != PADDING)[:, None, None]
        x = self.word_embedding(words) + self.word_position.weight[: words.shape[1]]
        x = x + self.encoder(self.norms[0](x), mask)
        return self.norms[1](x), mask

    def digits_looking(self, digits):
        """(B, T) -> the digits as they are when they look at the words (B, T, C)."""
        y = self.digit_embedding(digits) + self.digit_position.weight[: digits.shape[1]]
        return y + self.decoder(self.norms[2](y))

    def decode(self, digits, memory, mask):
        y = self.digits_looking(digits)
        y = y + self.cross(self.norms[3](y), memory, mask)  # queries from the digits, keys and values from the words
        return self.head(self.norms[4](y))

    @torch.no_grad()
    def alignment(self, words, digits):
        """How much each digit, while it is written, looks at each word: (B, nh, T, S)."""
        memory, mask = self.encode(words)
        return self.cross.weights(self.norms[3](self.digits_looking(digits)), memory, mask)

    @torch.no_grad()
    def translate(self, texts):
        """Lists of words -> strings of digits, the likeliest digit each time."""
        memory, mask = self.encode(source(texts))
        digits = torch.full((len(texts), 1), BEGIN)
        for _ in range(MOST_DIGITS - 1):
            # END or a digit: <padding> and <begin> stand before these, and are never answers
            following = END + self.decode(digits, memory, mask)[:, -1:, END:].argmax(-1)
            digits = torch.cat([digits, following], dim=1)
        written = ([DIGITS[i] for i in row] for row in digits[:, 1:].tolist())
        return ["".join(row[: row.index("<end>")] if "<end>" in row else row) for row in written]


def random_numbers(generator, count, held_out=frozenset()):
    """Numbers of one to six digits, each length as often as the others."""
    numbers = []
    while len(numbers) < count:
        number = generator.randrange(10 ** generator.randint(1, 6))
        if number not in held_out:
            numbers.append(number)
    return numbers


def translation_loss(model, numbers):
    digits = target(numbers)
    logits = model.decode(digits[:, :-1], *model.encode(source(map(spell, numbers))))
    return F.cross_entropy(logits.flatten(0, 1), digits[:, 1:].flatten(), ignore_index=PADDING)


def main():
    parser = flags.Parser("Teach a small encoder and decoder to write spelled-out numbers in digits.")
    parser.add_argument("text", nargs="?", default="two hundred and seven thousand and fifteen", help="a number")
    parser.add_argument("--steps", type=int, default=4000, help="of training")
    parser.add_argument("--seed", type=int, default=1337, help="the same seed begins with the same weights")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "02_translation.png"), help="where to draw")
    args = parser.parse()
    words = args.text.lower().replace("-", " ").split()
    if unknown := [word for word in words if word not in WORDS[1:]]:
        raise flags.UserError(f"'{unknown[0]}' is no word of a number: write one like {parser.get_default('text')}")
    if not 0 < len(words) <= MOST_WORDS:
        raise flags.UserError(f"give 1 to {MOST_WORDS} words")
    flags.check_ranges(args, steps=1)

    test = random.Random(0).sample(range(1000, 1_000_000), 1000)
    held_out, generator = frozenset(test), random.Random(args.seed)
    torch.manual_seed(args.seed)
    model = Translator()
    train_for(model, lambda: translation_loss(model, random_numbers(generator, 64, held_out)), args.steps)
    right = [ours == str(number) for ours, number in zip(model.translate([spell(n) for n in test]), test)]
    print(f"{args.steps:,} steps; of 1,000 numbers that training never saw"
          f" {sum(right) / len(right):.1%} are right to the last digit")
    answer = model.translate([words])[0]
    print(f"{' '.join(words)} -> {answer}")

    digits = [BEGIN, *map(DIGITS.index, answer)]  # each is looked from while the next one is written
    maps = model.alignment(source([words]), torch.tensor([digits]))[0]
    # what it writes on the left, what it reads below
    save_figure(draw_maps({"while writing": maps}, [*answer, "<end>"], words), args.output)
    print(f"alignment {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
