"""Many chains for one question as a tree: what begins alike shares its first steps, and forks where it differs."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from atomic import save_figure

COLORS = {True: "tab:green", False: "tab:red", None: "gray"}


@dataclass
class Node:
    """A step, or an answer where `answer` is True, how many chains come through it, and whether it is right.

    `right` is None where nobody can tell.
    """

    text: str
    right: bool | None
    answer: bool = False
    count: int = 0
    children: dict = field(default_factory=dict)

    @property
    def leaves(self):
        """How many ends there are below it."""
        return sum(child.leaves for child in self.children.values()) or 1


def tree_of(question, chains, family=None):
    """The tree of some Chains, whose root is the question; with a Family, each step and answer is judged."""
    root = Node(question, None, count=len(chains))
    for chain in chains:
        rights = family.judge(question, chain.steps)[0] if family else [None] * len(chain.steps)
        node = root
        for step, right in zip(chain.steps, rights):
            node = node.children.setdefault(step, Node(step, right))
            node.count += 1
        said = chain.answer if chain.answer is not None else "no answer"
        right = None if family is None else chain.answer is not None and family.right(question, said)
        node = node.children.setdefault(f"#{said}", Node(said, right, answer=True))
        node.count += 1
    return root


def votes_of(root):
    """Answer -> how many chains end with it, the most first."""
    votes = {}

    def look(node):
        if node.answer:
            votes[node.text] = votes.get(node.text, 0) + node.count
        for child in node.children.values():
            look(child)

    look(root)
    return dict(sorted(votes.items(), key=lambda pair: -pair[1]))


def draw_tree(root, path):
    """Draw it from left to right: lines as thick as many chains go there, wrong steps red, the votes in the title."""
    depth = longest_path(root)
    figure = Figure(figsize=(1.5 + 1.5 * depth, 1.2 + 0.34 * root.leaves), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")

    def place(node, x, top):
        """Draw what is below a node whose leaves begin at height `top`; returns the node's own height."""
        if not node.children:
            return top
        heights, below = [], top
        for child in node.children.values():
            heights.append((child, place(child, x + 1, below)))
            below -= child.leaves
        y = (heights[0][1] + heights[-1][1]) / 2
        for child, height in heights:
            axes.plot([x, x + 0.5, x + 1], [y, height, height], color=COLORS[child.right], alpha=0.5, zorder=1,
                      lw=0.8 + 6 * child.count / root.count, solid_capstyle="round")
            words = f"{child.text}  ({child.count})" if child.answer else child.text
            axes.text(x + 1, height, words, ha="left" if child.answer else "center", va="center", fontsize=8, zorder=2,
                      weight="bold" if child.answer else "normal",
                      bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": COLORS[child.right], "lw": 0.8})
        return y

    y = place(root, 0, 0)
    axes.text(0, y, root.text, ha="center", va="center", fontsize=8, weight="bold",
              bbox={"boxstyle": "round", "fc": "white", "ec": "black"})
    axes.set_xlim(-0.8, depth + 0.6)
    axes.set_ylim(-root.leaves + 0.4, 0.6)
    votes = ", ".join(f"{answer}: {count}" for answer, count in votes_of(root).items())
    axes.set_title(f"{root.count} chains; votes {votes}", fontsize=9)
    save_figure(figure, path)


def longest_path(node):
    """How many steps and answers stand in the longest way down."""
    return 1 + max(map(longest_path, node.children.values())) if node.children else 0
