"""Text to token ids on disk, in bounded memory: train.bin, val.bin and what they are, meta.json.

    python 01_tokenizer/prepare.py -d tinystories -t tiktoken -m gpt2 -o data/prepared/tinystories

Every document is closed by the token <|endoftext|>; the last tenth of the tokens is held out.
Readers map the files into memory: `np.memmap(folder / "train.bin", dtype=meta["dtype"])`.
"""

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import corpora
from download import checksum
from flags import CHECKPOINTS, Parser, UserError, run, shown
from tokenizer import END_OF_TEXT, BPETokenizer, CharTokenizer, from_state, load_tokenizer

FORMAT = 2  # of the tokenizers that are kept; a new number leaves the old ones alone
VOCAB_SIZE = 2048  # of a tokenizer that is trained because there is none yet
TRAINED_ON = 20_000_000  # characters of text are enough to learn merges from
TRAINED = CHECKPOINTS / "01_tokenizer.json"  # where train.py saves, and infer.py looks
HELD_OUT = 0.1  # of the tokens, at the end


def short_hash(*settings):
    return sha256(repr(settings).encode()).hexdigest()[:12]


def plain_name(data):
    return Path(str(data)).stem.replace(" ", "_")


def beginning(texts, characters):
    """The first of some texts, until they have so many characters together."""
    for text in texts:
        yield text
        characters -= len(text)
        if characters <= 0:
            return


def ensure_tokenizer(kind, model, data, vocab_size=VOCAB_SIZE):
    """The tokenizer that -t and -m name; without -m, one trained on `data`, kept in checkpoints/."""
    if kind == "tiktoken":
        return load_tokenizer(kind, model or "o200k_base")
    if model:
        return load_tokenizer(kind, model)
    key = short_hash(FORMAT, kind, vocab_size, corpora.fingerprint(data))
    path = CHECKPOINTS / f"{kind}-{plain_name(data)}-{key}.json"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            print(f"training a tokenizer on {data}, into {shown(path)}")
            texts = (piece for piece in corpora.pieces(data) if piece != END_OF_TEXT)
            if kind == "char":
                tokenizer = CharTokenizer(texts)
            else:
                tokenizer = BPETokenizer()
                tokenizer.train(beginning(texts, TRAINED_ON), vocab_size)
            tokenizer.save(path)
    return load_tokenizer(kind, path)


def prepare(data, tokenizer, folder):
    """Write the tokens of a corpus to a new folder; it appears when it is complete. Raises UserError."""
    folder, end_of_text = Path(folder), tokenizer.end_of_text
    if not folder.name:
        raise UserError(f"can't write to '{folder}': give a new folder with -o")
    dtype = tokenizer.dtype
    partial = folder.with_name(f".{folder.name}.partial")
    with FileLock(f"{partial}.lock"):
        if folder.exists():
            raise UserError(f"{folder} exists already: delete it, or give another folder with -o")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        total = documents = characters = 0
        with open(partial / "train.bin", "wb") as file:
            for piece in corpora.pieces(data):
                if piece == END_OF_TEXT:
                    packed = np.array([end_of_text], dtype).tobytes()
                    documents += 1
                else:
                    packed = tokenizer.pack(piece, dtype, disallowed_special=())
                    characters += len(piece)
                file.write(packed)
                total += len(packed) // np.dtype(dtype).itemsize
        # the end of train.bin becomes val.bin
        held_out = int(total * HELD_OUT)
        with open(partial / "train.bin", "rb+") as train, open(partial / "val.bin", "wb") as val:
            train.seek((total - held_out) * np.dtype(dtype).itemsize)
            shutil.copyfileobj(train, val)
            train.truncate((total - held_out) * np.dtype(dtype).itemsize)
        meta = {
            "data": str(data),
            "tokenizer": tokenizer.state(),
            "dtype": np.dtype(dtype).name,
            "documents": documents,
            "characters": characters,
            "train_tokens": total - held_out,
            "val_tokens": held_out,
            "train_sha256": checksum(partial / "train.bin"),
            "val_sha256": checksum(partial / "val.bin"),
        }
        (partial / "meta.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
        partial.rename(folder)


def is_prepared(data):
    return (Path(data) / "meta.json").is_file()


def ensure_tokens(data, tokenizer):
    """The folder with the tokens of a corpus, prepared if it is not there yet, in data/prepared/."""
    if is_prepared(data):
        return Path(data)
    key = short_hash(corpora.fingerprint(data), tokenizer.state())
    folder = corpora.DATA / "prepared" / f"{plain_name(data)}-{key}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            print(f"turning {data} into tokens, in {shown(folder)}")
            prepare(data, tokenizer, folder)
    return folder


def read_meta(folder):
    try:
        meta = json.loads((Path(folder) / "meta.json").read_text(encoding="utf-8"))
        return {**meta, "tokenizer": dict(meta["tokenizer"]), "dtype": np.dtype(meta["dtype"]).name}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} holds no prepared tokens: make them with 01_tokenizer/prepare.py") from error


def open_tokens(folder):
    """(training tokens, validation tokens, meta) of a prepared folder, mapped into memory, not read."""
    meta, arrays = read_meta(folder), []
    for split in ("train", "val"):
        path, count = Path(folder) / f"{split}.bin", meta[f"{split}_tokens"]
        if not path.is_file() or path.stat().st_size != count * np.dtype(meta["dtype"]).itemsize:
            raise UserError(f"{path} has not the {count:,} tokens of meta.json: delete {folder} and prepare it again")
        arrays.append(np.memmap(path, dtype=meta["dtype"], mode="r") if count else np.empty(0, meta["dtype"]))
    return *arrays, meta


def choose_tokenizer(args, state=None, source=None):
    """The tokenizer of a checkpoint or prepared folder if there is one, else what -t and -m name."""
    if state is None:
        return ensure_tokenizer(args.tokenizer, args.tokenizer_model, args.data)
    kind, model = args.typed.get("tokenizer", state["kind"]), args.typed.get("tokenizer_model")
    if kind != state["kind"] or (model and ensure_tokenizer(kind, model, args.data).state() != state):
        raise UserError(f"-t and -m contradict {source}, which has a {state['kind']}: leave them out")
    return from_state(state)


def open_data(args, state=None, source=None):
    """The tokenizer, training tokens and validation tokens that the flags (and a checkpoint's state) mean."""
    if is_prepared(args.data):
        prepared = read_meta(args.data)["tokenizer"]
        if state not in (None, prepared):
            raise UserError(f"{args.data} was prepared with another tokenizer than {source}: prepare it with that one")
        state, source = prepared, args.data
    tokenizer = choose_tokenizer(args, state, source)
    train_tokens, val_tokens, _ = open_tokens(ensure_tokens(args.data, tokenizer))
    return tokenizer, train_tokens, val_tokens


def main():
    parser = Parser("Turn a corpus into files of token ids that training maps into memory.")
    parser.add_argument("-d", "--data", default="pydocs", help="name of a corpus, text file, or folder of text files")
    parser.add_argument("-t", "--tokenizer", choices=["tokenizer", "tiktoken", "char"], default="tokenizer",
                        help="our own byte-pair encoding, OpenAI's, or one token per character")
    parser.add_argument("-m", "--tokenizer_model", metavar="MODEL",
                        help="path of a tokenizer, or a tiktoken encoding (default: one trained on the data)")
    parser.add_argument("-o", "--output", help="a new folder (default: in data/prepared/)")
    args = parser.parse_args()
    tokenizer = ensure_tokenizer(args.tokenizer, args.tokenizer_model, args.data)
    if args.output:
        folder = args.output
        prepare(args.data, tokenizer, folder)
    else:
        folder = ensure_tokens(args.data, tokenizer)
    meta = read_meta(folder)
    print(f"{shown(folder)}: {meta['train_tokens']:,} training and {meta['val_tokens']:,} validation tokens"
          f" of {meta['documents']:,} documents, {meta['characters']:,} characters, as {meta['dtype']}")


if __name__ == "__main__":
    run(main)
