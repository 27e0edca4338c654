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
import vocabularies
from prepare import TRAINED, VOCAB_SIZE
from tokenizer import END_OF_TEXT, PATTERNS, BPETokenizer


class Watcher:
    """Prints merges as they come: the first ten, then each power of two, or all of them."""

    def __init__(self, show_all):
        self.show_all = show_all
        self.tokens = [bytes([byte]) for byte in range(256)]

    def __call__(self, left, right, new_id, count):
        self.tokens.append(self.tokens[left] + self.tokens[right])
        learned = new_id - 255
        if self.show_all or learned <= 10 or learned & (learned - 1) == 0:
            parts = (self.tokens[i].decode("utf-8", errors="backslashreplace") for i in (left, right, new_id))
            print("merge {:,}: {!r} + {!r} -> {!r}, {:,} times".format(learned, *parts, count))


def main():
    parser = flags.Parser("Train a byte-pair encoding on a corpus, and watch what it merges.")
    parser.add_argument("-d", "--data", default="pydocs", help="name of a corpus, text file, or folder of text files")
    parser.add_argument("--vocab_size", type=int, default=VOCAB_SIZE,
                        help="tokens, with the 256 bytes and <|endoftext|>; 257 is a tokenizer of bytes")
    parser.add_argument("--pattern", choices=PATTERNS, default="cl100k_base", help="how text is cut into words first")
    parser.add_argument("--min_count", type=int, default=1,
                        help="stop when no pair occurs so often; the original stopped at 2")
    parser.add_argument("--processes", type=int, default=1, help="processes that cut and count words, side by side")
    parser.add_argument("--show_all", action="store_true", help="print every merge")
    parser.add_argument("-o", "--output", default=str(TRAINED),
                        help="where to save it; name.tiktoken and tokenizer.json are other libraries' formats")
    args = parser.parse()

    tokenizer = BPETokenizer(args.pattern)
    smallest = tokenizer.vocab_size
    if not smallest <= args.vocab_size <= 1_000_000:
        raise flags.UserError(f"vocab_size {args.vocab_size} must be at least {smallest}, the bytes and <|endoftext|>,"
                              " and at most 1,000,000")
    flags.check_ranges(args, min_count=1, processes=(1, 60))
    vocabularies.check_name(tokenizer.state(), Path(args.output))  # before the work, not after it
    texts = [piece for piece in corpora.pieces(args.data) if piece != END_OF_TEXT]
    began = time.perf_counter()
    tokenizer.train(texts, args.vocab_size, args.min_count, args.processes, report=Watcher(args.show_all))
    took = time.perf_counter() - began

    size = sum(len(text.encode("utf-8", errors="replace")) for text in texts)
    count = sum(len(tokenizer.encode(text, disallowed_special=())) for text in texts)
    print(f"{len(tokenizer.merges):,} merges in {took:.1f} s;"
          f" {size:,} bytes are {count:,} tokens now: {size / max(count, 1):.2f} bytes per token")
    if tokenizer.vocab_size < args.vocab_size:
        print(f"it ends at {tokenizer.vocab_size:,} tokens: no other pair occurs"
              + (f" {args.min_count} times" if args.min_count > 1 else ""))
    tokenizer.save(args.output)
    print(f"tokenizer {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
