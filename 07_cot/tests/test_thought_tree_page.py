"""The thought tree as a page: the tree's numbers and marks, nothing from elsewhere, and no word of a model as HTML."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from chains import Chain
from tasks import FAMILIES
from thought_tree import tree_of, votes_of
from thought_tree_page import write_page

TEXTS = ["3*9=7;7+6=3;#3"] * 3 + ["3*9=7;7+6=4;#4", "3*9=8;8+6=4;#4", "3*9=7;"]
HOSTILE = ["<script>alert(1)</script>", "</ul></main><img src=x onerror=alert(1)>", "\" onclick=\"alert(1)",
           "&copy &lt", "'--><style>*{display:none}</style>", "a\0b\x1b[0m"]
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Reads a page: tags with their attributes, and the words of each row of the tree. Fails where tags are crossed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words, self.styles, self.scripts = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "a tag is closed that is not the last one that was opened"

    def handle_data(self, data):
        {"style": self.styles, "script": self.scripts}.get(self.open[-1] if self.open else "", self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def written(tmp_path):
    """question, texts of chains, family or None -> the Page, and its source."""
    def write(question, texts, family=None):
        write_page(tree_of(question, [Chain(text) for text in texts], family), tmp_path / "tree.html")
        source = (tmp_path / "tree.html").read_text(encoding="utf-8")
        assert [path.name for path in tmp_path.iterdir()] == ["tree.html"], "written whole or not at all"
        return Page(source), source

    return write


def test_numbers_votes_and_marks(written):
    page, _ = written("3*9+6?", TEXTS, FAMILIES["arithmetic"])
    assert page.text.count("3*9+6?") == 2, "in the title and at the root"
    assert "6 chains of thought" in page.text
    for vote in ("✓ answer, right: 3 3, 50%", "✗ answer, wrong: 4 2, 33%", "✗ answer, wrong: no answer 1, 17%"):
        assert vote in page.text, "votes are of the ends of chains"
    for row in ("5 of 6 chains: right: 3*9=7", "3 of 6 chains: right: 7+6=3 ✓ answer, right: 3",
                "1 of 6 chains: ✗ wrong: 3*9=8 right: 8+6=4 ✗ answer, wrong: 4"):
        assert row in page.text, "the second follows from the wrong one before it"
    assert page.text.index("5 of 6") < page.text.index("3 of 6") < page.text.index("✗ wrong: 7+6=4")
    shares = [value for name, value in page.attributes if name == "style"]
    assert shares == [f"--share: {n / 6:.3f}" for n in (3, 2, 1, 5, 3, 1, 1, 1)], "bars, then lines of the tree"


def test_what_is_folded_says_what_it_comes_to(written):
    page, _ = written("3*9+6?", TEXTS, FAMILIES["arithmetic"])
    assert page.tags.count("details") == page.tags.count("summary") == 1, "only a fork folds"
    assert "… 3 ×3, 4 ×1, no answer ×1" in page.text
    page, _ = written("3*9+6?", TEXTS[:2])
    assert "details" not in page.tags and not page.scripts and "button" not in page.tags, "nothing to fold"


def test_rare_forks_begin_folded(written):
    texts = ["3*9=7;#7"] * 60 + ["1;2;#3", "1;3;#4"]
    page, source = written("3*9?", texts)
    assert page.tags.count("details") == 1 and ("open", None) not in page.attributes
    _, source = written("3*9?", texts[50:])
    assert source.count("<details open>") == 1, "2 of 12 are not few"


def test_nothing_is_judged_without_a_family(written):
    page, _ = written("why?", TEXTS)
    assert "✗" not in page.text and "✓" not in page.text and "wrong" not in page.text


def test_no_word_of_a_model_becomes_html(written):
    clean, _ = written("why?", [f"a{i};b{i};#c{i}" for i in range(6)])
    page, source = written(HOSTILE[1] + "?", [f"{text};b{i};#{text}" for i, text in enumerate(HOSTILE)])
    assert page.tags == clean.tags, "what was written changes no tag"
    assert {name for name, _ in page.attributes} == {name for name, _ in clean.attributes}
    for text in HOSTILE[:-1]:
        assert page.text.count(text) >= 2, "it can be read as it was written"
    assert not re.search("[\0\x1b]", source) and "a�b�[0m" in page.text


def test_lone_surrogates_are_no_mistake(written):
    page, _ = written("why?", ["\ud83d;#1"])
    assert "�" in page.text or "?" in page.text


def test_nothing_comes_from_elsewhere(written):
    """And the policy allows the page's own script alone, by its hash."""
    page, source = written("3*9+6?", TEXTS, FAMILIES["arithmetic"])
    assert not {name for name, _ in page.attributes} & {"src", "href", "srcset", "data", "action"}
    assert not re.search(r"url\(|@import|https?:|<link|<base", source)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts).encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_readable_on_a_phone_and_in_the_dark(written):
    page, _ = written("3*9+6?", TEXTS, FAMILIES["arithmetic"])
    style = "".join(page.styles)
    assert "prefers-color-scheme: dark" in style and "max-width: 34rem" in style
    assert ("content", "width=device-width, initial-scale=1") in page.attributes and ("lang", "en") in page.attributes
    assert style.count("dashed") >= 2, "what is wrong differs not by its colour alone"


def test_a_tree_of_many_chains(written):
    """Every chain is there, whatever forks it goes through."""
    texts = [f"{a};{a}{b};{a}{b}{c};#{c}" for a in "abc" for b in "de" for c in "fghi"]
    page, _ = written("why?", texts)
    root = tree_of("why?", [Chain(text) for text in texts])
    assert votes_of(root) == dict.fromkeys("fghi", 6)
    assert page.tags.count("li") == 3 + 6 + 24 and page.tags.count("details") == 3 + 6
    assert all(f"1 of 24 chains: {text.split(';')[2]} answer, {text[-1]}" in page.text for text in texts)
