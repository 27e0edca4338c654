"""The texts that models are trained on: named corpora, any text file, any folder of text files.

    python data/corpora.py                                   # lists the corpora
    python data/corpora.py tinyshakespeare                   # downloads one
    python data/corpora.py gsm8k --mirror /media/usb/llm     # from <mirror>/gsm8k/train.jsonl ...

A text is read in pieces, so that it may be larger than memory; END_OF_TEXT closes each document.
"""

import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import pydocs
from atomic import replacing
from download import check, copy, download
from flags import Parser, UserError, run, shown
from reading import END_OF_TEXT, read_archive, read_dolly, read_gsm8k, read_hh, read_mmlu, read_text, read_wikitext

DATA = Path(__file__).resolve().parent
TEXT_FILES = (".txt", ".md", ".rst")



@dataclass(frozen=True)
class Source:
    """One file of a corpus. Without a checksum it could not be verified when this was written."""

    file: str
    url: str | None = None  # None: it comes out of the corpus's archive
    sha256: str | None = None
    size: int | None = None  # bytes
    first_bytes: int | None = None  # take only so many from the url


@dataclass(frozen=True)
class Corpus:
    what: str
    licence: str
    sources: tuple[Source, ...]  # the first is the one that the corpus's name alone means
    read: Callable = read_text
    archive: str = ""  # url of a tar that holds the sources which have none of their own


CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
TINY_STORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
WIKITEXT = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/"
GSM8K = "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/"
DOLLY = "https://huggingface.co/datasets/databricks/databricks-dolly-15k/resolve/main/"
HH_RLHF = "https://huggingface.co/datasets/Anthropic/hh-rlhf/resolve/main/helpful-base/"
MMLU = "https://people.eecs.berkeley.edu/~hendrycks/data.tar"
OPEN_WEB_TEXT = "https://cdn-datasets.huggingface.co/nlp/datasets/openwebtext/"

CORPORA = {
    "pydocs": Corpus("Python's own documentation, read from the interpreter that runs this", "PSF", ()),
    "tinyshakespeare": Corpus("dialogue from Shakespeare's plays", "public domain", (
        Source("input.txt", CHAR_RNN + "input.txt",
               "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed", 1115394),)),
    "tinystories": Corpus("the first 2 MiB of TinyStories, in the words of a four-year-old", "CDLA-Sharing-1.0", (
        Source("train_2MiB.txt", TINY_STORIES + "TinyStories-train.txt",
               "5352b299dcb1a32898b2d779b145b5a05f3e1265953fd21c264c9f9f9c9ae33d", 2 << 20, first_bytes=2 << 20),)),
    "wikitext-2": Corpus("good articles of Wikipedia", "CC BY-SA", (
        Source("train.txt", WIKITEXT + "train.txt"),
        Source("valid.txt", WIKITEXT + "valid.txt",
               "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8", 1121681),
        Source("test.txt", WIKITEXT + "test.txt")), read_wikitext),
    "openwebtext": Corpus("10,000 web pages that Reddit linked to, of OpenWebText", "CC0 (the packaging)", (
        Source("openwebtext-10k.tar.xz", OPEN_WEB_TEXT + "openwebtext-10k.tar.xz"),), read_archive),
    "gsm8k": Corpus("grade-school word problems with worked answers", "MIT", (
        Source("train.jsonl", GSM8K + "train.jsonl",
               "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465", 4166206),
        Source("test.jsonl", GSM8K + "test.jsonl",
               "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14", 749738)), read_gsm8k),
    "dolly": Corpus("instructions and answers that people wrote", "CC BY-SA 3.0", (
        Source("databricks-dolly-15k.jsonl", DOLLY + "databricks-dolly-15k.jsonl"),), read_dolly),
    "hh-rlhf": Corpus("conversations, and which of two answers people preferred: helpful-base", "MIT", (
        Source("train.jsonl.gz", HH_RLHF + "train.jsonl.gz"),
        Source("test.jsonl.gz", HH_RLHF + "test.jsonl.gz")), read_hh),
    "mmlu": Corpus("multiple-choice exams: mathematics, logic, computer science", "MIT", tuple(
        Source(f"{split}/{subject}_{split}.csv", None, digest, size) for split, subject, digest, size in (
            ("test", "college_computer_science", "d53a1d0d1c4362dacf92a4ff1d6a755beb5a87f24a7301c3c4391fcacc6530b4", 40401),
            ("test", "college_mathematics", "8b5bef14d4209c7918eaf947e4f12a5ae9470567722d8ba9761302d733e8ac71", 22429),
            ("test", "elementary_mathematics", "65a46a0e1927ea37aabd031ddcb6d81eef70a7eee1e9e0af94ec8e3fa21d728b", 61602),
            ("test", "formal_logic", "bc2dc7373a664ae72e166dcbe3f7aaf1bb65b99f106f1831f335c53467f35248", 46929),
            ("test", "high_school_computer_science", "63806168fb0e5a72fe5bfb880f19816d8997e28d3f312c6b1831f4d40f432059", 42281),
            ("test", "high_school_mathematics", "fe8f7a154834bba30947401ba37ea6c7afdcfba82ddc341c79b5d3016991d290", 48584),
            ("dev", "college_computer_science", "fc1a43187cd68390d663e0a1849688b13a4cd75ab17616558f4e584a4a8ae2bd", 2638),
            ("dev", "college_mathematics", "27731ee1402e720ee01ad6fa6a969a0d0978a0e9b4c385d328a61869a43f321f", 1366),
            ("dev", "elementary_mathematics", "9aca9cd215b7c170020fd5f7db1c9c3d5cbf6df9ee7b970a4810649a87245011", 1315),
            ("dev", "formal_logic", "e4b579358ed4878f6c91bfea0ccc51efdd15a28401f86da9ee8f6c0af37cf36d", 1628),
            ("dev", "high_school_computer_science", "5de3800dfbbfaa89050413a765deaf774fdb0611e370951383fb50fac774663e", 2809),
            ("dev", "high_school_mathematics", "d7401d5cbad5ae697bfa480e35d85de8ebf1232589a3c59b010782ee49cbe18c", 1168),
        )), read_mmlu, archive=MMLU),
}


# ---- from a name to files to text

def ensure_file(name, source, mirror=None):
    """The path of one file of a named corpus, downloaded if it is not there yet."""
    path = DATA / name / source.file
    known = {"expected_sha256": source.sha256, "expected_size": source.size}
    if path.exists():
        return path
    if mirror and "://" in mirror:
        download(f"{mirror.rstrip('/')}/{name}/{source.file}", path, **known)
    elif mirror:
        copy(Path(mirror) / name / source.file, path, **known)
    elif source.url:
        download(source.url, path, **known, first_bytes=source.first_bytes)
    else:
        archive = DATA / name / CORPORA[name].archive.rpartition("/")[2]
        download(CORPORA[name].archive, archive)
        extract(archive, source, path)
    return path


def extract(archive, source, path):
    """Take from a tar the one file whose name ends as the source's, to `path`: no other path is ever written."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content and member.name.endswith(f"/{source.file}"):
                    found = content.read()
                    with replacing(path) as beside:
                        beside.write_bytes(found)
                        check(beside, f"{source.file} in {archive}", source.sha256, source.size)
                    return
    except tarfile.TarError as error:
        raise UserError(f"{archive} is damaged or no archive: delete it and try again") from error
    raise UserError(f"{archive} has no {source.file}: delete it and try again, or name another source with --mirror")


def ensure_pydocs():
    """The path of the default corpus, built once per interpreter version."""
    recipe = sha256(Path(pydocs.__file__).read_bytes()).hexdigest()[:8]
    path = DATA / "pydocs" / f"python-{sys.version.split()[0]}-{recipe}.txt"
    path.parent.mkdir(exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            print(f"reading the documentation of Python {sys.version.split()[0]} into {shown(path)}")
            text = END_OF_TEXT.join(pydocs.documents())
            with replacing(path) as beside:
                beside.write_text(text, encoding="utf-8")
    return path


def find(name_or_path, mirror=None):
    """What a corpus is called -> (its files, the function that reads one of them).

    A name such as "gsm8k" means the first file of that corpus, "gsm8k/test.jsonl" another one.
    """
    name, _, file = str(name_or_path).partition("/")
    if name == "pydocs" and not file:
        return [ensure_pydocs()], read_text
    for source in CORPORA[name].sources if name in CORPORA else ():
        if file in ("", source.file):
            return [ensure_file(name, source, mirror)], CORPORA[name].read
    path = Path(name_or_path)
    if path.is_file():
        return [path], read_text
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in TEXT_FILES and file.is_file())
        if not files:
            raise UserError(f"no text in the folder {path}: it needs files that end in {', '.join(TEXT_FILES)}")
        return files, read_text
    raise UserError(f"no corpus '{name_or_path}': choose from {', '.join(CORPORA)}, or give a file or folder")


def pieces(name_or_path):
    """Yield the text of a corpus in pieces of about a million characters, END_OF_TEXT after each document."""
    files, read = find(name_or_path)
    anything = False
    for file in files:
        for piece in read(file):
            anything = anything or (piece != END_OF_TEXT and not piece.isspace())
            yield piece
    if not anything:
        raise UserError(f"{name_or_path} is empty: give a file with text in it")


def load(name_or_path):
    """The whole text of a corpus; END_OF_TEXT stands between documents."""
    return "".join(pieces(name_or_path)).removesuffix(END_OF_TEXT)


def fingerprint(name_or_path):
    """A short hash that changes when the files of a corpus do."""
    files, _ = find(name_or_path)
    seen = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256(repr(seen).encode()).hexdigest()[:16]


def main():
    parser = Parser("List the corpora, or bring the named ones to this machine.")
    parser.add_argument("names", nargs="*", help="such as tinyshakespeare, or wikitext-2/valid.txt for one file of it")
    parser.add_argument("--mirror", help="folder or URL that holds <corpus>/<file>, instead of the public addresses")
    args = parser.parse_args()
    if not args.names:
        for name, corpus in CORPORA.items():
            print(f"{name}: {corpus.what} ({corpus.licence})")
            for source in corpus.sources:
                size = f"{source.size:,} bytes" if source.size else "size unknown"
                verified = f"sha256 {source.sha256[:12]}..." if source.sha256 else "not verified"
                print(f"    {source.file}: {size}, {verified}, from {source.url or corpus.archive}")
    for name in args.names:
        wanted = [f"{name}/{source.file}" for source in CORPORA[name].sources] if name in CORPORA else []
        for each in wanted or [name]:
            for path in find(each, args.mirror)[0]:
                print(f"{each}: {shown(path)} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    run(main)
