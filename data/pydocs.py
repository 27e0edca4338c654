"""The default corpus: the documentation that comes with every Python interpreter.

Two sources, about 2 MB together, both read by parsing source files; nothing is imported:
the language reference in `pydoc_data/topics.py` and the docstrings of the standard library.
The text varies a little with the interpreter's version.
"""

import ast
import hashlib
import sysconfig
from pathlib import Path

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "__pycache__"}
SHORTEST = 40  # characters; "Return self." teaches nothing


def parse(path):
    """The syntax tree of a source file, or None for the few files that are broken on purpose."""
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError:
        return None


def topics(stdlib):
    """The chapters of the language reference that `help("topics")` lists, as a list of texts."""
    path = stdlib / "pydoc_data" / "topics.py"
    tree = parse(path) if path.exists() else None  # some Linux packages leave the topics out
    if tree is None:
        return []
    dicts = [node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]
    return list(ast.literal_eval(dicts[0]).values())


def docstrings(stdlib):
    """Yield (qualified name, docstring), such as ("textwrap.dedent", "Remove any common ...")."""

    def below(node, name):
        if text := ast.get_docstring(node):
            yield name, text
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from below(child, f"{name}.{child.name}")

    for path in sorted(stdlib.rglob("*.py")):
        parts = path.relative_to(stdlib).with_suffix("").parts
        if not LEFT_OUT & set(parts) and (tree := parse(path)):
            yield from below(tree, ".".join(part for part in parts if part != "__init__"))


def without_repetitions(texts):
    """Drop each text of which more than half, by paragraphs, stands in a longer one; equal texts too."""
    seen, kept = set(), []
    for text in sorted(texts, key=lambda text: (-len(text), text)):
        paragraphs = text.split("\n\n")
        if sum(len(p) for p in paragraphs if p in seen) <= sum(map(len, paragraphs)) / 2:
            kept.append(text)
        seen.update(paragraphs)
    return kept


def documents(stdlib=None):
    """The corpus as a list of texts, each one once, in an order that looks random and never changes.

    A docstring stands below its name. The order is that of the texts' SHA-256, so that the last
    tenth of the corpus, which trainers hold out, is a fair sample of the whole.
    """
    stdlib = Path(stdlib or sysconfig.get_paths()["stdlib"])
    headings = dict.fromkeys(topics(stdlib), "")
    headings |= {text: f"{name}\n\n" for name, text in docstrings(stdlib) if len(text) >= SHORTEST}
    texts = [headings[text] + text.strip() + "\n" for text in without_repetitions(headings)]
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
