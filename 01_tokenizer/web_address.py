"""One name for each web page: addresses in a normal form, and the part of a site that a crawl keeps to."""

import re
from collections import Counter
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")
ALLOWED = "/:@!$&'()*+,;=~?%"  # the characters of paths and queries that stand for themselves
LONGEST = 2000  # characters; longer addresses are made by programs, for programs
REPEATED = 3  # how often a path may go through folders of one name; /a/b/a/b/a/b/a/b is a link that feeds itself


def escapes(text):
    """Percent-encode what must be, in capitals, and nothing else: "%7ea%2f b" -> "~a%2F%20b"."""

    def normal(match):
        character = chr(int(match[1], 16))
        return character if UNRESERVED.fullmatch(character) else match[0].upper()

    text = re.sub(r"%(?![0-9a-fA-F]{2})", "%25", text)
    return quote(re.sub(r"%([0-9a-fA-F]{2})", normal, text), safe=ALLOWED, errors="replace")


def without_dots(path):
    """Walk the path: "/a/b/../c/./d" -> "/a/c/d" (RFC 3986, section 5.2.4)."""
    walked = []
    steps = path.split("/")[1:]
    for step in steps:
        if step == "..":
            del walked[-1:]
        elif step != ".":
            walked.append(step)
    if steps[-1:] in (["."], [".."]):  # they mean a folder
        walked.append("")
    return "/" + "/".join(walked)


def normalise(link, page=""):
    """The normal form of a link on a page, or None where it leads to no web page.

    Only what RFC 3986 (section 6.2) calls safe: the case of scheme, host and escapes, needless
    escapes, dot segments, the default port, the empty path; the fragment goes. A query keeps its order.
    "HTTP://Host:80/a/../%7euser#top" -> "http://host/~user"
    """
    try:
        parts = urlsplit(urljoin(page, re.sub(r"[\t\r\n]", "", link.strip())))
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except ValueError:  # "http://[bad", a port of 99999, a host that no name server can know
        return None
    if parts.scheme not in DEFAULT_PORTS or not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", host) or "@" in parts.netloc:
        return None
    if ":" in host:
        host = f"[{host}]"
    if port not in (None, DEFAULT_PORTS[parts.scheme]):
        host = f"{host}:{port}"
    return urlunsplit((parts.scheme, host, without_dots(escapes(parts.path)), escapes(parts.query), ""))


class Scope:
    """The site of an address, and the folder on it if it names one: "https://host/docs/" keeps to /docs/..."""

    def __init__(self, start):
        parts = urlsplit(start)
        folder, _, last = parts.path.rpartition("/")
        self.site = f"{parts.scheme}://{parts.netloc}"
        self.folder = f"{folder}/" if not last or re.search(r"\.[A-Za-z]\w*$", last) else f"{parts.path}/"

    def __str__(self):
        return self.site + self.folder

    def on_site(self, url):
        """The address, if it is on the site; http becomes https on a site that is crawled by https (RFC 6797)."""
        secure = url.replace("http://", "https://", 1)
        return next((each for each in (url, secure) if "/".join(each.split("/")[:3]) == self.site), None)

    def reason_to_leave_out(self, url):
        """Why an address of the site is none of the crawl's business, or None."""
        path = urlsplit(url).path
        if not f"{path}/".startswith(self.folder):
            return f"outside {self.folder}"
        steps = Counter(step for step in path.split("/") if step)
        if len(url) > LONGEST or max(steps.values(), default=0) > REPEATED:
            return "endless address"
        return None
