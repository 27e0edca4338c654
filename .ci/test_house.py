"""The rules of the house: arrows run one way, names are unique, every script answers -h from anywhere."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import measure
import pytest
import remeasure
from for_tests import ROOT, SCRIPTS

CHAPTERS = sorted(path.name for path in ROOT.glob("0*_*") if path.is_dir())
FOLDERS = ["data", "checkpoints", *CHAPTERS]
NEVER_IMPORTED = {"train", "infer", "benchmark", "exercises"}
MODULES = {path: folder for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))}
OWNERS = {path.stem: folder for path, folder in MODULES.items() if path.stem not in NEVER_IMPORTED}


PEERS = {"kan", "inkan", "flashkan"}  # what 06 measures itself against, where it is installed


def imports(path):
    """Every module name that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_run_one_way(path):
    own = MODULES[path]
    allowed = {"data", "checkpoints", own} | {chapter for chapter in CHAPTERS if chapter < own and own in CHAPTERS}
    text = path.read_text(encoding="utf-8")
    for name in imports(path):
        assert name not in NEVER_IMPORTED, f"{name}.py is a script: move what is shared to a module"
        if name in OWNERS:
            owner = OWNERS[name]
            assert owner in allowed, f"{path.name} of {own} imports {name} of {owner}"
            if owner != own:
                line = f'sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "{owner}"))'
                assert line in text, f"{path.name} imports {name} without the line {line}"
    if own in ("02_attention", "06_kan") and path not in SCRIPTS:
        others = set(imports(path)) - {"torch", "numpy", "matplotlib"} - PEERS - sys.stdlib_module_names
        assert all(OWNERS.get(name) == own for name in others), f"{path.name} must import only libraries and its own"


def test_module_names_are_unique_and_shadow_nothing():
    stems = [path.stem for path in MODULES if path.stem not in NEVER_IMPORTED]
    assert len(stems) == len(set(stems)), "two modules have the same name"
    for listing in ("requirements.txt", ".ci/oracles.txt"):
        for line in (ROOT / listing).read_text(encoding="utf-8").splitlines():
            package = re.match(r"[\w.-]*", line)[0].replace("-", "_").lower()
            imported = {"beautifulsoup4": "bs4"}.get(package, package)
            assert imported not in stems, f"a module shadows the package {package}"
    assert not set(stems) & sys.stdlib_module_names


def test_the_top_level_is_as_it_was_drawn():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8").stdout.split("\n")
    top = {name.partition("/")[0] for name in tracked if name}
    assert top <= {"README.md", "requirements.txt", "setup.sh", ".ci", ".gitignore", "pyproject.toml", *FOLDERS}


def test_every_chapter_is_known_to_the_settings():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for folder in FOLDERS:
        assert settings.count(f'"{folder}"') == 3, f"{folder} must stand in testpaths, pythonpath and extraPaths"
        if folder in CHAPTERS:
            names = {path.name for path in (ROOT / folder).iterdir()}
            assert {"README.md", "train.py", "infer.py", "tests"} <= names


def one_by_one(requests):
    """(exit status, output, complaints) of each run of a script: ([script, ...], "__main__", folder)."""
    lines = [json.dumps({"words": list(map(str, words)), "name": name, "folder": str(folder)})
             for words, name, folder in requests]
    process = subprocess.run([sys.executable, str(ROOT / ".ci/one_by_one.py")], input="\n".join(lines),
                             capture_output=True, encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    answers = [json.loads(line) for line in process.stdout.splitlines()]
    assert len(answers) == len(requests), process.stderr[-3000:]
    return answers


def test_every_script_answers_h_from_three_folders(tmp_path):
    requests = [([script, "-h"], "__main__", folder)
                for script in SCRIPTS for folder in (ROOT, script.parent, tmp_path)]
    for ((script, _), _, folder), (status, out, err) in zip(requests, one_by_one(requests)):
        assert status == 0 and "usage:" in out and not err, f"{script} in {folder}: {err[-1000:]}"


def test_flags_agree():
    """A letter means the same in every script; long names are snake_case, and take one value, several, or none."""
    meanings, taken = {}, {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                words = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                settings = {each.arg: ast.unparse(each.value) for each in node.keywords}
                takes = settings.get("nargs"), settings.get("action") == "'store_true'"
                for word in (word for word in words if word.startswith("--")):
                    assert re.fullmatch(r"--[a-z0-9_]+", word), f"{word} in {path}"
                    same = word == "--data" or taken.setdefault(word, takes) == takes  # a text, or several families
                    assert same, f"{word} takes something else in {path}: see the top of checkpoints/flags.py"
                letters = [word for word in words if re.fullmatch(r"-\w", word)]
                for letter in letters:
                    assert meanings.setdefault(letter, words[-1]) == words[-1], f"{letter} means two things ({path})"
    expected = {"-t": "--tokenizer", "-m": "--tokenizer_model", "-l": "--load_model", "-s": "--save_model",
                "-d": "--data", "-p": "--prompt", "-n": "--max_new_tokens"}
    assert expected.items() <= meanings.items()


@pytest.mark.parametrize("last", CHAPTERS)
def test_a_chapter_stands_without_the_higher_ones(last, tmp_path):
    """With the higher chapters deleted, every module and script that is left still imports all it needs."""
    for path, folder in MODULES.items():
        if folder not in CHAPTERS or folder <= last:
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / folder)
    scripts = sorted((tmp_path / last).glob("*.py"))
    for script, (status, _, err) in zip(scripts, one_by_one([([each], "imported", tmp_path) for each in scripts])):
        assert status == 0, f"{script.name} needs a higher chapter: {err[-500:]}"


def test_links_and_commands_of_the_readmes():
    """Files that a README names exist."""
    for readme in [ROOT / "README.md", *ROOT.glob("[d0c]*/*.md")]:
        text = readme.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", text):
            assert (readme.parent / target).exists(), f"{readme.relative_to(ROOT)} links to {target}"
        for script in re.findall(r"python ((?:\w+/)?\w+\.py)", text):
            assert (ROOT / script).exists() or (readme.parent / script).exists(), f"{readme} runs {script}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_stands_in_a_page_of_its_folder(folder):
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / folder).glob("*.md"))
    assert [path.name for path in (ROOT / folder).glob("*.py") if path.name not in pages] == []


@pytest.mark.parametrize("chapter", [path.parents[1] for path in ROOT.glob("*/figures/benchmark.json")])
def test_the_numbers_of_a_readme_are_the_measured_ones(chapter):
    results = json.loads((chapter / "figures/benchmark.json").read_text(encoding="utf-8"))
    readme = (chapter / "README.md").read_text(encoding="utf-8")
    assert readme == measure.readme_with(results, readme), "the table is not that of benchmark.json"
    table = readme.partition(measure.BEGIN)[2].partition(measure.END)[0]
    headline = re.search(r"<summary>([^<]*)</summary>\s*" + re.escape(measure.BEGIN), readme)
    for number in re.findall(r"\d+\.\d+", headline[1] if headline else ""):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", table), f"above the folded table: no row has {number}"


def test_the_page_of_all_claims_has_the_numbers_of_the_readmes_and_of_the_last_run():
    kept = json.loads(remeasure.KEPT.read_text(encoding="utf-8"))
    written = remeasure.PAGE.read_text(encoding="utf-8").split("\n")
    assert written == [*remeasure.page(kept), ""], "bring it up to date: python .ci/remeasure.py --table"


def test_the_speeds_of_the_chapter_table_are_the_measured_ones():
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| speed beside |\n")[2].partition("\n\n")[0]
    for row in table.splitlines()[1:]:
        folder, speed = re.search(r"\((\w+)/", row)[1], row.strip("| ").split(" | ")[-1]
        ratios = re.findall(r"\d+\.\d\d", speed)
        measured = (ROOT / folder / "README.md").read_text(encoding="utf-8")
        for ratio in ratios:
            assert re.search(rf"\| {ratio} (times as fast|of theirs) \|", measured), f"{folder} measured no {ratio}"
        assert ratios or folder in ("data", "checkpoints")
