"""Crawl a website into a text file that a model can be trained on.

    python 01_tokenizer/scrape.py                                            # Python's own help, without a network
    python 01_tokenizer/scrape.py https://www.umb.edu/ -o data/scraped/umb.txt --max_pages 500
    python 01_tokenizer/train.py -d data/scraped/umb.txt

Breadth first, on one site, and below a folder of it if the address names one. The same command goes on where a crawl
was stopped, however it was: all that the crawl knows is what its .jsonl says, line by line.
"""

import ipaddress
import re
import sys
from collections import Counter, deque
from contextlib import closing, nullcontext
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import pydoc_site
from corpora import DATA
from crawl_journal import Journal
from flags import Parser, UserError, check_ranges, run, shown
from web_address import Scope, normalise
from web_fetch import REDIRECTS, ROBOT, Fetcher
from web_page import read_page

DISALLOWED = "not asked for: disallowed by robots.txt"
MOST_REDIRECTS = 5  # one after the other
POLITE_DELAY = 1.0  # seconds
PATIENCE = 5  # pages in a row that a site fails to give, before the crawl stops, to be gone on with later


class Crawl:
    """What a crawl knows: the pages it still has to ask for, in order, and what came of the others."""

    def __init__(self, start, journal):
        self.start, self.journal, self.scope = start, journal, Scope(start)
        self.frontier = deque([(start, 0, 0)])  # address, clicks from the start, redirects just before
        self.known = {start}
        self.checksums, self.copies = set(), set()  # of the texts taken; pages that named another as canonical
        self.asked = self.taken = 0
        self.skipped, self.not_followed = Counter(), Counter()  # reason -> pages, reason -> links
        self.rules = None
        self.failing = []  # lines about the last pages, if the site gave none of them
        for line in journal.lines:
            self.learn(line)

    def learn(self, line):
        """Take in a line of the journal, new or old: the same lines always make the same crawl."""
        try:
            url, depth, redirects = self.frontier.popleft()
            if url != line["url"]:
                raise KeyError(url)
            if line["instead"]:
                self.known.add(line["instead"])
                self.frontier.appendleft((line["instead"], depth, redirects + 1))
            self.known.update(line["found"])
            self.frontier.extend((link, depth + 1, 0) for link in line["found"])
            self.not_followed.update(line["not_followed"])
            self.asked += line["reason"] != DISALLOWED
            if line["reason"] is None:
                self.taken += 1
                self.checksums.add(line["checksum"])
            else:
                self.skipped[line["reason"]] += 1
            if line["reason"] == "another page is canonical":
                self.copies.add(url)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(f"{shown(self.journal.journal_path)} is damaged: {self.journal.cure}") from error

    def has_more(self, max_pages, max_depth):
        return bool(self.frontier) and self.frontier[0][1] <= max_depth and self.asked < max_pages

    def step(self, fetcher, max_bytes):
        """Ask for the next page, and write down what came of it. Raises UserError if the crawl can't go on."""
        if self.rules is None:
            self.rules, problem = fetcher.robot_rules(self.scope.site)
            if problem:
                raise UserError(f"{self.scope.site}/robots.txt can't be had ({problem}), which means keep out:"
                                " check the address and the network, or try again later")
        url, depth, redirects = self.frontier[0]
        line = {"url": url, "title": None, "status": None, "reason": None, "checksum": None, "depth": depth,
                "instead": None, "found": [], "not_followed": {}}
        text, passing, location = None, False, ""
        if self.rules.allows(url):
            answer = fetcher.get(url, max_bytes)
            line |= {"status": answer.status, "reason": answer.problem}
            passing = answer.passing
            if answer.status in REDIRECTS:
                location = answer.headers.get("Location", "")
                line |= self.redirect(normalise(location, url), redirects)
            elif answer.problem is None:
                charset = answer.content_type()[1]
                page = read_page(answer.body, url, charset, answer.robots_headers, ROBOT)
                line |= self.judge(page, url, redirects)
                text = page.text if line["reason"] is None else None
        else:
            line["reason"] = DISALLOWED
        self.learn(line)
        if not self.taken and not self.frontier:
            self.journal.forget()
            raise UserError(f"{url} gives no text: {line['reason']}{location and f', to {location}'};"
                            " check the address, or start elsewhere")
        self.failing.append((line, text))
        if not passing:
            self.write_down()
        elif len(self.failing) == PATIENCE:
            raise UserError(f"{PATIENCE} pages in a row were not to be had ({line['reason']}): the crawl is kept,"
                            " the same command goes on with it later")

    def write_down(self):
        """Failures are written only when the site answers again: else it is asked for those pages by the next run."""
        for line, text in self.failing:
            self.journal.write(line, text)
        self.failing = []

    def wanted(self, address):
        """(the address in the form the crawl has it, None), or (None, why it leaves it out)."""
        inside = self.scope.on_site(address) if address else None
        reason = self.scope.reason_to_leave_out(inside) if inside else "off the site" if address else "no web page"
        return (None, reason) if reason else (inside, None)

    def redirect(self, target, redirects):
        target, reason = self.wanted(target)
        if reason:
            return {"reason": f"redirect: {reason}"}
        if redirects == MOST_REDIRECTS:
            return {"reason": "too many redirects"}
        return {"reason": "redirect", "instead": None if target in self.known else target}

    def judge(self, page, url, redirects):
        """What to write down of a page that came: its links, and why its text is not taken, if it is not."""
        checksum = sha256(page.text.encode("utf-8")).hexdigest()
        found, not_followed = [], page.not_followed
        for link in page.links:
            link, reason = self.wanted(link)
            if reason:
                not_followed[reason] += 1
            elif link not in self.known:
                found.append(link)
        canonical = self.wanted(page.canonical)[0]
        reason, instead = None, None
        if canonical not in (None, url) and canonical not in self.copies and redirects < MOST_REDIRECTS:
            reason, instead = "another page is canonical", None if canonical in self.known else canonical
        elif page.noindex:
            reason = "noindex"
        elif not page.text:
            reason = "no text"
        elif checksum in self.checksums:
            reason = "duplicate text"
        return {"title": page.title, "reason": reason, "checksum": checksum, "instead": instead,
                "found": [link for link in dict.fromkeys(found) if link != instead], "not_followed": dict(not_followed)}

    def summary(self):
        def listed(counter):
            return ", ".join(f"{count:,} {reason}" for reason, count in counter.most_common()) or "none"

        yield f"{self.taken:,} pages taken: {shown(self.journal.path)} ({self.journal.length:,} bytes)"
        yield f"{self.asked:,} asked for, each in {shown(self.journal.journal_path)}; not taken: {listed(self.skipped)}"
        yield f"links not followed: {listed(self.not_followed)}"


def is_this_machine(url):
    host = urlsplit(url).hostname
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def crawl(start, args, proxies=None):
    here = is_this_machine(start)
    delay = args.delay if args.delay is not None else 0.0 if here else POLITE_DELAY
    plain_name = re.sub(r"[^\w.-]+", "_", start.partition("://")[2].strip("/"))
    output = args.output or DATA / "scraped" / f"{plain_name}.txt"
    with closing(Journal(output, start)) as journal:
        state = Crawl(start, journal)
        if not state.has_more(args.max_pages, args.max_depth):
            print("this crawl is complete")
        else:
            print(f"{'going on with' if journal.lines else 'crawling'} {state.scope}, into {shown(output)}")
        fetcher = Fetcher(delay, args.timeout, args.retries, proxies, trust_environment=not here)
        try:
            with tqdm(initial=state.asked, unit=" pages", leave=False, disable=None) as progress:
                while state.has_more(args.max_pages, args.max_depth):
                    state.step(fetcher, args.max_bytes)
                    progress.set_postfix_str(f"{state.taken} taken, {len(state.frontier)} known ahead")
                    progress.update()
            state.write_down()
        except KeyboardInterrupt:
            print(f"stopped after {state.asked:,} pages: the same command goes on from here", flush=True)
            raise
        print(*state.summary(), sep="\n")
        if state.frontier:
            limit = "max_pages" if state.asked >= args.max_pages else "max_depth"
            print(f"{len(state.frontier):,} more addresses are known: with a larger --{limit} the same command goes on")


def main():
    parser = Parser("Crawl a website into a text file that a model can be trained on, such as"
                    " python 01_tokenizer/scrape.py https://docs.python.org/3/tutorial/ --max_pages 50")
    parser.add_argument("url", nargs="?", help="where to start; only what is below its folder is asked for"
                        " (default: a site with Python's own help, made by the script itself)")
    parser.add_argument("-o", "--output", help="text file to write, with a .jsonl of its pages beside it"
                        " (default: in data/scraped/)")
    parser.add_argument("--max_pages", type=int, default=1000, help="addresses to ask for, whatever comes of them")
    parser.add_argument("--max_depth", type=int, default=10, help="clicks from the start")
    parser.add_argument("--delay", type=float, help="seconds between requests; a longer one in robots.txt counts"
                        f" (default: {POLITE_DELAY}, and 0 on this machine)")
    parser.add_argument("--max_bytes", type=int, default=2_000_000, help="larger pages are left out")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one page, all in all")
    parser.add_argument("--retries", type=int, default=3, help="further attempts when a site is busy or gone")
    args = parser.parse_args()
    check_ranges(args, max_pages=(1, 10**9), max_depth=(0, 10**9), delay=(0, 86_400), max_bytes=(1, 10**9),
                 timeout=(0.1, 86_400), retries=(0, 20))
    start = normalise(args.url if args.url is not None else pydoc_site.SITE + pydoc_site.FOLDER)
    if start is None:
        raise UserError(f"'{args.url}' is no web address: it must begin with http:// or https://, and name a host")
    with pydoc_site.serving() if args.url is None else nullcontext() as proxies:
        crawl(start, args, proxies)


if __name__ == "__main__":
    run(main)
