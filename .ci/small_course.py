"""A copy of the repository in which what no flag makes small is small, and how commands are run there."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import forked
from for_tests import ROOT, heed_ctrl_c

# file: what stands there, and what stands there in the copy, where no flag makes a command small
SMALLER = {
    "data/pydocs.py": {'sorted(stdlib.rglob("*.py"))': 'sorted(stdlib.glob("*.py"))[::3]',
                       "ast.literal_eval(dicts[0]).values())": "ast.literal_eval(dicts[0]).values())[:10]"},
    "02_attention/context.py": {"pieces(val_tokens, 1024,": "pieces(val_tokens, 16,", "repeated(256,": "repeated(16,"},
    "02_attention/induction.py": {"test, known, periods = repeated(512,": "test, known, periods = repeated(16,"},
    "03_gpt/depth.py": {"DEPTHS = (2, 6, 12)": "DEPTHS = (2, 3)"},
    "04_training/cost.py": {"size=2048, rounds=7": "size=256, rounds=2"},
    "07_cot/reasoner.py": {'"embedding_size": 128, "batch_size": 24': '"embedding_size": 16, "batch_size": 8',
                           '"steps": 600, "head_count": 4': '"steps": 2, "head_count": 2',
                           '"layer_count": 4': '"layer_count": 2', '"block_size": 256': '"block_size": 192',
                           "50_000": "200", "HELD_OUT = 256": "HELD_OUT = 8"},
    "07_cot/early_reasoner.py": {'128, chosen["batch_size"], 256, 5e-3, chosen["steps"]]': "16, 8, 192, 5e-3, 2]"},
    "07_cot/verifier.py": {'"steps": 300': '"steps": 2', '"problems": 1500': '"problems": 20',
                           "HELD_OUT = 256": "HELD_OUT = 8"},
    "07_cot/self_training.py": {"VALIDATION, TEST = 256, 400": "VALIDATION, TEST = 8, 8"},
    "07_cot/grpo.py": {'"questions": 48': '"questions": 4', "POOL = 20_000": "POOL = 100"},
    "07_cot/thought_plan.py": {"= 8": "= 3", "= 6000": "= 60", "base_steps: int = 600": "base_steps: int = 1",
                               "= 300": "= 1", "= 1200": "= 10", "= 160": "= 4", "int = 60\n": "int = 1\n",
                               "sequence_steps: int = 600": "sequence_steps: int = 1"},
    "07_cot/router_training.py": {"CALIBRATED, CHOSEN = 24, 40": "CALIBRATED, CHOSEN = 4, 4"},
    "07_cot/with_and_without.py": {'"train", 5000': '"train", 50'},
}


class Course:
    """A copy in an empty folder; each command may use what those before it have made.

    `environment` is added to the variables of all. setup.sh finds the packages that the tests run with.
    """

    def __init__(self, folder, environment):
        self.folder, self.server = folder, None
        self.environment = environment | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",  # leaves conda out, which setup.sh would take
            "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8",
            "PET_STANDALONE": "1",  # is torchrun's --standalone: any port that is free
        }
        for path in [*ROOT.glob("*.*"), *ROOT.glob("[.cd0]*/*.*"), *ROOT.glob("checkpoints/tests/*.py")]:
            if path.suffix in {".py", ".md", ".sh", ".toml", ".txt"} and path.parent.name != ".venv":
                copied = folder / path.relative_to(ROOT)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copied)
        for name, changes in SMALLER.items():
            text = (folder / name).read_text(encoding="utf-8")
            for there, small in changes.items():
                assert text.count(there) == 1, f"{name} has not {there!r} once: change SMALLER in .ci/small_course.py"
                text = text.replace(there, small)
            (folder / name).write_text(text, encoding="utf-8")
        for chapter in folder.glob("0*"):
            (chapter / "figures").mkdir()
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        for name, size in {"03_gpt/my.txt": 9000, "short.txt": 1500, "data/tinyshakespeare/input.txt": 20_000}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text[:size], encoding="utf-8")
        forms = re.findall(r'^    (\{"(?:messages|prompt|instruction)".*\})$',
                           (ROOT / "04_training/FURTHER.md").read_text(encoding="utf-8"), re.MULTILINE)
        (folder / "my.jsonl").write_text("\n".join(forms * 8), encoding="utf-8")
        self.make_environment()

    def make_environment(self):
        """What setup.sh would make; it will find nothing to do."""
        place = self.folder / ".venv"
        venv.create(place)
        (place / "complete").write_text(f"{self.folder}\n", encoding="utf-8")
        shutil.copy(self.folder / "requirements.txt", place / "llm-from-scratch-requirements.txt")
        these = next(place.glob("lib/*/site-packages")) / "these.pth"
        these.write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")

    def run(self, command, chapter, seconds):
        """What a command line says, started in the copy or in a chapter of it. AssertionError if it does not end well.

        Whoever asks for a line to be typed gets a question, and then the end of the file.
        """
        folder, said, typed = self.folder / chapter, self.folder / "said", self.folder / "typed"
        said.write_text("", encoding="utf-8")
        typed.write_text("What does glob do?\n", encoding="utf-8")
        if command.startswith("python "):
            status = forked.run(shlex.split(command)[1:], folder, typed, said, self.environment, seconds)
        else:
            with said.open("ab") as out, typed.open("rb") as keyboard:
                status = subprocess.run(["bash", "-c", command], cwd=folder, stdin=keyboard, stdout=out, stderr=out,
                                        env=os.environ | self.environment, timeout=seconds).returncode
        out = said.read_text(encoding="utf-8", errors="replace")
        assert status == 0 and "Traceback" not in out, f"{command}\nexit status {status}\n{out[-3000:]}"
        return out

    def serve(self, command):
        """Start a server, which goes on until `end`: (what it says until it listens, its address)."""
        self.server = subprocess.Popen([sys.executable, *shlex.split(command)[1:]], cwd=self.folder, text=True,
                                       env=os.environ | self.environment, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, encoding="utf-8", preexec_fn=heed_ctrl_c)
        said = ""
        while not (address := re.search(r"http://127\.0\.0\.1:\d+/v1", said)):
            line = self.server.stdout.readline()
            assert line, f"the server has ended: {said}"
            said += line
        return said, address[0]

    def end(self):
        if self.server:
            self.server.send_signal(signal.SIGINT)
            self.server.communicate(timeout=60)
