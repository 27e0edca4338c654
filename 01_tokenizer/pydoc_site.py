"""A website that needs no network: the topics of Python's `help()`, one page each, served to this machine alone.

It has a name of its own, so that its addresses are the same whatever port is free: this server is the proxy that
the name is asked from. Names that end in .localhost belong to nobody else (RFC 6761, section 6.3).
"""

import contextlib
import re
import sys
import sysconfig
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import pydocs

SITE = "http://pydoc.localhost"
FOLDER = f"/{sys.version.split()[0]}/"  # the topics of another Python are other pages


def topics():
    """Name -> text, such as "assert" -> what `help("assert")` shows; some Pythons come without: their modules then."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        docstrings = pydocs.docstrings(Path(sysconfig.get_paths()["stdlib"]))
        return {name: text for name, text in docstrings if "." not in name}
    return topics


def page(title, content, links=""):
    return (f"<!DOCTYPE html><html><head><title>{escape(title)}</title></head><body>"
            f'<nav><a href="./">all topics</a> {links}</nav><main>{content}</main>'
            "<footer>from the documentation of Python</footer></body></html>")


def topic_page(text, names):
    """A topic as HTML: titles, paragraphs, what is indented as <pre>, and links to topics that it names in quotes."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        title, _, line_below = block.partition("\n")
        if line_below and set(line_below) <= set("*=-~^"):
            blocks.append(f"<h2>{escape(title)}</h2>")
        else:
            kind = "pre" if block.startswith(("   ", "+-", "|")) else "p"
            blocks.append(f"<{kind}>{escape(block, quote=False)}</{kind}>")
    named = dict.fromkeys(name for name in re.findall(r'"([\w-]+)"', text) if name in names)
    links = " ".join(f'<a href="{quote(name)}.html">{escape(name)}</a>' for name in named)
    return page(text.strip().partition("\n")[0], "".join(blocks), links)


def pages():
    """Path -> HTML: an index, and a page for each topic."""
    texts = topics()
    items = "".join(f'<li><a href="{quote(name)}.html">{escape(name)}</a></li>' for name in sorted(texts))
    index = page("Topics", f"<h1>Topics</h1><ul>{items}</ul>")
    return {FOLDER: index} | {f"{FOLDER}{quote(name)}.html": topic_page(text, texts) for name, text in texts.items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Site"
    wbufsize = -1  # head and body in one packet; in two, the second waits 40 ms for the first one's receipt

    def do_GET(self):
        found = self.server.pages.get(urlsplit(self.path).path)
        body = (found or page("Not found", "<p>There is no such topic.</p>")).encode("utf-8")
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Nothing: the crawl has its own progress line."""


class Site(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = pages()


@contextlib.contextmanager
def serving():
    """While the site is up: the proxies that requests needs to find it."""
    with Site() as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()  # seconds in which shutdown is seen
        try:
            yield {SITE: f"http://127.0.0.1:{server.server_port}"}
        finally:
            server.shutdown()
