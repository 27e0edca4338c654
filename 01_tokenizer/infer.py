"""Show how a text is cut into tokens.

    python 01_tokenizer/infer.py "The tokenizer tokenizes."
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from prepare import ensure_tokenizer

COLOURS = [f"\033[48;5;{colour}m\033[30m" for colour in (153, 223, 157, 219, 229)]
PLAIN = "\033[0m"


def coloured(parts):
    """The parts in changing background colours; on no terminal, with bars between them."""
    if not sys.stdout.isatty():
        return "|".join(parts)
    return "".join(COLOURS[i % len(COLOURS)] + part + PLAIN for i, part in enumerate(parts))


def main():
    parser = flags.Parser("Show how a text is cut into tokens.")
    example = "The tokenizer tokenizes 12345 unforgettable words."
    parser.add_argument("text", nargs="?", default=example, help="any text")
    parser.add_argument("-t", "--tokenizer", choices=["tokenizer", "tiktoken", "char"], default="tokenizer",
                        help="our own byte-pair encoding, OpenAI's, or one token per character")
    parser.add_argument("-m", "--tokenizer_model", metavar="MODEL",
                        help="path of a trained tokenizer, or a tiktoken encoding (default: one trained on pydocs)")
    parser.add_argument("--decode", action="store_true", help="the text is ids, such as '72 105': show what they spell")
    args = parser.parse()
    tokenizer = ensure_tokenizer(args.tokenizer, args.tokenizer_model, "pydocs")
    if args.decode:
        ids = args.text.replace(",", " ").split()
        if not all(i.isdecimal() and int(i) < tokenizer.vocab_size for i in ids):
            raise flags.UserError(f"--decode takes ids from 0 to {tokenizer.vocab_size - 1:,}, with spaces between")
        print(tokenizer.decode([int(i) for i in ids]))
        return
    ids = tokenizer.encode(args.text, disallowed_special=())
    print(coloured([tokenizer.decode([i]) for i in ids]))
    print(*ids)
    print(f"{len(ids)} tokens for {len(args.text)} characters; the vocabulary has {tokenizer.vocab_size:,}")


if __name__ == "__main__":
    flags.run(main)
