"""The thought tree as a page for a browser: one file that folds and unfolds, without any network or script.

    write_page(tree_of(question, chains, family), "tree.html")

Steps that all chains of a branch share stand in one row, so that only forks take room; the line that leads to a row is
as thick as many chains go there. Whatever a model wrote is escaped, and the page's policy forbids all scripts but its
own, which only folds everything at once.
"""

import base64
import hashlib
import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from atomic import replacing
from thought_tree import Node, votes_of

OPEN_SHARE = 0.05  # forks that fewer of the chains reach begin folded
KINDS = {True: ("right", "✓", "right: "), False: ("wrong", "✗", "wrong: "), None: ("unknown", "", "")}

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #fff; --ink: #1d2330; --faint: #5b6474;
  --line: #c9ced8; --branch: #7f93b5; --right: #11703c; --right-back: #e6f4ea; --wrong: #b3261e;
  --wrong-back: #fdecea; --focus: #1a5fb4 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171d; --card: #1c2029; --ink: #e4e7ee; --faint: #9aa4b5; --line: #3a4252; --branch: #5d78a8;
    --right: #7ddc9f; --right-back: #16301f; --wrong: #ff9d94; --wrong-back: #3a1a1a; --focus: #8ab8ff } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 70rem; padding: clamp(1rem, 4vw, 2.5rem); background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { margin: 0; font: 600 clamp(1.2rem, 4.5vw, 1.8rem)/1.3 ui-monospace, "DejaVu Sans Mono", Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere }
p { max-width: 44rem; margin: .3rem 0; color: var(--faint); font-size: .9rem }
.votes { display: grid; grid-template-columns: minmax(min-content, max-content) 1fr max-content; gap: .4rem .8rem;
  align-items: center; margin: 1.2rem 0; padding: 1rem; max-width: 36rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .7rem }
.votes .bar { height: .8rem; min-width: 2px; width: calc(100% * var(--share)); border-radius: .2rem;
  background: var(--branch) }
.votes .bar.right { background: var(--right) }
.votes .bar.wrong { background: repeating-linear-gradient(135deg, var(--wrong) 0 3px, transparent 3px 6px);
  outline: 1px solid var(--wrong); outline-offset: -1px }
.votes .number { color: var(--faint); font-size: .9rem; font-variant-numeric: tabular-nums; text-align: right }
.tree, .tree ul { margin: 0; padding: 0; list-style: none }
.tree { margin-top: 1rem }
.tree ul { padding-left: .6rem }
.tree li { position: relative; padding: .45rem 0 0 1.5rem }
.tree li::before { content: ""; position: absolute; left: 0; top: 0; bottom: 0; border-left: 2px solid var(--line) }
.tree li:last-child::before { bottom: auto; height: 1.3rem }
.tree li::after { content: ""; position: absolute; left: 0; top: 1.3rem; width: 1.4rem; transform: translateY(-50%);
  height: calc(2px + 10px * var(--share)); border-radius: 0 99px 99px 0; background: var(--branch) }
.row { display: flex; align-items: start; gap: .4rem; line-height: 1.7rem }
.steps { display: flex; flex: 1; flex-wrap: wrap; align-items: center; gap: .3rem; min-width: 0 }
.count { position: relative; flex: none; min-width: 2.4rem; padding-left: 1rem; color: var(--faint); font-size: .85rem;
  font-variant-numeric: tabular-nums; text-align: right }
.step { padding: .1rem .5rem; border: 1px solid var(--line); border-radius: .45rem; background: var(--card);
  font: .92rem/1.5 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate; min-width: 0 }
.step.wrong { border: 1px dashed var(--wrong); color: var(--wrong); background: var(--wrong-back) }
.step.answer { border: 2px solid var(--branch); border-radius: 99px; padding: 0 .75rem; font-weight: 700 }
.step.answer.right { border-color: var(--right); color: var(--right); background: var(--right-back) }
.step.answer.wrong { border: 2px dashed var(--wrong) }
summary { cursor: pointer; list-style: none; border-radius: .45rem }
summary::-webkit-details-marker { display: none }
summary .count::before { content: "▸"; position: absolute; left: .25rem }
details[open] > summary .count::before { content: "▾" }
summary:hover .step:not(.wrong) { border-color: var(--branch) }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px }
.inside { color: var(--faint); font-size: .85rem }
details[open] > summary .inside { display: none }
.buttons { margin: .8rem 0 }
button { margin-right: .4rem; padding: .3rem .8rem; font: inherit; font-size: .9rem; cursor: pointer; color: inherit;
  background: var(--card); border: 1px solid var(--line); border-radius: .45rem }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
@media (max-width: 34rem) {
  .tree li { padding-left: .9rem } .tree li::after { width: .8rem } .tree ul { padding: 0 }
  .count { min-width: 2.2rem } }
@media print { body { max-width: none } .buttons { display: none } }
"""
SCRIPT = """
const buttons = document.querySelector(".buttons");
buttons.hidden = false;
buttons.addEventListener("click", ({ target }) => {
  if (target.value) document.querySelectorAll("details").forEach(fold => fold.open = target.value == "open");
});
"""
BUTTONS = """<p class="buttons" hidden><button type="button" value="open">Unfold all</button><button type="button"
value="fold">Fold all</button></p>"""
LEGEND = """<span class="step wrong">✗</span> does not follow from what stands before it, or is a wrong answer."""


def harmless(text):
    """Text as HTML shows it, whatever a model wrote."""
    return escape("".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text))


def chip(node):
    """A step, or an answer, with a mark where it is known to be right or wrong."""
    kind, mark, spoken = KINDS[node.right]
    shown = f'{mark} ' if mark and (node.answer or node.right is False) else ""
    return (f'<span class="step {kind}{" answer" if node.answer else ""}"><span aria-hidden="true">{shown}</span>'
            f'<span class="hidden">{"answer, " if node.answer else ""}{spoken}</span>{harmless(node.text)}</span>')


def counted(node):
    """What the chains below a fork come to, to be read where it is folded: "3 ×10, 8 ×2"."""
    return ", ".join(f"{harmless(answer)} ×{count}" for answer, count in votes_of(node).items())


def branches(node, total):
    """The list of what follows a node, the most travelled first."""
    ranked = sorted(node.children.values(), key=lambda child: -child.count)
    return "".join(branch(child, total) for child in ranked)


def branch(node, total):
    """A row of all that comes before the next fork, and what comes behind that fork."""
    run = [node]
    while len(run[-1].children) == 1:
        run += run[-1].children.values()
    last, share = run[-1], node.count / total
    inside = f'<span class="inside">… {counted(last)}</span>' if last.children else ""
    row = (f'<span class="count">{node.count}<span class="hidden"> of {total} chains:</span></span>\n'
           f'<span class="steps">{" ".join(map(chip, run))}{inside}</span>')
    if last.children:
        row = (f'<details{" open" if share >= OPEN_SHARE else ""}><summary class="row">{row}</summary>\n'
               f'<ul>\n{branches(last, total)}</ul></details>')
    else:
        row = f'<div class="row">{row}</div>'
    return f'<li style="--share: {share:.3f}">{row}</li>\n'


def rights_of(node, found=None):
    """{answer: whether it is right, None where nobody can tell} of all answers of a tree."""
    found = {} if found is None else found
    for child in node.children.values():
        if child.answer:
            found[child.text] = child.right
        rights_of(child, found)
    return found


def votes(root):
    """The votes as bars."""
    rights = rights_of(root)
    for answer, count in votes_of(root).items():
        yield (f'{chip(Node(answer, rights[answer], answer=True))}'
               f'<div class="bar {KINDS[rights[answer]][0]}" style="--share: {count / root.count:.3f}"></div>'
               f'<span class="number">{count}, {count / root.count:.0%}</span>')


def page(root):
    """The whole page as a text."""
    tree = branches(root, root.count)
    script = SCRIPT if "<details" in tree else ""
    policy = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    legend = LEGEND if any(right is not None for right in rights_of(root).values()) else ""
    question, chains = harmless(root.text), f"{root.count} chain{'s' if root.count > 1 else ''}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; style-src 'unsafe-inline'; script-src {policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{question} {chains} of thought</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{question}</h1>
<p>{chains} of thought, and how they vote:</p>
<div class="votes">
{"".join(votes(root))}
</div>
<p>The thicker a line, the more chains go there; the number says how many. {legend}</p>
{BUTTONS if script else ""}
<ul class="tree">
{tree}</ul>
</main>
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


def write_page(root, path):
    """Write the tree that thought_tree.tree_of made as an HTML file."""
    with replacing(path) as beside:
        beside.write_text(page(root), encoding="utf-8", errors="replace")
