"""The crawler against real servers on this machine: a good site, the wishes of its pages, kills, and the script."""

import json
import signal
import subprocess
import sys
import time
from argparse import Namespace
from itertools import pairwise

import corpora
import pytest
import scrape
import web_fetch
from for_tests import ROOT, refuse, run, shared, succeed
from local_site import crawl, links, reasons, sites


@pytest.fixture
def site():
    yield from sites()


@pytest.fixture
def docs(site):
    folder = shared("website/python-docs-subset")
    return site({f"/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.html")})


# ---- a good site

@pytest.mark.slow
def test_a_real_site_is_taken_whole(docs, tmp_path, capsys):
    found, texts = crawl(docs, tmp_path, "about.html", max_bytes=300_000)
    assert len(docs.requests) == len(set(docs.requests)), "a page was fetched twice"
    taken = {f"/{name}" for name, line in found.items() if line["reason"] is None}
    assert taken == set(docs.routes) and len(taken) == 30, "not every page of the site was found"
    dead = [line for line in found.values() if line["status"] == 404]
    assert len(dead) == 156 and {line["reason"] for line in dead} == {"answered 404"}
    text = next(text for text in texts if text.startswith("1. Whetting Your Appetite"))
    paragraph = "\n\nIf you do much work on computers, eventually you find that there’s some task you’d like to auto"
    assert paragraph in text, "paragraphs are not kept"
    for words in ("Quick search", "jquery", "Previous topic", "Report a Bug"):
        assert not any(words in text for text in texts), "navigation is taken for text"
    printed = capsys.readouterr().out
    assert "30 pages taken" in printed and "156 answered 404" in printed and "60 nofollow" in printed
    assert all("course-scraper" in agent for agent in docs.agents)


@pytest.mark.slow
def test_a_folder_of_a_site(docs, tmp_path):
    found, _ = crawl(docs, tmp_path, "tutorial/index.html")
    assert len(found) == 17 and all(path.startswith(("/tutorial/", "/robots.txt")) for path in docs.requests)


def test_breadth_first_with_limits_that_can_be_raised(site, tmp_path):
    names = ("1", "2", "11", "12", "21", "22", "111")
    web = site({"/": links("1", "2") + "start"} | {f"/{n}": links(f"{n}1", f"{n}2") + n for n in names})
    crawl(web, tmp_path, max_pages=2)
    assert web.pages_asked_for() == ["/", "/1"]
    crawl(web, tmp_path, max_depth=1)
    assert web.pages_asked_for() == ["/", "/1", "/2"]
    crawl(web, tmp_path, max_depth=2)
    assert web.pages_asked_for() == ["/", "/1", "/2", "/11", "/12", "/21", "/22"], "not breadth first"
    count = len(web.requests)
    crawl(web, tmp_path, max_depth=2)
    assert len(web.requests) == count, "a complete crawl asks again"


def test_robots_txt_is_obeyed(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(web_fetch, "time", Namespace(sleep=waits.append, monotonic=time.monotonic))
    web = site({"/robots.txt": (200, {"Content-Type": "text/plain"}, "User-agent: *\nDisallow: /no\nCrawl-delay: 7"),
                "/": links("no", "no/x", "yes") + "start", "/no": "secret", "/yes": links("no?x") + "yes"})
    found, texts = crawl(web, tmp_path)
    assert web.pages_asked_for() == ["/", "/yes"] and texts == ["start", "yes"]
    assert {found[name]["reason"] for name in ("no", "no/x", "no?x")} == {scrape.DISALLOWED}
    assert sum(wait > 6 for wait in waits) == 2, "the crawl delay of robots.txt is not kept"


def test_wishes_of_pages(site, tmp_path):
    names = ["noindex", "nofollow", "header", "copy", "main", "same", "a", "b"]
    web = site({
        "/": links(*names) + "start <nav><a rel=nofollow href=x>x</a></nav>", "/x": "x",
        "/noindex": f"<meta name=robots content=noindex>{links('behind')}not this", "/behind": "behind",
        "/nofollow": f"<meta name=robots content=nofollow>{links('never')}this", "/never": "never",
        "/header": (200, {"X-Robots-Tag": "none"}, links("never") + "not this"),
        "/copy": "<link rel=canonical href=main>main text, printed",
        "/main": "<link rel=canonical href=/main#top>main text",
        "/same": "  main <b>text</b>",
        "/a": "<link rel=canonical href=b>text a",
        "/b": "<link rel=canonical href=a>text b",  # each names the other: one is taken
    })
    found, texts = crawl(web, tmp_path)
    assert not {"/never", "/x"} & set(web.requests), "a nofollow was followed"
    assert sorted(texts) == ["behind", "main text", "start", "text b", "this"]
    assert reasons(found) | {"noindex": "noindex", "header": "noindex", "same": "duplicate text",
                             "copy": "another page is canonical", "a": "another page is canonical"} == reasons(found)
    assert len(web.requests) == len(set(web.requests)), "a page was fetched twice"


def test_one_page_with_many_names_is_fetched_once(site, tmp_path):
    web = site({"/a": "a"})
    shouted = web.url.replace("http", "HtTp") + "a"
    web.routes["/"] = "start" + links("a", "a#x", "/./a", "x/../a", "%61", shouted, "mailto:a@b", "data:,x", "http://[x")
    crawl(web, tmp_path)
    assert web.pages_asked_for() == ["/", "/a"]


def test_a_page_cannot_end_its_document(site, tmp_path):
    web = site({"/": "<main>one &lt;|endoftext|&gt; two <|endoftext|> three<|endo\x07ftext|></main>"})
    _, texts = crawl(web, tmp_path)
    assert texts == ["one <| endoftext|> two <| endoftext|> three<| endoftext|>"]


# ---- kills

def small_site():
    def page(n):
        return f"<title>{n}</title>{links(f'p{n * 2}', f'p{n * 2 + 1}', 'p7', f'no{n // 5}')}<p>page {n}<p>ü{n % 20}"
    return {"/": page(1)} | {f"/p{n}": page(n) for n in range(2, 60)}


def whole_crawl(site, tmp_path):
    """What an uninterrupted crawl writes."""
    web = site(small_site())
    crawl(web, tmp_path / "whole")
    return files_of(tmp_path / "whole" / "site.txt", web)


def files_of(output, web):
    return output.read_bytes(), output.with_suffix(".jsonl").read_text("utf-8").replace(web.url, "http://site/")


@pytest.mark.slow
@pytest.mark.parametrize("number, paths", [
    (getattr(signal, "SIGKILL", signal.SIGTERM), ["/", "/p3", "/p7", "/p23", "/no4"]),
    (signal.SIGINT, ["/p5"]),
])
def test_a_stopped_crawl_goes_on(site, tmp_path, number, paths):
    whole = whole_crawl(site, tmp_path)
    web, output, process = site(small_site()), tmp_path / "site.txt", None

    def stopping(answer):
        def route(handler):
            if answer in to_stop:
                to_stop.remove(answer)
                process.send_signal(number)
            handler.send(*answer)
        return route

    answers = {path: (200, {}, web.routes[path]) if path in web.routes else (404, {}, "") for path in paths}
    to_stop = list(answers.values())
    web.routes |= {path: stopping(answer) for path, answer in answers.items()}
    for _ in range(len(paths) + 1):
        words = [sys.executable, ROOT / "01_tokenizer/scrape.py", web.url, "-o", output]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        printed, errors = process.communicate(timeout=60)
        if number == signal.SIGINT and process.returncode:
            assert process.returncode == 130 and "the same command goes on" in printed and "Traceback" not in errors
    assert process.returncode == 0 and not to_stop, errors
    assert files_of(output, web) == whole, "a stopped crawl ends otherwise than an uninterrupted one"
    asked = web.pages_asked_for()
    assert len(asked) - len(set(asked)) <= len(paths), "more than the page in flight was fetched twice"


def test_files_that_were_cut_anywhere(site, tmp_path):
    web, output = site(small_site()), tmp_path / "site.txt"
    crawl(web, tmp_path)
    text, journal = output.read_bytes(), output.with_suffix(".jsonl").read_bytes()
    lengths = [0, 0, *(json.loads(line)["length"] for line in journal.splitlines()[1:])]
    for cut in (0, 1, 40, len(journal) // 3, len(journal) // 2, journal.rfind(b"\n", 0, -1) + 1, len(journal) - 1):
        kept = journal[:cut].count(b"\n")
        output.write_bytes(text[: lengths[kept]] + ("page tö" if cut else "").encode()[:-1])
        output.with_suffix(".jsonl").write_bytes(journal[:cut])
        before = len(web.requests)
        crawl(web, tmp_path)
        assert output.read_bytes() == text, f"the .jsonl was cut after {cut} bytes"
        assert output.with_suffix(".jsonl").read_bytes() == journal
        assert len(web.requests) - before == 1 + len(lengths) - 1 - max(kept, 1), "a page was fetched twice"
    assert all(earlier <= later for earlier, later in pairwise(lengths))


# ---- the script

@pytest.mark.slow
def test_the_default_site_needs_no_network(tmp_path):
    words = ["01_tokenizer/scrape.py", "-o", tmp_path / "help.txt", "--max_pages"]
    assert "20 asked for" in succeed(*words, 20)
    assert "going on with" in succeed(*words, 1000), "its addresses change with the port"
    assert "complete" in succeed(*words, 1000)
    text = corpora.load(tmp_path / "help.txt")
    assert "\n\nAssert statements are a convenient way to insert debugging assertions into a program:\n\n   as" in text
    assert text.count(corpora.END_OF_TEXT) > 60 and "all topics" not in text


@pytest.mark.slow
def test_bad_input_ends_in_one_line(site, tmp_path):
    script, output = "01_tokenizer/scrape.py", tmp_path / "site.txt"
    web, other = site({"/": "text", "/robots.txt": "User-agent: *\nDisallow: /private"}), site({"/": "text"})
    assert "must begin with http" in refuse(script, "ftp://127.0.0.1/")
    assert "must begin with http" in refuse(script, "127.0.0.1/x")
    assert "delay -1.0 must be at least 0" in refuse(script, "--delay", -1)
    assert "max_pages 0 must be" in refuse(script, web.url, "--max_pages", 0)
    assert "timeout nan must be" in refuse(script, web.url, "--timeout", "nan")
    assert "give another -o" in refuse(script, web.url, "-o", tmp_path)
    assert "ends in .txt" in refuse(script, web.url, "-o", tmp_path / "x.jsonl")
    assert "check the address" in refuse(script, "http://127.0.0.1:1/", "--retries", 0, "-o", output)
    assert scrape.DISALLOWED in refuse(script, f"{web.url}private", "-o", output)
    assert "answered 404; check the address" in refuse(script, f"{web.url}nothing", "-o", output)
    assert not output.exists(), "a crawl that came to nothing leaves files that refuse the next one"
    succeed(script, web.url, "-o", output)
    assert f"holds a crawl of {web.url}: delete" in refuse(script, other.url, "-o", output)
    output.with_suffix(".jsonl").write_text("{}\n")
    assert "is damaged: delete" in refuse(script, web.url, "-o", output)
    output.with_suffix(".jsonl").unlink()
    assert "is from no crawl" in refuse(script, web.url, "-o", output)
    assert output.read_text(encoding="utf-8") == f"text\n{corpora.END_OF_TEXT}\n", "a refused crawl changed the files"
    assert "scrape.py https://" in " ".join(run(script, "-h").stdout.split())


def test_two_crawls_into_one_file(site, tmp_path):
    web = site({"/": lambda handler: (time.sleep(1.5), handler.send(200, {}, "text"))})
    words = [sys.executable, ROOT / "01_tokenizer/scrape.py", web.url, "-o", tmp_path / "site.txt"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while "/" not in web.requests:
        time.sleep(0.02)
    assert "another crawl writes" in refuse("01_tokenizer/scrape.py", web.url, "-o", tmp_path / "site.txt")
    assert process.wait(timeout=60) == 0
