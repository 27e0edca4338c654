"""Run scripts in forks of one process that has imported torch: what costs each of them seconds is paid once."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = ["forked", "numpy", "torch", "torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg",
             "regex", "requests", "tiktoken", "safetensors", "tqdm", "filelock"]


def run(words, folder, typed, said, environment, seconds):
    """Run `python words...` in a folder; returns its exit status, or None if it was killed after so many seconds.

    Its standard input comes from the file `typed`, and both outputs go to the file `said`, which must be there.
    """
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(PRELOADED)
    child = context.Process(target=play, args=(words, str(folder), str(typed), str(said), environment))
    child.start()
    child.join(seconds)
    late = child.exitcode is None
    if late:
        child.kill()
        child.join()
    return None if late else child.exitcode


def play(words, folder, typed, said, environment):
    """In the child: be what `python words...` would be. What a script imports comes from its own repository."""
    os.chdir(folder)
    os.environ.update(environment)
    for number, path, flags in ((0, typed, os.O_RDONLY), (1, said, os.O_WRONLY), (2, said, os.O_WRONLY)):
        os.dup2(os.open(path, flags | os.O_APPEND), number)
    sys.stdin, *screens = (os.fdopen(number, mode, encoding="utf-8") for number, mode in enumerate("rww"))
    sys.stdout, sys.stderr = screens
    ours = {str(ROOT), *(str(path) for path in ROOT.iterdir())}
    for name, module in list(sys.modules.items()):
        if os.path.dirname(getattr(module, "__file__", None) or "") in ours:
            del sys.modules[name]
    sys.argv = words
    sys.path = [os.path.dirname(os.path.abspath(words[0])), *(path for path in sys.path if path not in ours)]
    runpy.run_path(words[0], run_name="__main__")
