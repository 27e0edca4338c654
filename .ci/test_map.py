"""The maps in README.md: what each source says stands in the row of a function that exists; and those of the chapters.

A row is `| what the source says | chapter | file: function |`: in the first cell headings in bold and words in
quotation marks, in the last one spans of code such as `03_gpt/gpt.py: GPT.hidden, GPTConfig` or
`07_cot/infer.py: --route`.
"""

import ast
import re
from functools import cache

import pytest
from for_tests import ROOT, shared

README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = {"the report": "report.md", "the training notes": "training-notes.md", "the roadmap": "roadmap.md",
           "the first project": "cot-basic.md", "the second project": "pseudo-cot.md"}


def rows(header):
    """The cells of all rows below each line that begins with these cells."""
    for table in re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", README, re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


MAP = [(source, *cells) for source in SOURCES for cells in rows(f"{source} | chapter | file: function")]


@cache
def names_in(path):
    """What a Python file defines at its top: "function", "Class", "Class.method", "CONSTANT", and "--flag"."""
    tree, names = ast.parse((ROOT / path).read_text(encoding="utf-8")), set()

    def add(body, owner=""):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(owner + node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    parts = target.elts if isinstance(target, ast.Tuple) else [target]  # PLAIN, RESULT = 0, 1
                    names.update(owner + part.id for part in parts if isinstance(part, ast.Name))
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{owner}{node.name}.")

    add(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            names.update(word.value for word in node.args if isinstance(word, ast.Constant))
    return names


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_map_names_exists(source):
    found = [cells for name, *cells in MAP if name == source]
    assert found, f"README.md has no table '{source} | chapter | file: function'"
    for said, chapter, where in found:
        spans, folders = re.findall("`([^`]+)`", where), set()
        assert spans or where.startswith(("no code: ", "not built: ")), f"nothing is named: {said}"
        for span in spans:
            file, _, listed = span.partition(": ")
            assert (ROOT / file).is_file(), f"no file {file}: {said}"
            folders |= {file.partition("/")[0]} if re.match(r"(data|checkpoints|\d\d_\w+)/", file) else set()
            for name in filter(None, listed.split(", ")):
                if file.endswith(".py"):
                    assert name in names_in(file), f"{file} has no {name}: {said}"
                else:
                    assert name in (ROOT / file).read_text(encoding="utf-8"), f"{file} does not say '{name}': {said}"
        linked = re.findall(r"\[(\w+)\]\((\w+)/", chapter)
        assert {target for _, target in linked} == folders and all(a == b for a, b in linked), f"chapters: {said}"


def plain(text):
    """Text without Markdown's signs, addresses and line breaks."""
    text = re.sub(r"\]\([^)]*\)|[*`#\[]|^\s*-( \[.\])? ", "", text, flags=re.MULTILINE)
    return " ".join(text.split()).rstrip(":")


def quotations(cells):
    return [plain(words) for cell in cells for words in re.findall('"([^"]+)"', cell)]


@pytest.mark.parametrize("source", SOURCES)
def test_a_map_leaves_nothing_out_and_quotes_what_is_there(source):
    """Each heading, paragraph and item of a list of the source has a row, and no words are put into its mouth."""
    text = (shared("../sources") / SOURCES[source]).read_text(encoding="utf-8")
    text = re.sub(r"\$\$.*?\$\$|```.*?```|^!\[.*?$\n?", "", text, flags=re.DOTALL | re.MULTILINE)
    said = [said for name, said, *_ in MAP if name == source]
    quoted = quotations(said)
    headings = {plain(words) for cell in said for words in re.findall(r"\*\*(.+?)\*\*", cell)}
    written = {plain(line) for line in text.splitlines() if line.startswith("#")}
    assert written == headings, f"headings in only one of them: {written ^ headings}"
    for words in quoted:
        assert words in plain(text), f"{SOURCES[source]} does not say '{words}'"
    for item in map(plain, re.split(r"\n\s*\n|\n(?=\s*(?:[-#]|\d\.) )", text)):
        assert item in headings or not item or any(words in item for words in quoted), f"no row for '{item}'"


def test_where_the_report_is_imprecise():
    """The report's words are its own, and all figures stand in the README that the row links to."""
    found = list(rows("the report says | what is so | measured"))
    report = plain((shared("../sources") / "report.md").read_text(encoding="utf-8"))
    assert len(found) >= 8
    for said, _, measured in found:
        for words in quotations([said]):
            assert words in report, f"report.md does not say '{words}'"
        (link,) = re.findall(r"\]\((\w+/\w+\.md)\)", measured)
        page = (ROOT / link).read_text(encoding="utf-8")
        for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+(?:e-\d+)?)?", re.sub(r"\[\d+\]\(.*?\)", "", measured)):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", page), f"{link} has no {number}: {said}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("0*/*.md")), ids=lambda page: f"{page.parent.name}/{page.name}")
def test_the_lines_side_by_side_with_a_source_are_those_of_the_code(page):
    """In the first table below "Side by side" the file of the second cell has the code of the third one."""
    below = page.read_text(encoding="utf-8").partition("## Side by side\n")[2]
    found = re.match(r"\n.*\n\|[-|]+\|\n((?:\|.*\n)+)", below)
    assert found, f"{page} has no table below 'Side by side'"
    for row in found[1].splitlines():
        said, where, line, *_ = (cell.strip() for cell in row.strip("|").split(" | "))
        files = [page.parent / name for name in re.findall(r"`([\w./]+\.py)", where)]
        code = "".join("".join(file.read_text(encoding="utf-8").split()) for file in files)
        for span in re.findall("`([^`]+)`", line):
            assert span.startswith("-") or "".join(span.split()) in code, f"{where} has no line {span}: {said}"
