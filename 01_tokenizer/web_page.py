"""What a web page says: its bytes to its title, its main text, its links, and what it asks of robots."""

import codecs
import re
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urljoin

from bs4 import BeautifulSoup, CData, ParserRejectedMarkup, Tag
from bs4.element import NavigableString
from web_address import normalise

# Web pages that say the first mean the second (WHATWG Encoding, section 4.2; names as Python knows them).
MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932",
         "euc_kr": "cp949"}
NOT_OF_THE_WEB = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf-7", "undefined"}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

NOT_TEXT = {"script", "style", "noscript", "template", "head", "title", "svg", "math", "iframe", "object", "canvas",
            "audio", "video", "dialog", "button", "select", "textarea", "input"}
AROUND = {"nav", "header", "footer", "aside", "form"}  # of the page, not of what it says
ROLES_AROUND = {"navigation", "banner", "contentinfo", "complementary", "search"}
PARTS = {"address", "article", "blockquote", "body", "center", "details", "dir", "div", "dl", "dt", "fieldset",
         "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "main", "menu", "ol",
         "p", "pre", "section", "summary", "table", "ul"}
GAPS = dict.fromkeys(PARTS, 2) | {"li": 1, "tr": 1, "dd": 1, "caption": 1}  # newlines around; 2 leave a line blank
LISTS = {"ul", "ol", "menu", "dir"}
DEEPEST_INDENT = 8  # lists in lists; a page with thousands of them would be mostly spaces


def decode(body, header_charset=None):
    """Bytes to text by their mark, the HTTP header, the page's own word; else UTF-8 if they are, else Latin-1.

    The mark comes first, as in browsers: it can't be there by accident (WHATWG HTML, section 13.2.3.2).
    """
    for mark, name in MARKS.items():
        if body.startswith(mark):
            return body.decode(name, errors="replace")
    beginning = re.sub(rb"<!--.*?-->", b"", body[:4096], flags=re.DOTALL)
    own = re.search(rb"""<(?:meta|\?xml)\b[^>]*?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", beginning, re.I)
    own = own[1].decode("ascii", errors="replace") if own else None
    if own and own.lower().startswith("utf-16"):
        own = "utf-8"  # its ASCII letters were just read as ASCII
    for label in (header_charset, own):
        try:
            name = codecs.lookup((label or "").strip()).name
            if name not in NOT_OF_THE_WEB:
                return body.decode(MEANT.get(name, name), errors="replace")
        except (LookupError, UnicodeError, ValueError):  # a charset that nobody knows: the next word counts
            continue
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("cp1252", errors="replace")


class Layout:
    """Text on its way from elements to lines; what stands between two pieces is known only when the second comes."""

    def __init__(self):
        self.parts = []
        self.newlines, self.space, self.bar, self.mark = 0, False, "", ""  # due before the next piece
        self.beginning = False  # of a list item or cell: what opens there starts no line of its own
        self.cell = ""  # what the last table cell has: nothing, one "line", more "lines"
        self.lists = []  # the open ones: the number of the last item, None for lists with dashes

    def gap(self, newlines):
        if not self.beginning:
            self.newlines = max(self.newlines, newlines)

    def put(self, text):
        if self.parts:
            if self.newlines and self.cell:
                self.cell = "lines"
            self.parts.append(self.bar or "\n" * self.newlines or " " * self.space)
        self.parts += [self.mark, text]
        self.newlines, self.space, self.bar, self.mark, self.beginning = 0, False, "", "", False
        self.cell = self.cell or "line"

    def write(self, text):
        words = text.split()
        self.space = self.space or text[:1].isspace()
        if words:
            self.put(" ".join(words))
            self.space = text[-1].isspace()

    def write_verbatim(self, text):
        if text.strip():
            self.put(text.strip("\n").rstrip())

    def begin(self):
        self.mark, self.beginning = "", False

    def open(self, name):
        if name in ("li", "dt", "dd", "tr"):
            self.begin()
        if name == "tr" and self.cell == "line":  # the row before was never closed
            self.newlines = 1
        self.gap((1 if self.lists else 2) if name in LISTS else GAPS.get(name, 0))
        if name == "br":
            self.newlines = min(self.newlines + 1, 2)
        elif name in LISTS:
            self.lists.append(0 if name == "ol" else None)
        elif name == "li":
            self.beginning, self.mark = True, "- "
            if self.lists and self.lists[-1] is not None:
                self.lists[-1] += 1
                self.mark = f"{self.lists[-1]}. "
            self.mark = "  " * min(len(self.lists) - 1, DEEPEST_INDENT) + self.mark
        elif name == "dd":
            self.beginning = True
        elif name == "tr":
            self.cell = self.bar = ""
        elif name in ("td", "th"):
            if self.cell == "line":
                self.bar, self.newlines = " | ", 0
            elif self.cell:
                self.gap(2)  # a table that only arranges the page
            self.cell, self.beginning = "", True

    def close(self, name):
        if name in ("li", "dt", "dd", "tr"):
            self.begin()
        if name in LISTS and self.lists:
            self.lists.pop()
        elif name in ("tr", "table"):
            self.newlines = 2 if self.cell == "lines" else 1  # also where the last cell ended with a paragraph
            self.cell = self.bar = ""
        self.gap(1 if name == "dt" or (name in LISTS and self.lists) else GAPS.get(name, 0))


def is_left_out(tag, left_out):
    around = tag.get("role") in ROLES_AROUND or tag.get("aria-hidden") == "true" or tag.has_attr("hidden")
    permalink = tag.name == "a" and tag.contents in (["¶"], ["#"])  # behind the headings of documentation
    return tag.name in left_out or around or permalink


def text_of(root, left_out):
    """The text below an element: blank lines between blocks, <pre> as it is. Without recursion: pages nest deeply."""
    layout = Layout()
    layout.open(root.name)
    open_tags = [(root, iter(root.contents))]
    while open_tags:
        tag, children = open_tags[-1]
        child = next(children, None)
        if child is None:
            layout.close(tag.name)
            open_tags.pop()
        elif not isinstance(child, Tag):
            if type(child) in (NavigableString, CData):  # its other kinds are comments, scripts and the like
                layout.write(str(child))
        elif child.name == "pre":
            for line_break in child.find_all("br"):
                line_break.replace_with("\n")
            layout.open("pre")
            layout.write_verbatim(child.get_text())
            layout.close("pre")
        elif not is_left_out(child, left_out):
            layout.open(child.name)
            open_tags.append((child, iter(child.contents)))
    text = "".join(layout.parts).strip("\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)


def main_text(soup):
    """The text of <main>, else of the page without what stands around it, else with its forms (some are all form)."""
    main = soup.find("main") or soup.find(attrs={"role": "main"})
    body = soup.body or soup
    for root, around in ((main, AROUND - {"header"}), (body, AROUND), (body, AROUND - {"form"})):
        text = text_of(root, NOT_TEXT | around) if root else ""
        if text:
            return text
    return ""


@dataclass
class Page:
    title: str
    text: str
    links: list  # addresses in normal form, in order, each once
    noindex: bool
    nofollow: bool
    canonical: str | None  # the address that the page says it belongs to
    not_followed: Counter = field(default_factory=Counter)  # why links were left out -> how many


def directives(soup, header_values, robot):
    """What <meta name="robots"> and X-Robots-Tag ask of everyone, or of the robot with this name."""
    asked = set()
    for tag in soup.find_all("meta", attrs={"name": re.compile(f"^(robots|{robot})$", re.I)}):
        asked.update(tag.get("content", "").lower().replace(" ", "").split(","))
    for value in header_values:  # "noindex", or "somebot: noindex, nofollow"
        name, _, rest = value.lower().rpartition(":")
        if name.strip() in ("", robot):
            asked.update(rest.replace(" ", "").split(","))
    return asked | {"noindex", "nofollow"} if "none" in asked else asked


def parse(html):
    """The tree of a page. What is never closed goes first: the parser would look for its end again and again."""
    html = html.replace("\r\n", "\n").replace("\r", "\n")
    for opening, closing in (("<!--", "-->"), ("<", ">")):
        unclosed = html.find(opening, html.rfind(closing) + 1)
        html = html[:unclosed] if unclosed >= 0 else html
    try:
        return BeautifulSoup(html, "html.parser")
    except ParserRejectedMarkup:  # it gives up at a "<![" that is neither CDATA nor a word it knows
        return BeautifulSoup(html.replace("<![", "&lt;!["), "html.parser")


def read_page(body, url, header_charset=None, robots_headers=(), robot="robots"):
    """All that a crawl wants to know of the page that came from `url` as these bytes."""
    soup = parse(decode(body, header_charset))
    asked = directives(soup, robots_headers, robot)
    base = soup.find("base", href=True)
    try:
        base = urljoin(url, base["href"]) if base else url
    except ValueError:
        base = url
    canonical = soup.find("link", rel=lambda rel: rel and rel.lower() == "canonical", href=True)
    page = Page(
        title=" ".join(soup.title.get_text().split()) if soup.title else "", text="", links=[],
        noindex="noindex" in asked, nofollow="nofollow" in asked,
        canonical=normalise(canonical["href"], base) if canonical else None,
    )
    targets = [(tag["href"], tag.get("rel") or []) for tag in soup.find_all(["a", "area"], href=True)]
    targets += [(tag["src"], []) for tag in soup.find_all("frame", src=True)]
    for tag in soup.find_all("meta", attrs={"http-equiv": re.compile("^refresh$", re.I)}):
        if target := re.search(r"url\s*=\s*['\"]?([^'\"]+)", tag.get("content", ""), re.I):
            targets.append((target[1], []))
    for target, rel in targets:
        address = normalise(target, base)
        if page.nofollow or "nofollow" in " ".join(rel).lower().split():
            page.not_followed["nofollow"] += 1
        elif address is None:
            page.not_followed["no web page"] += 1
        else:
            page.links.append(address)
    page.links = list(dict.fromkeys(page.links))
    page.text = main_text(soup)  # last: it changes the tree
    return page
