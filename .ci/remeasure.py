"""Run again what the READMEs say was measured, and write it all into one table, .ci/MEASURED.md.

    python .ci/remeasure.py                # everything; hours, kept after each command
    python .ci/remeasure.py 06_kan sft     # commands that contain one of these words; a chapter's build on one another
    python .ci/remeasure.py --table        # the page alone, from what is kept

A claim is looked up in the README, below its command, and in the new output with the same pattern. The rows of the
benchmarks are compared by their ratios: figures/benchmark.json has the README's, `benchmark.py --print_only` the new.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import measure
from atomic import replacing

ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / ".ci/measured.json", ROOT / ".ci/MEASURED.md"
LOSS = r"validation loss ([\d.]+), perplexity"
FRANCE = '"The capital of France is"'
ROUTED = r"\| 1337 (?:\|[^|]*){%d}\| ([\d.]+)%%"  # the row of a seed: so many cells, then a share

CLAIMS = {  # (page, command as it stands there): {what is claimed: a pattern whose group is the number}
    ("README.md", "python 03_gpt/lm_model.py"): {"validation loss": LOSS},
    ("01_tokenizer/README.md", "python 01_tokenizer/train.py"): {
        "bytes per token": r"([\d.]+) bytes per token", "seconds of 1,791 merges": r"merges in ([\d.]+) s"},
    ("02_attention/README.md", "python 02_attention/train.py"): {
        "loss, several heads": r"multi_head.*\n.*, ([\d.]+)\n", "loss, latent": r"latent.*\n.*, ([\d.]+)\n"},
    ("02_attention/EXPERIMENTS.md", "python 02_attention/induction.py"): {
        "one layer, %": r"seed 0, 1 layer: .*, ([\d.]+)%", "two layers, %": r"seed 0, 2 layers: .*, ([\d.]+)%"},
    ("02_attention/EXPERIMENTS.md", "python 02_attention/translation.py"): {
        "right, %": r"saw ([\d.]+)% are right"},
    ("03_gpt/EXPERIMENTS.md", "python 03_gpt/variants.py"): {
        "loss, GPT-2's block": r"GPT-2's block.*loss ([\d.]+)", "loss, experts": r"8 experts.*loss ([\d.]+)"},
    ("03_gpt/EXPERIMENTS.md", "python 03_gpt/depth.py"): {
        "loss, 12 layers": r"12 layers, both: validation loss ([\d.]+)",
        "without residuals": r"12 layers, no residual: validation loss ([\d.]+)"},
    ("03_gpt/EXPERIMENTS.md", f"python 03_gpt/infer.py -l smollm2 -p {FRANCE} --temperature 0 -n 20 --stats"): {
        "tokens a second": r"then ([\d.]+) tokens/s"},
    ("04_training/README.md", "python 04_training/train.py"): {"validation loss": LOSS},
    ("04_training/README.md", "python 04_training/perplexity.py -l checkpoints/04_training.pt -d pydocs --ngram 5"): {
        "nats a token": r"04_training.pt +([\d.]+)", "Kneser-Ney's": r"Kneser-Ney +([\d.]+)"},
    ("04_training/EXPERIMENTS.md", "python 04_training/ngram.py -d tinyshakespeare -t char --ngram 7"): {
        "nats, 5-gram": r"5-gram +([\d.]+)"},
    ("04_training/FURTHER.md", "python 04_training/sft.py"): {"validation loss": r"step 170: .*loss ([\d.]+)"},
    ("04_training/FURTHER.md", "python 04_training/dpo.py"): {"validation loss": r"step 150: .*loss ([\d.]+)"},
    ("04_training/FURTHER.md", "python 04_training/reward.py"): {"validation loss": r"step 150: .*loss ([\d.]+)"},
    ("04_training/FURTHER.md", "python 04_training/distill.py"): {"validation loss": r"step 400: .*loss ([\d.]+)"},
    ("05_bert_mlm/README.md", "python 05_bert_mlm/train.py"): {"validation loss": r"step 600: .*loss ([\d.]+)"},
    ("05_bert_mlm/README.md", "python 05_bert_mlm/question_answering.py"): {
        "exact answers, %": r"all \(\d+\) .* ([\d.]+) / [\d.]+\n"},
    ("06_kan/README.md", "python 06_kan/train.py"): {
        "test RMSE, KAN": r"KAN (?:.*\n)+?.*test RMSE ([\d.e-]+)", "MLP": r"MLP (?:.*\n)+?.*test RMSE ([\d.e-]+)"},
    ("06_kan/EXPERIMENTS.md", "python 06_kan/train.py -d four --trials 20 -s no_save"): {
        "test RMSE, KAN": r"KAN (?:.*\n)+?.*test RMSE ([\d.e-]+)"},
    ("06_kan/EXPERIMENTS.md", "python 06_kan/train.py --widths 2 5 1 --grid 5 --optimizer adamw --sparsity 0.05"
                              " --starts 1 -s checkpoints/06_sparse.pt 0.03 4000"): {
        "test RMSE, blind KAN": r"KAN (?:.*\n)+?.*test RMSE ([\d.e-]+)"},
    ("06_kan/EXPERIMENTS.md", "python 06_kan/train.py -l checkpoints/06_sparse.pt --prune 0.05 --optimizer lm"
                              " --grid 5 5 10 20 40 80 -s checkpoints/06_pruned.pt"): {
        "test RMSE, pruned": r"KAN (?:.*\n)+?.*test RMSE ([\d.e-]+)"},
    ("06_kan/EXPERIMENTS.md", "python 06_kan/scaling_law.py"): {"slope": r"on: (-[\d.]+)"},
    ("06_kan/EXPERIMENTS.md", "python 06_kan/kan_in_gpt.py"): {
        "loss, MLP": r"MLP \| [\d,]+ \| ([\d.]+)", "loss, KAN": r"KAN \| [\d,]+ \| ([\d.]+)"},
    ("07_cot/README.md", "python 07_cot/train.py"): {
        "with a chain, %": r"([\d.]+)% of 256", "at once, %": r"direct: (?:.*\n)+?([\d.]+)% of 256"},
    ("07_cot/README.md", "python 07_cot/with_and_without.py"): {
        "arithmetic, %": r"arithmetic .* ([\d.]+)% \| \d", "addition, %": r"addition .* ([\d.]+)% \| \d",
        "knights, %": r"knights .* ([\d.]+)% \| \d"},
    ("07_cot/FURTHER.md", "python 07_cot/router_curve.py"): {
        "of always thinking, %": ROUTED % 3, "of its tokens, %": ROUTED % 4},
}


def pasted(page, command):
    """What a README shows below a command, as it was printed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    begun = re.search(rf"^ {{4}}.*{re.escape(command)}(?: +#.*)?$", text, re.MULTILINE)
    if not begun:
        raise ValueError(f"{page} has no command {command}")
    return re.sub("^ {4}", "", text[begun.end() :], flags=re.MULTILINE)


def number(pattern, text):
    """The number that a pattern finds. Raises ValueError if there is none."""
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"nothing like {pattern!r} in {text[:2000]}")
    return float(found[1])


def run(command):
    """(output, seconds) of a command of a README. Raises CalledProcessError, with its output on the screen."""
    print(f"\n$ {command}", flush=True)
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, stdout=subprocess.PIPE,
                               text=True, encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)
    return "".join(lines), time.perf_counter() - began


def page(kept):
    """The lines of MEASURED.md."""
    yield "# Every measured claim, run again"
    yield ""
    yield ("Written by `python .ci/remeasure.py`. First what the READMEs show below their commands, then the rows of"
           " the benchmarks, which are ratios to a peer.")
    yield ""
    yield "| page | command | what | README | again | again / README | seconds | machine |"
    yield "|---" * 8 + "|"
    machines = sorted({each["machine"] for each in kept.values()})
    for (where, command), claims in CLAIMS.items():
        again = kept.get(command)
        for what, pattern in claims.items():
            said = number(pattern, pasted(where, command))
            row = ["not run again", "", "", ""]
            if again:
                found = again["found"][what]
                row = [f"{found:g}", f"{found / said:.3f}", f"{again['seconds']:.0f}",
                       str(1 + machines.index(again["machine"]))]
            yield f"| [{where}](../{where}) | `{command}` | {what} | {said:g} | {' | '.join(row)} |"
    yield ""
    yield from (f"Machine {i}: {each}." for i, each in enumerate(machines, 1))
    yield ""
    yield "| chapter | what | ours | theirs | ours is | again | again / README | machine |"
    yield "|---" * 8 + "|"
    for chapter, results in benchmarks():
        again = kept.get(benchmark(chapter), {"found": []})
        found = list(again["found"])
        for line in rows(measure.table(results)):
            what, ours, theirs, said = cells(line)
            same = next((each for each in found
                         if [anywhere(each[0]), each[1]] == [anywhere(what), peer(theirs)]), None)
            more = ["not run again", "", ""]
            if same:
                found.remove(same)
                ratio = float(said.split()[0])
                more = [same[2], f"{float(same[2].split()[0]) / ratio:.2f}", str(1 + machines.index(again["machine"]))]
            yield f"| [{chapter}](../{chapter}/README.md) {line} {' | '.join(more)} |"
    yield ""
    for chapter, results in benchmarks():
        yield f"{chapter} in its README: medians of {results['rounds']} rounds. {results['machine']}."


def rows(lines):
    """The lines of measure.table that are rows of it."""
    return [line for line in lines if line.startswith("| ") and len(cells(line)) == 4 and "| ours |" not in line]


def cells(line):
    return line.strip("| ").split(" | ")


def peer(theirs):
    """What stands in the brackets of "12.3 ms (peer)"."""
    return theirs.partition(" (")[2].removesuffix(")")


def anywhere(what):
    """The name of a row without what it says of one machine."""
    return what.replace(", which --dtype auto takes here", "")


def benchmark(chapter):
    return f"python {chapter}/benchmark.py --print_only"


def benchmarks():
    """(chapter, the results of its benchmark.py) of all."""
    for path in sorted(ROOT.glob("*/figures/benchmark.json")):
        yield path.parents[1].name, json.loads(path.read_text(encoding="utf-8"))


def main():
    words, kept = sys.argv[1:], json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    commands = [each for _, each in CLAIMS] + [benchmark(chapter) for chapter, _ in benchmarks()]
    if words != ["--table"]:
        for command in commands:
            if not words or any(word in command for word in words):
                out, seconds = run(command)
                claims = next((claims for (_, each), claims in CLAIMS.items() if each == command), None)
                if claims:
                    found = {what: number(pattern, out) for what, pattern in claims.items()}
                else:
                    table = map(cells, rows(out.splitlines()))
                    found = [[what, peer(theirs), ratio] for what, _, theirs, ratio in table]
                kept[command] = {"found": found, "seconds": seconds, "machine": measure.machine("torch")}
                with replacing(KEPT) as beside:
                    beside.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    with replacing(PAGE) as beside:
        beside.write_text("\n".join([*page(kept), ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
