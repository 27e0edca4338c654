"""Measure the tokenizer beside tiktoken, Hugging Face's tokenizers and rustbpe, and draw what the README shows.

    pip install tokenizers rustbpe        # the last two are optional
    python 01_tokenizer/benchmark.py      # ten minutes; figures/, and the table in README.md

The text is 10 MB of Python's own documentation and sources, as every reader has them.
"""

import hashlib
import importlib.util
import json
import sys
import sysconfig
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import bpe_plain
import corpora
import flags
import measure
from atomic import save_figure
from bpe_fast import train_fast
from hugging_face import as_oniguruma_writes
from tokenizer import END_OF_TEXT, BPETokenizer, TiktokenTokenizer, count_words
from word_patterns import PATTERNS, as_usually_written

HERE = Path(__file__).resolve().parent
BYTES, VOCAB_SIZE = 10_000_000, 32_768
MERGES = (1, 16, 64, 128, 256, 512)
ENCODINGS = ("gpt2", "cl100k_base", "o200k_base")


def documents(size=BYTES):
    """Texts of so many bytes together: the documentation, then sources of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    paths = (path for path in sorted(library.rglob("*.py")) if not {"site-packages", "test"} & set(path.parts))
    texts = [piece for piece in corpora.pieces("pydocs") if piece != END_OF_TEXT]
    size -= sum(len(text.encode("utf-8")) for text in texts)
    for path in paths:
        if size > 0:
            data = path.read_bytes()[:size].replace(END_OF_TEXT.encode(), b"")
            texts.append(data.decode("utf-8", errors="ignore"))
            size -= len(data)
    return texts


# ---- training: each measurement is a process of its own, for its threads and its peak of memory ----


def train_ours(texts, threads):
    tokenizer = BPETokenizer(special_tokens=())
    tokenizer.train(texts, VOCAB_SIZE, processes=threads)
    return {token: i for i, token in tokenizer.vocab.items()}


def train_rustbpe(texts, threads):
    import rustbpe

    tokenizer = rustbpe.Tokenizer()  # pyright: ignore[reportAttributeAccessIssue] (it comes without types)
    tokenizer.train_from_iterator(texts, VOCAB_SIZE, pattern=as_usually_written(PATTERNS["cl100k_base"]))
    return {bytes(token): i for token, i in tokenizer.get_mergeable_ranks()}


def train_hugging_face(texts, threads):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    pattern = Regex(as_oniguruma_writes("cl100k_base"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), byte_level])
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


TRAINERS = {"ours": train_ours, "rustbpe": train_rustbpe, "tokenizers": train_hugging_face}


def train_once(name, threads):
    """In the process of its own: seconds, memory that training took beyond the text and imports, tokens."""
    texts = documents()
    if name != "ours":
        importlib.import_module(name)
    before = measure.peak_memory()
    vocab = {}
    seconds = measure.seconds(lambda: vocab.update(TRAINERS[name](texts, threads)))
    peak = measure.peak_memory()
    tokens = repr(sorted(vocab.items(), key=lambda entry: entry[1])).encode()
    print(json.dumps({"s": seconds, "MB": peak - before, "whole MB": peak, "size": len(vocab),
                      "tokens": hashlib.sha256(tokens).hexdigest()}))


def train_in_process(name, threads):
    return measure.in_process("--train", name, str(threads), RAYON_NUM_THREADS=str(threads),
                              TOKENIZERS_PARALLELISM=str(threads > 1).lower())


def training_rows(peer, threads, rounds):
    print(f"training beside {peer}, {threads} at once", flush=True)
    ours, theirs = measure.in_turn(partial(train_in_process, "ours", threads),
                                   partial(train_in_process, peer, threads), rounds)
    if ours[0]["size"] != theirs[0]["size"] or (peer == "rustbpe" and ours[0]["tokens"] != theirs[0]["tokens"]):
        sys.exit(f"{peer} learned other tokens: the times can't be compared")
    who = "one thread" if threads == 1 else f"{threads} processes, their {threads} threads"
    what = {"s": f"training {VOCAB_SIZE:,} tokens, {who}"}
    if threads == 1:
        what |= {"MB": "its memory, beyond text and imports", "whole MB": "its memory, the whole process"}
    for measured, words in what.items():
        sides = [[one[measured] for one in side] for side in (ours, theirs)]
        yield measure.row(words, measured.split()[-1], sides[0], peer, sides[1])


# ---- encoding ----


def encoding_rows(name, text, rounds):
    print(f"encoding with {name}", flush=True)
    ours, theirs = BPETokenizer.from_tiktoken(name), TiktokenTokenizer(name).encoding
    dtype = ours.dtype

    def in_turn(what, one, other):
        return measure.seconds_in_turn(f"{name}, {what}", one, "tiktoken", other, rounds)

    def cold():
        ours.packed.clear()
        return ours.encode(text)

    if cold() != theirs.encode(text):
        sys.exit(f"{name}: ours and tiktoken's ids differ, the times can't be compared")
    yield in_turn("to a list", lambda: ours.encode(text), lambda: theirs.encode(text))
    yield in_turn("to a list, words never seen before", cold, lambda: theirs.encode(text))
    ours.encode(text)
    yield in_turn(f"to bytes of {dtype.__name__}", lambda: ours.pack(text, dtype),
                  lambda: np.array(theirs.encode(text), dtype).tobytes())
    yield in_turn(f"to bytes of {dtype.__name__}, by encode_to_numpy", lambda: ours.pack(text, dtype),
                  lambda: theirs.encode_to_numpy(text).astype(dtype).tobytes())
    word = "".join(text[:1_500_000].split())[:1_000_000].encode("utf-8")
    yield in_turn("1,000,000 characters without a space, as one word", lambda: ours.encode_word(word),
                  lambda: theirs._encode_single_piece(word))


# ---- the three trainers, and what a vocabulary is worth ----


def word_counts(text):
    return {word.encode("utf-8"): count for word, count in count_words("cl100k_base", [text]).items()}


def seconds_per_merge(train, counts, repeats):
    """Seconds for 1, 16, 64, ... 512 merges, and for each one between those numbers, by differences."""
    totals = [min(measure.seconds(partial(train, counts, size)) for _ in range(repeats)) for size in MERGES]
    steps = zip(totals, totals[1:], MERGES, MERGES[1:])
    return {"total": totals, "each": [(after - before) / (end - begin) for before, after, begin, end in steps]}


def compression():
    """Bytes per token on the last tenth of the documentation; ours is trained on the other nine."""
    text = corpora.load("pydocs")
    train, held_out = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    size, counts, sizes = len(held_out.encode("utf-8")), [], {}
    tokenizer = BPETokenizer(special_tokens=())
    tokenizer.train(train, 200_000, report=lambda left, right, new_id, count: counts.append(count))
    state = tokenizer.state()
    for k in range(8, 20):
        part = BPETokenizer.from_state(state | {"merges": state["merges"][: 2**k - 256]})
        sizes[part.vocab_size] = size / len(part.encode(held_out, disallowed_special=()))
    peers = {}
    for name in ENCODINGS:
        encoding = TiktokenTokenizer(name).encoding
        peers[name] = [encoding.n_vocab, size / len(encoding.encode(held_out, disallowed_special=()))]
    shown = np.unique(np.geomspace(1, len(counts), 100).astype(int)).tolist()
    return {"ours": sorted(sizes.items()), "peers": peers, "counts": [[merge, counts[merge - 1]] for merge in shown]}


def draw(results):
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, curve in results["seconds_per_merge"].items():
        axes.loglog(MERGES[1:], [1000 * seconds for seconds in curve["each"]], "o-", label=name)
    axes.set(title="Time for each merge, on 1 MB of text", xlabel="merge", ylabel="milliseconds")
    axes.set_xticks(MERGES[1:], [str(merge) for merge in MERGES[1:]])
    axes.minorticks_off()
    axes.legend()
    save_figure(figure, HERE / "figures/time_per_merge.png")

    compressed = results["compression"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogx(*zip(*compressed["ours"]), "o-", label="ours, from the rest of the text")
    for name, (vocab_size, value) in compressed["peers"].items():
        left.semilogx(vocab_size, value, "s", label=name)
    left.set(title="Bytes per token, on text kept back", xlabel="vocabulary size", ylabel="bytes per token")
    left.legend()
    right.loglog(*zip(*compressed["counts"]))
    right.set(title="How often the merged pair occurs", xlabel="merge", ylabel="times")
    save_figure(figure, HERE / "figures/compression.png")


def main():
    if sys.argv[1:2] == ["--train"]:
        train_once(sys.argv[2], int(sys.argv[3]))
        return
    parser = flags.Parser("Measure the tokenizer beside tiktoken, Hugging Face's tokenizers and rustbpe.")
    args = measure.arguments(parser, rounds=7)
    packages = ["tiktoken", *(peer for peer in ("tokenizers", "rustbpe") if importlib.util.find_spec(peer))]
    results = {"machine": measure.machine(*packages), "rounds": args.rounds, "rows": []}
    for peer in packages[1:]:
        for threads in (1, 2):
            results["rows"] += training_rows(peer, threads, args.rounds)
    text = "".join(documents())
    for name in ENCODINGS:
        results["rows"] += encoding_rows(name, text, args.rounds)
    counts = word_counts(text[:1_000_000])
    results["seconds_per_merge"] = curves = {}
    for name, train, repeats in (("fast", train_fast, 40), ("in place", bpe_plain.train_in_place, 9),
                                 ("naive", bpe_plain.train_naive, 1)):
        print(f"time per merge, {name}", flush=True)
        curves[name] = seconds_per_merge(train, counts, repeats)
        if name != "fast":
            runs = f"{repeats} runs" if repeats > 1 else "one run"
            what = f"512 merges of 1 MB, whose words are counted, the best of 40 runs and of {runs}"
            sides = curves["fast"]["total"][-1:], curves[name]["total"][-1:]
            results["rows"].append(measure.row(what, "s", sides[0], name, sides[1]))
    results["compression"] = compression()
    measure.publish(results, HERE, args.print_only)
    if not args.print_only:
        draw(results)


if __name__ == "__main__":
    flags.run(main)
