"""Ask a site for its pages as a guest should: slowly, by name, in bounded time and memory, again if it is busy."""

import math
import re
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from threading import Thread

import requests
from requests.structures import CaseInsensitiveDict
from robot_rules import RobotRules
from urllib3.exceptions import DecodeError, HTTPError
from web_address import normalise

ROBOT = "course-scraper"  # the name that robots.txt may give rules to
USER_AGENT = f"{ROBOT}/1.0 (a learner's crawler; obeys robots.txt; {requests.utils.default_user_agent()})"
HTML = {"text/html", "application/xhtml+xml"}
FIRST_WAIT = 1.0  # seconds before the second attempt; twice as long before each further one
LONGEST_WAIT = 120.0  # seconds; who asks for more gets no further attempt
CONNECT_TIMEOUT = 10.0
PIECE = 1 << 16
ROBOTS_BYTES = 500 * 1024  # what RFC 9309 (section 2.5) wants to be read at least
ROBOTS_REDIRECTS = 5  # section 2.3.1.2
REDIRECTS = {301, 302, 303, 307, 308}


class Session(requests.Session):
    """Without redirects: requests would read their bodies whole, and follow them to any site."""

    def get_redirect_target(self, response):
        return None


@dataclass(frozen=True)
class Answer:
    """What came of a request: a status and perhaps a body, or the problem; `passing` if it may end by itself."""

    status: int | None = None
    body: bytes | None = None
    headers: CaseInsensitiveDict = field(default_factory=CaseInsensitiveDict)
    robots_headers: tuple = ()  # the values of X-Robots-Tag
    problem: str | None = None
    passing: bool = False

    def content_type(self):
        """(media type, charset or None) as the server says it."""
        message = Message()
        message["Content-Type"] = self.headers.get("Content-Type", "")
        return message.get_content_type() if self.headers.get("Content-Type") else "", message.get_param("charset")


def seconds_to_wait(retry_after):
    """What Retry-After asks for, in seconds, or None: a number or a date (RFC 9110, section 10.2.3).

    Some servers send 1.5, which the RFC does not know.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return max((date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError):
        return None


class Fetcher:
    """Requests to one site, one at a time, `delay` seconds apart."""

    def __init__(self, delay, timeout, retries, proxies=None, trust_environment=True):
        self.delay, self.timeout, self.retries = delay, timeout, retries
        self.last = -math.inf  # when the last request ended
        self.session = Session()
        self.session.headers.update({"User-Agent": USER_AGENT, "Accept": "text/html, application/xhtml+xml, */*;q=0.1",
                                     "Accept-Encoding": "gzip, deflate"})
        self.session.trust_env = trust_environment  # proxies; none of them leads to this machine itself
        self.session.proxies.update(proxies or {})
        self.session.auth = lambda request: request  # no passwords from ~/.netrc
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # every request is a first visit

    def get(self, url, max_bytes, html_only=True):
        """An Answer, after as many attempts as it needs and is allowed."""
        for attempt in range(self.retries + 1):
            time.sleep(max(0.0, self.last + self.delay - time.monotonic()))
            answer = self.try_once(url, max_bytes, html_only)
            self.last = time.monotonic()
            asked = seconds_to_wait(answer.headers.get("Retry-After"))
            wait = FIRST_WAIT * 2**attempt if asked is None else asked
            if answer.passing and wait > LONGEST_WAIT:
                return replace(answer, problem=f"{answer.problem}, asks to wait {wait / 60:,.0f} minutes")
            if not answer.passing or attempt == self.retries:
                return answer
            time.sleep(wait)
        raise ValueError(f"retries {self.retries} must be 0 or more")

    def try_once(self, url, max_bytes, html_only):
        """One request, in a thread: a server that drips headers byte by byte would never trip a socket's time-out."""
        future = Future()

        def work():
            try:
                future.set_result(self.request(url, max_bytes, html_only))
            except BaseException as error:  # whatever it was, it is raised again where it is waited for
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        try:
            return future.result(timeout=self.timeout + 1)
        except TimeoutError:
            return Answer(problem="too slow")

    def request(self, url, max_bytes, html_only):
        deadline = time.monotonic() + self.timeout
        timeouts = (min(CONNECT_TIMEOUT, self.timeout), self.timeout)
        try:
            with self.session.get(url, stream=True, timeout=timeouts) as response:
                answer = Answer(response.status_code, headers=response.headers,
                                robots_headers=tuple(response.raw.headers.getlist("X-Robots-Tag")))
                if response.status_code != 200:
                    busy = response.status_code == 429 or response.status_code >= 500
                    return replace(answer, problem=f"answered {response.status_code}", passing=busy)
                kind = answer.content_type()[0]
                if html_only and kind and kind not in HTML:
                    return replace(answer, problem=f"not HTML but {kind}")
                return self.read(response.raw, answer, max_bytes, deadline)
        except requests.ReadTimeout:
            return Answer(problem="too slow")
        except DecodeError:
            return Answer(problem="damaged compression")
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError):
            return Answer(problem="no address that can be asked")
        except (requests.RequestException, HTTPError, OSError) as error:
            if time.monotonic() >= deadline:
                return Answer(problem="too slow")
            certificate = isinstance(error, requests.exceptions.SSLError)
            return Answer(problem="no trusted certificate" if certificate else "no connection", passing=not certificate)

    @staticmethod
    def read(raw, answer, max_bytes, deadline):
        """The body, read as it comes: its length is what arrives, whatever Content-Length says."""
        body = bytearray()
        while piece := raw.read1(PIECE, decode_content=True):
            body += piece
            if len(body) > max_bytes:
                return replace(answer, body=bytes(body[:max_bytes]), problem=f"larger than {max_bytes:,} bytes")
            if time.monotonic() > deadline:
                return replace(answer, problem="too slow")
        return replace(answer, body=bytes(body))

    def robot_rules(self, site):
        """(the RobotRules of a site, None), or (None, why they can't be known, which means: keep out).

        One that is not there allows everything; one that can't be had now forbids everything (RFC 9309, section 2.3.1).
        """
        url = f"{site}/robots.txt"
        for _ in range(1 + ROBOTS_REDIRECTS):
            answer = self.get(url, ROBOTS_BYTES, html_only=False)
            if answer.status not in REDIRECTS:
                break
            url = normalise(answer.headers.get("Location", ""), url)
            if url is None:
                break
        cut_short = answer.status == 200 and answer.body is None
        if cut_short or answer.status is None or answer.status == 429 or answer.status >= 500:
            return None, answer.problem
        rules = RobotRules((answer.body or b"").decode("utf-8", errors="replace"), ROBOT)
        self.delay = max(self.delay, rules.delay)
        return rules, None
