"""Show how a text is cut into tokens, ours beside OpenAI's.

    python 01_tokenizer/infer.py "The tokenizer tokenizes."
    python 01_tokenizer/infer.py --merges tokenizer
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from prepare import TRAINED, ensure_tokenizer
from tokenizer import BPETokenizer, load_tokenizer

COLOURS = [f"\033[48;5;{colour}m\033[30m" for colour in (153, 223, 157, 219, 229)]
PLAIN = "\033[0m"
BESIDE = "o200k_base"  # of tiktoken: GPT-4o's


def coloured(words):
    """The words in changing background colours; on no terminal, with bars between them."""
    if not sys.stdout.isatty():
        return "|".join(words)
    return "".join(COLOURS[i % len(COLOURS)] + word + PLAIN for i, word in enumerate(words))


def parts(tokenizer, ids):
    """The text of each token; what is no whole character shows its bytes."""
    return [tokenizer.decode_bytes([i]).decode("utf-8", errors="backslashreplace") for i in ids]


def show(tokenizer, text):
    ids = tokenizer.encode(text, disallowed_special=())
    print(coloured(parts(tokenizer, ids)))
    print(*ids)
    print(f"{len(ids)} tokens for {len(text)} characters; the vocabulary has {tokenizer.vocab_size:,}")


def show_merges(tokenizer, text):
    """A line for each merge, from bytes to tokens: the earliest learned of the pairs that are there."""
    for stretch in tokenizer.words(text):
        for word in stretch:
            ids = [tokenizer.byte_ids[byte] for byte in word.encode("utf-8").translate(None, tokenizer.missing)]
            print(coloured(parts(tokenizer, ids)))
            while found := [pair for pair in zip(ids, ids[1:]) if pair in tokenizer.ranks]:
                pair = min(found, key=tokenizer.ranks.get)
                place = list(zip(ids, ids[1:])).index(pair)
                ids[place:place + 2] = [tokenizer.merges[pair]]
                print(f"{coloured(parts(tokenizer, ids))}   (merge {tokenizer.ranks[pair] + 1:,})")


def main():
    parser = flags.Parser("Show how a text is cut into tokens, ours beside OpenAI's.")
    example = "The tokenizer tokenizes 12345 unforgettable words."
    parser.add_argument("text", nargs="*", default=[example], help="any text")
    parser.add_argument("-p", "--prompt", help="the text, as in the other chapters")
    parser.add_argument("-t", "--tokenizer", choices=["tokenizer", "tiktoken", "char"], default="tokenizer",
                        help="our own byte-pair encoding, OpenAI's, or one token per character")
    parser.add_argument("-m", "--tokenizer_model", metavar="MODEL",
                        help="path of a tokenizer, or a tiktoken encoding"
                             " (default: what train.py saved, else one trained on pydocs)")
    shows = parser.add_mutually_exclusive_group()
    shows.add_argument("--decode", action="store_true", help="the text is ids, such as '72 105': show what they spell")
    shows.add_argument("--merges", action="store_true", help="show merge by merge how the words are built up")
    args = parser.parse()
    text = " ".join(args.text) if args.prompt is None else args.prompt
    trained = args.tokenizer == "tokenizer" and TRAINED.exists()
    tokenizer = ensure_tokenizer(args.tokenizer, args.tokenizer_model or (TRAINED if trained else None), "pydocs")
    if args.decode:
        ids = text.replace(",", " ").split()
        if not all(i.isascii() and i.isdecimal() and len(i) < 10 and int(i) < tokenizer.vocab_size for i in ids):
            raise flags.UserError(f"--decode takes ids from 0 to {tokenizer.vocab_size - 1:,}, with spaces between")
        try:
            print(tokenizer.decode([int(i) for i in ids]))
        except ValueError as error:
            raise flags.UserError(f"{error}: leave it out") from error
    elif args.merges:
        if not isinstance(tokenizer, BPETokenizer):
            raise flags.UserError("--merges shows byte-pair encodings with ranks: leave out -t, or take another -m")
        show_merges(tokenizer, text)
    else:
        show(tokenizer, text)
        if args.tokenizer != "tiktoken":
            print(f"\ntiktoken's {BESIDE}:")
            try:
                show(load_tokenizer("tiktoken", BESIDE), text)
            except flags.UserError:
                print("left out, since it is not on this machine; tiktoken looks for it in TIKTOKEN_CACHE_DIR")


if __name__ == "__main__":
    flags.run(main)
