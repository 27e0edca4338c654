"""How the chapters' benchmark.py scripts measure: both sides in turn, in one run, medians of ratios.

Results go to figures/benchmark.json, and from there, as a table, into the README between two marks; a
test compares the two.
"""

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

from atomic import replacing
from flags import check_ranges

BEGIN, END = "<!-- from figures/benchmark.json -->", "<!-- end -->"
UNITS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}  # how Linux calls what multiplies, the widest first


def machine(*packages):
    """What the numbers depend on: processor, cores, and the versions of Python and some packages."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    said = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    if found := re.search(r"model name\s*: (.*)", said):
        widest = next((name for word, name in UNITS.items() if f" {word} " in said), "")
        processor = f"{found[1]} with {widest}" if widest else found[1]
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def dtypes():
    """{name: dtype} to measure in: bfloat16 takes minutes where there is neither AVX-512 nor AMX to multiply it."""
    import torch

    narrow = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
    return {name: getattr(torch, name) for name in ("float32", "bfloat16") if not (narrow and name == "bfloat16")}


def arguments(parser, rounds):
    """The command line of a benchmark.py, with the flags that all have; `rounds` is a default. Raises UserError."""
    parser.add_argument("--rounds", type=int, default=rounds, help="of both sides in turn; medians are taken")
    parser.add_argument("--print_only", action="store_true", help="leave figures and README as they are")
    args = parser.parse()
    check_ranges(args, rounds=1)
    return args


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def peak_memory():
    """MB that this process had at most. On Linux ru_maxrss begins with what its parent had, VmHWM does not."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(found[1]) / 1e3
    if os.name == "nt":  # PROCESS_MEMORY_COUNTERS: its own size, then sizes in bytes, of which the first is wanted
        counters = (ctypes.c_size_t * 9)(9 * ctypes.sizeof(ctypes.c_size_t))
        ctypes.WinDLL("kernel32").K32GetProcessMemoryInfo(ctypes.c_void_p(-1), counters, ctypes.sizeof(counters))
        return counters[1] / 1e6
    import resource  # which Windows has not

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts in bytes


def in_turn(ours, theirs, rounds):
    """Measure two functions, each of which returns a number, one after the other: two lists."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return [list(side) for side in zip(*pairs)]


def row(what, unit, ours, peer, theirs):
    """A line of the results: `ours` and `theirs` are the numbers of each round."""
    return {"what": what, "unit": unit, "ours": ours, "peer": peer, "theirs": theirs}


def row_in_turn(what, unit, ours, peer, theirs, rounds):
    """The same of two functions, each of which returns a number, measured one after the other."""
    ours, theirs = in_turn(ours, theirs, rounds)
    return row(what, unit, ours, peer, theirs)


def seconds_in_turn(what, ours, peer, theirs, rounds):
    """The same of the seconds that two functions take."""
    return row_in_turn(what, "s", partial(seconds, ours), peer, partial(seconds, theirs), rounds)


def in_process(*words, **environment):
    """What this script prints, as JSON, when it is called with these words: a process with its own peak of memory."""
    process = subprocess.run([sys.executable, sys.argv[0], *words], env=os.environ | environment,
                             stdout=subprocess.PIPE, check=True, encoding="utf-8")
    return json.loads(process.stdout.splitlines()[-1])


def amount(number, unit):
    """0.0123, "s" -> "12.3 ms"; 1.23, "s" -> "1.23 s"."""
    number, unit = (1000 * number, "ms") if unit == "s" and number < 0.1 else (number, unit)
    return f"{number:.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"


def table(results):
    """The rows as lines of Markdown; the last column has medians of the rounds' ratios."""
    yield "| what | ours | theirs | ours is |"
    yield "|---|---|---|---|"
    for line in results["rows"]:
        unit, ratio = line["unit"], median(t / o for o, t in zip(line["ours"], line["theirs"]))
        better = f"{ratio:.2f} times as fast" if unit == "s" else f"{1 / ratio:.2f} of theirs"
        ours, theirs = (amount(median(line[side]), unit) for side in ("ours", "theirs"))
        yield f"| {line['what']} | {ours} | {theirs} ({line['peer']}) | {better} |"
    yield ""
    yield from results.get("notes", [])
    yield f"Medians of {results['rounds']} rounds in turn. Measured: {results['machine']}."


def readme_with(results, readme):
    """The text of a README with the table of the results between its two marks. Raises ValueError without them."""
    if not readme.count(BEGIN) == readme.count(END) == 1:
        raise ValueError(f"the README must have one line {BEGIN} and one line {END}")
    before, _, rest = readme.partition(BEGIN)
    return "\n".join([before + BEGIN, *table(results), END]) + rest.partition(END)[2]


def publish(results, chapter, print_only):
    """Print the results, and unless that is all, save them in the chapter's folder and bring its README up to date."""
    if not print_only:
        with replacing(chapter / "figures/benchmark.json") as beside:
            beside.write_text(json.dumps(results, indent=1), encoding="utf-8", newline="\n")
        readme = (chapter / "README.md").read_text(encoding="utf-8")
        with replacing(chapter / "README.md") as beside:
            beside.write_text(readme_with(results, readme), encoding="utf-8", newline="\n")
    print(*table(results), sep="\n")
