"""setup.sh as newcomers run it: sourced from bash and zsh, run by bash, with conda, without what it needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from for_tests import ROOT, skip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: no POSIX shell")

BASE_PYTHON = Path(sys._base_executable).parent
# leaves conda and this environment out, reaches no registry
ENVIRONMENT = {
    "PATH": f"{BASE_PYTHON}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "PIP_CONFIG_FILE": "/dev/null",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "LANG": "C.UTF-8",
}
CONDA = """#!/bin/sh
# makes real environments (with venv) and activates them as conda's shell function does
envs={envs}
case "$1" in
    shell.*) cat <<'FUNCTION'
conda() {{
    if [ "$1" = activate ]; then
        [ -e "{envs}/$2" ] && . "{envs}/$2/bin/activate" && export CONDA_PREFIX="{envs}/$2"
    else
        command conda "$@"
    fi
}}
FUNCTION
    ;;
    create) shift; while [ "$1" != -n ]; do shift; done; {python} -m venv "$envs/$2" ;;
esac
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A folder with setup.sh and requirements that need no network."""
    folder = tmp_path_factory.mktemp("the course")
    shutil.copy(ROOT / "setup.sh", folder)
    (folder / "requirements.txt").write_text("# nothing\n", encoding="utf-8")
    return folder


def shell(name, line, folder, **environment):
    if not shutil.which(name):
        skip(f"{name} is not installed")
    return subprocess.run(
        [shutil.which(name), "-c", line], cwd=folder, env=ENVIRONMENT | environment,
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )


AFTERWARDS = 'echo "status $?"; python -c "import sys; print(sys.prefix)"'


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_sourced_it_leaves_the_environment_active(name, course):
    for where, path in ((course, "setup.sh"), (course.parent, f"'{course.name}/setup.sh'")):
        process = shell(name, f". ./{path}; {AFTERWARDS}".replace("./'", "'"), where)
        assert process.stdout.splitlines()[-2:] == ["status 0", str(course / ".venv")], process.stdout + process.stderr
        assert process.stderr == "" and "ready, Python 3." in process.stdout


@pytest.mark.slow
def test_a_linked_environment_is_left_to_the_folder_that_it_belongs_to(course, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "kept").touch()
    for file in ("setup.sh", "requirements.txt"):
        shutil.copy(course / file, tmp_path)
    (tmp_path / ".venv").symlink_to(theirs)
    process = shell("bash", "bash setup.sh", tmp_path)
    assert process.returncode == 0, process.stderr
    assert (theirs / "kept").exists() and not (tmp_path / ".venv").is_symlink()


def test_a_second_run_changes_nothing(course):
    shell("bash", "bash setup.sh", course)
    before = {path: path.stat().st_mtime_ns for path in course.rglob("*") if "__pycache__" not in path.parts}
    process = shell("bash", "bash setup.sh", course)
    assert process.returncode == 0 and len(process.stdout.splitlines()) == 1
    after = {path: path.stat().st_mtime_ns for path in course.rglob("*") if "__pycache__" not in path.parts}
    changed = {path for path in before if path.is_file() and after.get(path) != before[path]}
    assert before.keys() == after.keys() and not changed


@pytest.mark.slow
def test_an_alias_and_a_moved_folder(course, tmp_path):
    process = shell("bash", f"shopt -s expand_aliases; alias python=python3\nsource ./setup.sh; {AFTERWARDS}", course)
    assert "status 0" in process.stdout and process.stderr == "", process.stderr
    shutil.copytree(course, tmp_path / "moved", symlinks=True)
    process = shell("bash", f"source ./setup.sh; {AFTERWARDS}", tmp_path / "moved")
    assert process.stdout.splitlines()[-2:] == ["status 0", str(tmp_path / "moved" / ".venv")], process.stdout


def test_with_shell_options_of_the_careful(course):
    process = shell("bash", f"set -eu; source setup.sh; {AFTERWARDS}", course)
    assert process.stdout.splitlines()[-2:] == ["status 0", str(course / ".venv")], process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_with_conda(name, course, tmp_path):
    envs = tmp_path / "envs"
    (tmp_path / "conda").write_text(CONDA.format(envs=envs, python=BASE_PYTHON / "python3"), encoding="utf-8")
    (tmp_path / "conda").chmod(0o755)
    for _ in range(2):
        process = shell(name, f"source ./setup.sh; {AFTERWARDS}", course, PATH=f"{tmp_path}:{ENVIRONMENT['PATH']}")
        expected = ["status 0", str(envs / "llm-from-scratch")]
        assert process.stdout.splitlines()[-2:] == expected, process.stdout + process.stderr
    assert "making" not in process.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_failures_are_one_line_and_leave_the_shell_alive(name, tmp_path):
    shutil.copy(ROOT / "setup.sh", tmp_path)
    (tmp_path / "requirements.txt").write_text("a-package-that-must-be-downloaded\n", encoding="utf-8")

    old = tmp_path / "old"
    old.mkdir()
    for python in ("python3", "python", "python3.11", "python3.12", "python3.13", "python3.14", "py"):
        (old / python).write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")  # what an old one answers to the question
        (old / python).chmod(0o755)
    line = "source ./setup.sh; echo status $?; echo still alive"
    process = shell(name, line, tmp_path, PATH=f"{old}:/usr/bin:/bin")
    assert process.stdout.splitlines() == ["status 1", "still alive"]
    assert len(process.stderr.splitlines()) == 1 and "3.11" in process.stderr

    process = shell(name, line, tmp_path)
    assert process.stdout.splitlines()[-2:] == ["status 1", "still alive"]
    assert len(process.stderr.splitlines()) == 1 and "connect to the network" in process.stderr
    process = shell(name, "bash ./setup.sh", tmp_path)
    assert process.returncode == 1
