"""Addresses in one form, robots.txt as the RFC reads it, bytes as text, and pages as paragraphs and links."""

import gzip
import time

import pytest
from bs4 import BeautifulSoup
from for_tests import shared
from robot_rules import RobotRules
from web_address import Scope, normalise
from web_page import decode, read_page

PAGE = "http://host/a/b/page.html"


def read(html, **settings):
    return read_page(html if isinstance(html, bytes) else html.encode("utf-8"), PAGE, **settings)


# ---- addresses

@pytest.mark.parametrize("link, address", [
    ("HTTP://HOST:80/", "http://host/"),
    ("https://host:443", "https://host/"),
    ("http://host:8080/x", "http://host:8080/x"),
    ("http://host:/x", "http://host/x"),
    ("#part", PAGE),
    ("other.html#part", "http://host/a/b/other.html"),
    ("../c/./d/../e", "http://host/a/c/e"),
    ("http://host/a/../../b/.", "http://host/b/"),
    ("http://host/x/%2E%2e/y", "http://host/y"),
    ("/%7euser/%e4%2f", "http://host/~user/%E4%2F"),
    ("/a b/ü", "http://host/a%20b/%C3%BC"),
    ("/100%", "http://host/100%25"),
    ("?b=2&a=1", "http://host/a/b/page.html?b=2&a=1"),
    ("/x?q=%c3%bc&r=a%26b", "http://host/x?q=%C3%BC&r=a%26b"),
    ("//other/x", "http://other/x"),
    ("http://bücher.example/", "http://xn--bcher-kva.example/"),
    ("http://[::1]:80/x", "http://[::1]/x"),
    ("  /x\n y ", "http://host/x%20y"),
])
def test_an_address_has_one_form(link, address):
    assert normalise(link, PAGE) == address
    assert normalise(address) == address, "normalising twice changes it: pages would come twice"


@pytest.mark.parametrize("kept_apart", [
    ("/x", "/x/"), ("/X", "/x"), ("/a//b", "/a/b"), ("/a%2Fb", "/a/b"), ("/x?a=1&b=2", "/x?b=2&a=1"),
    ("/x?a=%26", "/x?a=&"), ("/x?A", "/x?a"),
])
def test_addresses_that_may_be_different_pages_stay_different(kept_apart):
    assert len({normalise(link, PAGE) for link in kept_apart}) == 2, "more is normalised than RFC 3986 calls safe"


@pytest.mark.parametrize("link", [
    "http://[bad", "mailto:a@b", "javascript:void(0)", "data:text/html,x", "tel:1", "ftp://host/x",
    "http://host:99999/", "http://host:x/", "http://user:secret@host/", "http://ho st/", "http://" + "ü" * 70 + ".de/",
    "http://\x00/", "http://]", "file:///etc/passwd",
])
def test_what_is_no_web_page(link):
    assert normalise(link, PAGE) is None


@pytest.mark.parametrize("start, inside, outside", [
    ("http://host/", "http://host/any/x", "http://other/"),
    ("http://host/docs/", "http://host/docs/x", "http://host/docs2/x"),
    ("http://host/docs", "http://host/docs/x", "http://host/docs2"),
    ("http://host/docs/index.html", "http://host/docs/x/y", "http://host/x"),
    ("http://host/", "http://host/a/a/a/x", "http://host/" + "a/b/" * 4),
    ("http://host/", "http://host/x", "http://host/" + "x" * 2000),
    ("http://host/", "http://host/x", "http://host:8080/x"),
    ("https://host/", "http://host/x", "http://host:80443/x"),
])
def test_a_crawl_keeps_to_its_folder(start, inside, outside):
    scope = Scope(start)
    assert scope.on_site(inside) and scope.reason_to_leave_out(scope.on_site(inside)) is None
    assert not scope.on_site(outside) or scope.reason_to_leave_out(outside)


# ---- robots.txt

@pytest.mark.parametrize("rules, path, allowed", [
    ("", "/x", True),
    ("User-agent: *\nDisallow: /", "/x", False),
    ("User-agent: *\nDisallow:", "/x", True),
    ("user-AGENT : *\r\nDISALLOW: /x # why\r\n", "/x1", False),
    ("User-agent: *\nAllow: /page/\nDisallow: /page/no.gif", "/page/no.gif", False),
    ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", True),  # the longest, not the first
    ("User-agent: *\nDisallow: /a\nAllow: /a", "/a", True),  # between equals, the one that allows
    ("User-agent: *\nDisallow: /*.gif$", "/a/b.gif", False),
    ("User-agent: *\nDisallow: /*.gif$", "/a/b.gif?x", True),
    ("User-agent: *\nDisallow: /a*z", "/a/b/zoo", False),
    ("User-agent: *\nDisallow: /*?", "/a?b", False),
    ("User-agent: *\nDisallow: /*?", "/ab", True),
    ("User-agent: *\nDisallow: /[ab]", "/a", True),
    ("User-agent: *\nDisallow: /%7ejoe", "/~joe/x", False),
    ("User-agent: *\nDisallow: /ü", "/%C3%BC", False),
    ("User-agent: *\nDisallow: /\n\nUser-agent: ROBOT/2.0\nDisallow: /private", "/x", True),
    ("User-agent: robot\nUser-agent: other\nDisallow: /x", "/x", False),
    ("User-agent: other\nDisallow: /\n", "/x", True),
    ("User-agent: robot\nDisallow: /a\nUser-agent: b\nDisallow: /\nUser-agent: robot\nDisallow: /c", "/c", False),
    ("\ufeffUser-agent: *\nDisallow: /x", "/x", False),
    ("Disallow: /\n<html>no rules</html>", "/x", True),
])
def test_robots_txt_is_read_as_rfc_9309_says(rules, path, allowed):
    assert RobotRules(rules, "robot").allows(normalise(f"http://host{path}")) is allowed


def test_crawl_delay():
    rules = "User-agent: *\nCrawl-delay: {}\n"
    assert RobotRules(rules.format("2.5"), "robot").delay == 2.5
    assert RobotRules(rules.format("1e9"), "robot").delay == 0, "a number that robots.txt does not know"
    assert RobotRules(rules.format("9" * 400), "robot").delay == 86_400
    assert RobotRules("User-agent: other\nCrawl-delay: 9", "robot").delay == 0


def test_hostile_wildcards_take_no_time():
    rules = RobotRules("User-agent: *\nDisallow: /" + "*a" * 200 + "b$", "robot")
    began = time.perf_counter()
    assert rules.allows("http://host/" + "a" * 1900)
    assert time.perf_counter() - began < 5, "wildcards are tried in every combination"


# ---- charset

@pytest.mark.parametrize("body, header, text", [
    ("é".encode(), "utf-8", "é"),
    ("é".encode("latin-1"), "iso-8859-1", "é"),
    (b"\x93quoted\x94", "iso-8859-1", "“quoted”"),  # browsers: Latin-1 means windows-1252
    (b'<meta charset="utf-8">\xe9', "latin-1", '<meta charset="utf-8">é'),  # the header's word comes before the page's
    (b'<meta charset="windows-1251">\xe9', None, '<meta charset="windows-1251">й'),
    (b'<meta http-equiv="content-type" content="text/html; charset=koi8-r">\xc1', None,
     '<meta http-equiv="content-type" content="text/html; charset=koi8-r">а'),
    (b"<?xml version='1.0' encoding='iso-8859-2'?>\xb1", None, "<?xml version='1.0' encoding='iso-8859-2'?>ą"),
    (b"<!-- <meta charset='koi8-r'> -->\xc3\xa9", None, "<!-- <meta charset='koi8-r'> -->é"),
    (b"\xef\xbb\xbf\xc3\xa9", "latin-1", "é"),
    ("\ufeffé".encode("utf-16-le"), "utf-8", "é"),
    ("é".encode(), "no-such-charset", "é"),
    ("é".encode(), "rot13", "é"),
    ("é".encode(), "punycode", "é"),
    (b'<meta charset="utf-16">\xc3\xa9', None, '<meta charset="utf-16">é'),
    ("é".encode(), None, "é"),
    (b"\xe9", None, "é"),
    (b"\xff\xe9", "utf-8", "\ufffd\ufffd"),
])
def test_bytes_are_read_in_the_right_charset(body, header, text):
    assert decode(body, header) == text


# ---- text

@pytest.mark.parametrize("html, text", [
    ("<p>One\n  two.</p><p>Three.</p>", "One two.\n\nThree."),
    ("<p>One<p>Two", "One\n\nTwo"),
    ("a<b>b</b>c <i> d</i>", "abc d"),
    ("<h1>Title</h1>text", "Title\n\ntext"),
    ("one<br>two<br><br>three", "one\ntwo\n\nthree"),
    ("<p>x</p><pre>\n  if a:\n\n      b()\n</pre><p>y</p>", "x\n\n  if a:\n\n      b()\n\ny"),
    ("<pre><span>a</span> <b>=</b>  1<br>b</pre>", "a =  1\nb"),
    ("<ul><li>a<li><p>b</p><ul><li>c</li></ul></li></ul>d", "- a\n- b\n\n  - c\n\nd"),
    ("<ol><li>a</li><li></li><li>c</li></ol>", "1. a\n3. c"),
    ("<dl><dt>a<dd><p>b</p><dt>c<dd>d</dl>", "a\nb\n\nc\nd"),
    ("<table><tr><th>a</th><th>b</th></tr><tr><td><p>1</p></td><td></td><td><p>3</p></td></tr></table>x",
     "a | b\n1 | 3\n\nx"),
    ("<table><tr><td>1<td>2<tr><td>3<td>4</table>", "1 | 2\n3 | 4"),
    ("<table><tr><td><h1>T</h1><p>one</p></td><td><p>two</p></td></tr></table>", "T\n\none\n\ntwo"),
    ("<title>no</title><script>no</script><style>no</style><!-- no --><noscript>no</noscript>yes", "yes"),
    ("<header>no</header><nav>no</nav><aside>no</aside><form>no</form><p>yes</p><footer>no</footer>", "yes"),
    ('<div role="navigation">no</div><div hidden>no</div><p>yes</p>', "yes"),
    ("<body>no<main><header><h1>yes</h1></header>and yes</main>no", "yes\n\nand yes"),
    ('<p>no</p><div role="main">yes</div>', "yes"),
    ("<main></main><p>yes</p>", "yes"),
    ("<body><form><p>The whole page is a form.</p><input></form></body>", "The whole page is a form."),
    ("<h1>Title<a href='#t'>¶</a></h1>", "Title"),
    ("a&nbsp;b &lt;p&gt; &amp; &#233; &#xD800;\x00\x07", "a b <p> & é \ufffd"),
    ("", ""),
    ("<p>unclosed <b>and <i>crossed</b></i> <tag", "unclosed and crossed"),
])
def test_text_of_a_page(html, text):
    assert read(html).text == text


def test_the_words_of_a_real_page_in_order():
    """Against another way to the same words: all strings of the body's <div role="main">, without layout."""
    body = shared("website/python-docs-subset/tutorial/classes.html").read_bytes()
    page = read(body)
    main = BeautifulSoup(body, "html.parser").find("div", role="main")
    for left_out in main.select("a.headerlink, aside"):
        left_out.decompose()
    words = "".join(main.get_text().split())
    ours = "".join(line.lstrip("- ") if line.startswith("- ") else line for line in page.text.splitlines())
    assert "".join(ours.split()) == words, "words are lost, doubled or in another order"
    assert page.title == "9. Classes — Python 3.11.2 documentation"
    assert "\n\nThe simplest form of class definition looks like this:\n\nclass ClassName:\n    <sta" in page.text


@pytest.mark.parametrize("tag", ["div", "a", "td", "li", "ul", "pre", "table", "b", "form", "blockquote"])
def test_deep_nesting_neither_fails_nor_hangs(tag):
    began = time.perf_counter()
    assert "deep" in read(f"<{tag}>" * 5_000 + "deep").text, "nested deeper than Python's stack"
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("opening", ["<!--", "<a ", "<"])
def test_what_is_never_closed_does_not_hang(opening):
    began = time.perf_counter()
    assert read("kept<br>" + opening * 30_000).text == "kept"
    assert time.perf_counter() - began < 10, "the parser looks for the end from every beginning"


# ---- links and wishes

def test_links():
    page = read("""<base href="/base/"><base href="/second/"><a href="a">1</a><a href="a#x">2</a><area href="b">
        <a href="c" rel="external NoFollow">3</a><a href="http://[bad">4</a><a href="mailto:x@y">5</a><a>6</a>
        <a href="">7</a><meta http-equiv="Refresh" content="3; URL='d'"><frame src="e">
        <link rel="canonical" href="f">""")
    assert page.links == [f"http://host/base/{name}" for name in ("a", "b", "", "e", "d")]
    assert page.not_followed == {"nofollow": 1, "no web page": 2}
    assert page.canonical == "http://host/base/f"
    assert read("<base href='http://[bad'><a href=x>").links == ["http://host/a/b/x"]


@pytest.mark.parametrize("html, headers, noindex, nofollow", [
    ("", [], False, False),
    ("<meta name=robots content='noindex'>", [], True, False),
    ("<META NAME=Robots CONTENT='NOFOLLOW, noarchive'>", [], False, True),
    ("<meta name=robots content=none>", [], True, True),
    ("<meta name=robot content=noindex>", [], True, False),
    ("<meta name=otherbot content=none>", [], False, False),
    ("", ["noindex, nofollow"], True, True),
    ("", ["otherbot: noindex", "robot: nofollow"], False, True),
])
def test_what_a_page_asks_of_robots(html, headers, noindex, nofollow):
    page = read(f"{html}<a href=x>y</a>", robots_headers=headers, robot="robot")
    assert (page.noindex, page.nofollow) == (noindex, nofollow)
    assert page.links == ([] if nofollow else ["http://host/a/b/x"])


def test_random_bytes_are_a_page_too():
    for seed in range(20):
        read(gzip.compress(bytes([seed]) * 5000) + b"<p><![<a href=\xff></p" + bytes(range(256)))
