"""Draw what the course builds, out of what the chapters' pages show: 07_cot/figures/course.png.

    python .ci/course_figure.py
"""

import sys
import textwrap
from itertools import dropwhile, islice
from pathlib import Path

import matplotlib.image
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from atomic import save_figure

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 44, 16  # letters and lines of a panel
PANELS = [  # (where, what, a figure, or a page, the words with which the lines to be shown begin, and how many)
    ("01_tokenizer", "from web pages to text", "01_tokenizer/README.md", "crawling http", 4),
    ("01_tokenizer", "from text to tokens", "01_tokenizer/README.md", "u|n|f|o|r|g", 9),
    ("02_attention", "tokens that look at each other", "02_attention/figures/translation.png"),
    ("03_gpt", "a model that writes", "README.md", "---- prompt", 11),
    ("04_training", "the same, trained well", "04_training/figures/curves.png"),
    ("05_bert_mlm", "one that fills in what is missing", "05_bert_mlm/README.md", "[MASK] 1", 12),
    ("06_kan", "curves instead of weights", "06_kan/figures/kan.png"),
    ("07_cot", "one that thinks first, if it has to", "07_cot/FURTHER.md", "3*9+6*8*2*1-5?  (an", 6),
]


def shown(page, begins, count):
    """Lines of what a page shows, broken where they are longer than a panel."""
    lines = (line.removeprefix("    ") for line in (ROOT / page).read_text(encoding="utf-8").splitlines())
    for line in islice(dropwhile(lambda line: not line.startswith(begins), lines), count):
        yield from textwrap.wrap(line, WIDTH, replace_whitespace=False, subsequent_indent="    ") or [""]


def main():
    figure = Figure(figsize=(15, 6), layout="constrained")
    for axes, (chapter, what, source, *lines) in zip(figure.subplots(2, 4).flat, PANELS):
        axes.set_title(f"{chapter}: {what}", fontsize=11, loc="left")
        axes.set(xticks=[], yticks=[])
        if lines:
            text = "\n".join(islice(shown(source, *lines), HEIGHT))
            axes.text(0.02, 0.96, text, family="monospace", fontsize=8.2, va="top", transform=axes.transAxes)
        else:
            axes.imshow(matplotlib.image.imread(ROOT / source), aspect="auto")
    save_figure(figure, ROOT / "07_cot/figures/course.png")


if __name__ == "__main__":
    main()
