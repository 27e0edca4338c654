"""Train a byte-pair encoding on a corpus, and watch what it merges.

    python 01_tokenizer/train.py -d tinyshakespeare --vocab_size 1024 -o shakespeare.json
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import corpora
import flags
from prepare import VOCAB_SIZE
from tokenizer import END_OF_TEXT, PATTERNS, BPETokenizer


def main():
    parser = flags.Parser("Train a byte-pair encoding on a corpus, and watch what it merges.")
    parser.add_argument("-d", "--data", default="pydocs", help="name of a corpus, text file, or folder of text files")
    parser.add_argument("--vocab_size", type=int, default=VOCAB_SIZE,
                        help="tokens, with the 256 bytes and <|endoftext|>")
    parser.add_argument("--pattern", choices=PATTERNS, default="cl100k_base", help="how text is cut into words first")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "01_tokenizer.json"), help="where to save it")
    args = parser.parse()

    tokenizer = BPETokenizer(args.pattern)
    smallest = tokenizer.vocab_size
    if args.vocab_size < smallest:
        raise flags.UserError(f"vocab_size {args.vocab_size} must be at least {smallest}: the bytes and <|endoftext|>")
    texts = [piece for piece in corpora.pieces(args.data) if piece != END_OF_TEXT]
    began = time.perf_counter()
    tokenizer.train(texts, args.vocab_size)
    took = time.perf_counter() - began

    for (left, right), new_id in tokenizer.merges.items():
        learned = new_id - 255
        if learned <= 10 or learned & (learned - 1) == 0:  # the first ten, then each power of two
            parts = tokenizer.decode([left]), tokenizer.decode([right])
            print(f"merge {learned:,}: {parts[0]!r} + {parts[1]!r} -> {tokenizer.decode([new_id])!r}")
    size = sum(len(text.encode("utf-8")) for text in texts)
    count = sum(len(tokenizer.encode(text, disallowed_special=())) for text in texts)
    print(f"{len(tokenizer.merges):,} merges in {took:.1f} s;"
          f" {size:,} bytes are {count:,} tokens now: {size / count:.2f} bytes per token")
    tokenizer.save(args.output)
    print(f"tokenizer {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
