"""Sites that misbehave in every way: the crawl takes what is good, says what was not, and ends."""

import gzip
import socket
import struct
import time
from argparse import Namespace
from email.utils import formatdate

import pytest
import web_fetch
from flags import UserError
from local_site import crawl, links, reasons, sites


@pytest.fixture
def site():
    yield from sites()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(web_fetch, "FIRST_WAIT", 0.01)


@pytest.mark.parametrize("status, allowed", [(404, True), (403, True), (500, False), (503, False), (429, False)])
def test_a_robots_txt_that_is_not_there(site, tmp_path, status, allowed):
    web = site({"/robots.txt": (status, {}, "User-agent: *\nDisallow: /"), "/": "start"})
    if allowed:
        assert crawl(web, tmp_path)[1] == ["start"]
    else:
        with pytest.raises(UserError, match=r"robots.txt can't be had"):
            crawl(web, tmp_path)
        assert web.pages_asked_for() == [], "a robots.txt that can't be had now forbids everything"
        assert not (tmp_path / "site.txt").exists() and not (tmp_path / "site.jsonl").exists()


def test_a_robots_txt_that_has_moved(site, tmp_path):
    web = site({"/robots.txt": (301, {"Location": "/rules"}, ""), "/rules": "User-agent: *\nDisallow: /no",
                "/": links("no") + "start", "/no": "no"})
    crawl(web, tmp_path)
    assert "/no" not in web.requests


def test_redirects(site, tmp_path):
    other = site({"/": "other"})
    moved = {f"/chain{n}": (302, {"Location": f"chain{n + 1}"}, "") for n in range(20)}
    web = site(moved | {
        "/": links("old", "old2", "loop", "off", "chain0", "bad", "nowhere", "self", other.url) + "start",
        "/old": (301, {"Location": "/new"}, ""), "/old2": (308, {"Location": "new#part"}, ""), "/new": "new",
        "/loop": (302, {"Location": "loop2"}, ""), "/loop2": (302, {"Location": "/loop"}, ""),
        "/self": (307, {"Location": ""}, ""), "/off": (302, {"Location": other.url}, ""),
        "/bad": (302, {"Location": "http://[bad"}, ""), "/nowhere": (302, {}, ""),
    })
    found, texts = crawl(web, tmp_path)
    assert other.requests == [], "the crawl left the site"
    assert texts == ["start", "new"] and len(web.requests) == len(set(web.requests)), "a page was fetched twice"
    assert found["chain5"]["reason"] == "too many redirects" and "chain6" not in found
    assert reasons(found) | {"off": "redirect: off the site", "loop2": "redirect"} == reasons(found)
    with pytest.raises(UserError, match=f"off the site, to {other.url}"):
        crawl(web, tmp_path / "b", "off")


def endless(handler):
    handler.send(200, {"Content-Length": None, "Transfer-Encoding": "chunked"}, "")
    while True:
        handler.wfile.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")


def drip(head):
    def route(handler):
        handler.wfile.write(head)
        for _ in range(200):  # ten seconds
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)
    return route


def silent(handler):
    time.sleep(3)


def reset(handler):
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def cut(handler):
    handler.send(200, {"Content-Length": "999"}, "cut")
    reset(handler)


def in_turn(*answers):
    """Give these answers one after the other, the last one from then on."""
    left = list(answers)

    def route(handler):
        answer = left.pop(0) if len(left) > 1 else left[0]
        answer(handler) if callable(answer) else handler.send(*answer)
    return route


@pytest.mark.slow
def test_answers_of_all_kinds(site, tmp_path):
    zipped = {"Content-Encoding": "gzip"}
    a_while_ago, tomorrow = (formatdate(time.time() + seconds, usegmt=True) for seconds in (-5, 86_400))
    routes = {  # those whose failure may pass by itself stand apart: five in a row would stop the crawl
        "image": (200, {"Content-Type": "image/png"}, "\x89PNG"),
        "plain": (200, {"Content-Type": "text/plain"}, "plain"),
        "untyped": (200, {"Content-Type": None}, "untyped"),
        "latin": (200, {"Content-Type": "text/html; charset=iso-8859-1"}, "café".encode("latin-1")),
        "empty": "<script>x</script>",
        "nested": "<div>" * 3000 + "nested",
        "huge": "x" * 300_000,
        "endless": endless,
        "bomb": (200, zipped, gzip.compress(b"x" * 50_000_000)),
        "lying": (200, {"Content-Length": "4"}, "four and more"),
        "gzip": (200, zipped, gzip.compress(b"zipped text")),
        "not_gzip": (200, zipped, "not zipped"),
        "drip": drip(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"),
        "drip_head": drip(b"HTTP/1.1 200 OK\r\nX-Head: "),
        "silent": silent,
        "gone": (410, {}, "gone"),
        "broken": (500, {}, "broken"),
        "day_long": (503, {"Retry-After": "86400"}, ""),
        "busy": in_turn((429, {"Retry-After": "0"}, ""), (503, {"Retry-After": a_while_ago}, ""), (200, {}, "at last")),
        "tomorrow": (429, {"Retry-After": tomorrow}, ""),
        "resets": in_turn(reset, reset, (200, {}, "reset and came")),
        "reset": reset,
        "cuts": in_turn(cut, (200, {}, "cut and came")),
    }
    web = site({"/": links(*routes) + "start"} | {f"/{name}": route for name, route in routes.items()})
    began = time.monotonic()
    found, texts = crawl(web, tmp_path)
    assert time.monotonic() - began < 30, "a slow server holds the crawl up"
    assert {name: reason for name, reason in reasons(found).items() if reason} == {
        "image": "not HTML but image/png", "plain": "not HTML but text/plain", "empty": "no text",
        "huge": "larger than 200,000 bytes", "endless": "larger than 200,000 bytes",
        "bomb": "larger than 200,000 bytes", "not_gzip": "damaged compression", "drip": "too slow",
        "drip_head": "too slow", "silent": "too slow", "gone": "answered 410", "broken": "answered 500",
        "day_long": "answered 503, asks to wait 1,440 minutes", "tomorrow": "answered 429, asks to wait 1,440 minutes",
        "reset": "no connection",
    }
    assert texts == ["start", "untyped", "café", "nested", "four", "zipped text", "at last", "reset and came",
                     "cut and came"]
    count = {name: web.requests.count(f"/{name}") for name in routes}
    assert count["broken"] == count["reset"] == count["busy"] == count["resets"] == 3 and count["cuts"] == 2
    assert count["day_long"] == count["tomorrow"] == count["gone"] == count["drip"] == 1, "asked again in vain"


def test_retry_after(monkeypatch):
    now = web_fetch.datetime(2026, 1, 1, 12, 0, 0, tzinfo=web_fetch.UTC)
    monkeypatch.setattr(web_fetch, "datetime", type("Clock", (), {"now": staticmethod(lambda zone: now)}))
    for text, seconds in (
        ("7", 7), (" 0 ", 0), ("1.5", 1.5), ("1e99", None), ("nan", None), ("soon", None),
        ("-1", None), ("", None), (None, None), ("²", None), ("Wed, 99 Oct 2015", None),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90), ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Thursday, 01-Jan-26 12:01:30 GMT", 90), ("Thu Jan  1 12:01:30 2026", 90),
    ):
        assert web_fetch.seconds_to_wait(text) == seconds, text


def test_waits_grow_and_are_those_asked_for(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(web_fetch, "time", Namespace(sleep=waits.append, monotonic=time.monotonic))
    monkeypatch.setattr(web_fetch, "FIRST_WAIT", 1.0)
    busy = in_turn(*[(503, {}, "")] * 3, (429, {"Retry-After": "33"}, ""), (200, {}, "at last"))
    assert crawl(site({"/": busy}), tmp_path, retries=4)[1] == ["at last"]
    assert [wait for wait in waits if wait] == [1, 2, 4, 33], "neither exponential nor what the server asks for"


def test_endless_sites_end(site, tmp_path):
    web = site({f"/day/{n}": links(f"/day/{n + 1}") + f"day {n}" for n in range(1000)})
    web.routes |= {"/" + "trap/" * n: links("trap/") + f"trap {n}" for n in range(1, 50)}
    web.routes["/"] = links("day/0", "trap/") + "start"
    found, _ = crawl(web, tmp_path, max_depth=30)
    assert len(web.pages_asked_for()) == 1 + 30 + 3, "max_depth or the limit of repeated folders is not kept"
    assert found["trap/trap/trap/"]["not_followed"] == {"endless address": 1}


def test_a_site_that_goes_down_is_asked_again_later(site, tmp_path):
    names = [str(n) for n in range(12)]
    web = site({"/": links(*names) + "start"} | {f"/{n}": f"page {n}" if int(n) < 3 else reset for n in names})
    with pytest.raises(UserError, match="the same command goes on"):
        crawl(web, tmp_path, retries=0)
    web.routes |= {f"/{n}": f"page {n}" for n in names}
    _, texts = crawl(web, tmp_path, retries=0)
    assert texts == ["start", *(f"page {n}" for n in names)], "pages that failed with the whole site are lost"
