"""Run scripts one after the other in this process, each as if it were alone; torch is imported once.

    python .ci/one_by_one.py < requests

A request is a line of JSON: {"words": ["/course/03_gpt/lm_model.py", "-h"], "name": "__main__", "folder": "/tmp"}.
Each is answered with a line of JSON: its exit status, what it said, and what it complained of.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback
from pathlib import Path


class Said(io.StringIO):
    """As a terminal's stream; scripts set how it treats letters that it lacks."""

    def reconfigure(self, **settings):
        pass


def ran(words, name, folder):
    """(exit status, standard output, standard error) of a script's run in a folder."""
    script, kept, path, modules = Path(words[0]), sys.argv, sys.path[:], set(sys.modules)
    out, err, status, asked = Said(), Said(), 0, sys.stdin
    sys.argv, sys.path[0], sys.stdin = words, str(script.parent), Said()  # the requests are not for scripts to read
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(script), run_name=name)
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        status, _ = 1, err.write(traceback.format_exc())
    finally:
        sys.argv, sys.path[:], sys.stdin = kept, path, asked
        for each in set(sys.modules) - modules:  # the course's own: the next script finds them by its own path
            file = getattr(sys.modules[each], "__file__", None)
            if file and Path(file).is_relative_to(script.parents[1]) and ".venv" not in Path(file).parts:
                del sys.modules[each]
    return status, out.getvalue(), err.getvalue()


def main():
    for line in sys.stdin:
        print(json.dumps(ran(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
