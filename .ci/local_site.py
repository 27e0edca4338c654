"""For the tests of the scraper: websites on this machine, made from a dict, which remember who asked what; a crawl."""

import json
import threading
from argparse import Namespace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import corpora
import scrape

FLAGS = {"max_pages": 500, "max_depth": 10, "delay": None, "max_bytes": 200_000, "timeout": 1.0, "retries": 2}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.agents.add(self.headers["User-Agent"])
        route = self.server.routes.get(self.path, (404, {}, "not here"))
        try:
            route(self) if callable(route) else self.send(*(route if isinstance(route, tuple) else (200, {}, route)))
            self.wfile.flush()
        except OSError:  # the crawler has gone
            self.close_connection = True

    def send(self, status, headers, body):
        body = body.encode("utf-8") if isinstance(body, str) else body
        self.send_response(status)
        for name, value in ({"Content-Type": "text/html", "Content-Length": str(len(body))} | headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """The tests look at `requests` instead."""


class Site(ThreadingHTTPServer):
    """`routes`: path -> HTML, or (status, headers, body), or a function of the handler; all else is 404."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, routes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes, self.requests, self.agents = routes, [], set()
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def pages_asked_for(self):
        return [path for path in self.requests if path != "/robots.txt"]


def sites():
    """Yield a function that starts a Site, for a fixture; they end with the test."""
    started = []

    def start(routes):
        started.append(Site(routes))
        return started[-1]

    yield start
    for each in started:
        each.shutdown()
        each.server_close()


def links(*names):
    return "<nav>" + "".join(f'<a href="{name}">link</a>' for name in names) + "</nav>"


def crawl(site, folder, path="", **flags):
    """Crawl a site into folder/site.txt; returns (path on the site -> its line, list of the texts taken)."""
    output = folder / "site.txt"
    scrape.crawl(site.url + path, Namespace(**FLAGS | {"output": str(output)} | flags))
    _, *lines = [json.loads(line) for line in output.with_suffix(".jsonl").read_text("utf-8").splitlines()]
    texts = corpora.load(output).split(corpora.END_OF_TEXT)
    assert len(texts) == sum(line["reason"] is None for line in lines), "not one separator for each page taken"
    found = {line["url"].removeprefix(site.url): line for line in lines}
    assert len(found) == len(lines), "a page stands twice in the .jsonl"
    return found, [text.strip() for text in texts]


def reasons(found):
    return {name: line["reason"] for name, line in found.items()}
