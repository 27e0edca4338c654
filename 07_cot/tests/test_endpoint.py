"""Our client against a server that fails in every way that servers do."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import endpoint
import pytest
from chat_data import said
from endpoint import Endpoint
from engine import Reply, Request
from flags import UserError
from for_tests import ROOT, heed_ctrl_c
from scripted_server import event, fails, half, hangs_up, raw, says, slow, streams
from server_answers import address

KEY = "sk-very-secret-456"
HELLO, BYE = [said("user", "hello")], [said("user", "bye")]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def engine(server, **settings):
    return Endpoint(server.url, "m", **{"first_wait": 0.001, "timeout": 5, **settings})


# ---- what passes is tried again ----


@pytest.mark.parametrize("failure", [
    fails(429), fails(429, Retry_After="0"), fails(500), fails(503, Retry_After="soon"), fails(408),
    lambda handler, body: handler.send(b"<html>Bad Gateway</html>", 502), hangs_up, half, slow, raw(""),
    raw("<html>hello</html>"), raw('{"choices": [{"message'), raw("[]"), raw("{}"), raw('{"choices": []}'),
    raw('{"choices": [{}]}'), raw('{"choices": [{"message": {"content": 5}}]}'), raw('{"error": {"message": "busy"}}'),
])
def test_what_passes(serving, failure):
    server = serving(failure, failure, says("hi"))
    there = engine(server, timeout=0.5 if failure is slow else 60)
    assert there.replies([HELLO], Request()) == [[Reply("hi", 7)]]
    assert len(server.asked) == 3 or failure is slow and len(server.asked) > 3
    assert len({str(body) for body in server.bodies()}) == 1


@pytest.mark.slow
def test_waits(serving, monkeypatch):
    """They double, with jitter; what the server asks for is waited for at least; not for ever."""
    waits = []
    monkeypatch.setattr(endpoint.time, "sleep", waits.append)
    for _ in range(20):
        with pytest.raises(UserError, match="no answer in 5 attempts, at last: 500: no; check that it runs"):
            engine(serving(fails(500)), first_wait=1).replies([HELLO], Request())
    for attempt in range(4):
        own = waits[attempt::4]
        assert all(0.5 * 2**attempt <= wait <= 2**attempt for wait in own) and len(set(own)) > 1
    waits.clear()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    engine(serving(fails(429, Retry_After="7"), fails(503, Retry_After=date), says("hi"))).replies([HELLO], Request())
    assert 7 <= waits[0] < 8 and 50 < waits[1] < 61
    with pytest.raises(UserError, match=r"1 attempts, .*asks to wait 3,600 s"):
        engine(serving(fails(429, Retry_After="3600"))).replies([HELLO], Request())
    assert len(waits) == 2


def test_nobody_is_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match="in 2 attempts, at last: no connection"):
        Endpoint(url, attempts=2, first_wait=0.001)


# ---- what does not pass ends at once ----


@pytest.mark.parametrize(("failure", "cure"), [
    (fails(400, "too long"), "refuses the request: 400: too long"), (fails(404, "no m"), "no such model .404: no m."),
    (fails(401), "put its key into OPENAI_API_KEY"), (fails(403, "not your country"), "403: not your country"),
    (fails(413), "refuses the request"), (lambda handler, body: handler.send(b"<html>", 422), "the request: 422$"),
    (fails(307, Location="http://user:password@elsewhere.example/v1"), "sends on to elsewhere.example: if you trust"),
    (fails(301, Location="/v2"), "sends on to another page"),
])
def test_what_does_not_pass(serving, failure, cure):
    server = serving(failure)
    with pytest.raises(UserError, match=cure) as error:
        engine(server).replies([HELLO], Request())
    assert len(server.asked) == 1 and "password" not in str(error.value)


def test_the_first_failure_ends_all(serving):
    """Whichever it is: nobody waits for those that are under way, and no other is asked."""
    over = threading.Event()
    server = serving(fails(401), lambda handler, body: over.wait(60))
    with pytest.raises(UserError, match="lets only some in"):
        engine(server, concurrency=2, timeout=60).replies([HELLO] * 50, Request())
    assert not over.is_set() and len(server.asked) <= 3
    over.set()


@pytest.mark.parametrize(("url", "found"), [
    ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"), ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
    ("https://a.example/openai/v1", "https://a.example/openai/v1"), ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ("https://a.example/v1beta/openai/", "https://a.example/v1beta/openai"), ("http://a/llm", "http://a/llm/v1"),
    ("http://a:1/v1/chat/completions", "http://a:1/v1"),
])
def test_addresses(url, found):
    assert address(url) == found


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a", "http://", "", "http://me:sesame@a/v1", "http://a@b",
                                 "https://a/v1?key=sesame", "https://a/v1#sesame", "http://a:port"])
def test_no_addresses(url):
    with pytest.raises(UserError, match="an endpoint is an address such as") as error:
        Endpoint(url)
    assert "sesame" not in str(error.value)


def test_models(serving):
    server = serving(lambda handler, body: handler.send({"data": [{"id": "first"}, {"id": "second"}]}))
    assert Endpoint(server.url).name == Endpoint(server.url + "/v1/").name == "first"
    assert [path for path, _, _ in server.asked] == ["/v1/models"] * 2
    with pytest.raises(UserError, match="offers no model: name one"):
        Endpoint(serving(lambda handler, body: handler.send({"data": []})).url)


# ---- the key ----


def test_the_key_is_sent_and_never_shown(serving, monkeypatch, capsys):
    """Not even if a server repeats it in what it says; not to another host; in no other place than its header."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    other = serving(says("hi"))
    shown = []
    for failure in (fails(401, f"wrong key {KEY}"), fails(400, KEY), fails(500, KEY), fails(404, KEY),
                    fails(307, Location=f"{other.url}/v1/chat/completions?key={KEY}"),
                    fails(302, Location=f"http://{KEY}/"), streams(f'data: {{"error": {{"message": "{KEY}"}}}}\n\n')):
        server = serving(failure)
        for streams_ in (False, True):
            there = engine(server, attempts=2)
            with pytest.raises(UserError) as error:
                list(there.pieces(HELLO, Request())) if streams_ else there.replies([HELLO], Request(2))
            shown.append(f"{error.value} {engine(server)!r}")
        for path, headers, body in server.asked:
            assert headers.pop("Authorization") == f"Bearer {KEY}"
            assert KEY not in f"{path} {headers} {body}"
    assert other.asked == [], "a redirect was followed"
    assert KEY not in " ".join(shown) + "".join(capsys.readouterr())
    assert any("wrong key (the key)): set OPENAI_API_KEY to one that it takes" in line for line in shown)
    monkeypatch.setenv("OTHER", "a\nb")
    with pytest.raises(UserError, match="OTHER is no key") as error:
        engine(other, key_name="OTHER")
    assert "a\nb" not in str(error.value)


def test_no_other_key_is_looked_for(serving, monkeypatch, tmp_path):
    """requests reads ~/.netrc where it is not told what to sign with."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serving(says("hi"))
    engine(server).replies([HELLO], Request())
    assert "Authorization" not in server.asked[0][1]


# ---- samples ----


def refuses_n(handler, body):
    fails(400, "Only one completion choice is allowed")(handler, body) if "n" in body else says("one")(handler, body)


@pytest.mark.parametrize(("turn", "requests_"), [
    (lambda handler, body: says(*["one"] * body["n"], tokens=20)(handler, body), 2),
    (says("one"), 6), (refuses_n, 8), (says("one", "two", "three", "four", "five"), 2),
])
def test_samples(serving, turn, requests_):
    """At once, or one by one where a server ignores or refuses n, with a seed each; never too many."""
    server = serving(turn)
    found = engine(server, concurrency=1).replies([HELLO, BYE], Request(3, seed=2**63 - 2))
    assert [len(each) for each in found] == [3, 3] and len(server.asked) in (requests_, requests_ - 1)
    own = [body["seed"] for body in server.bodies() if body["messages"] == BYE and body.get("n", 1) == 1]
    assert len(set(own)) == len(own) and max(own, default=0) < 2**63
    if requests_ == 2:
        assert [body["n"] for body in server.bodies()] == [3, 3]


def test_what_is_asked(serving):
    server = serving(says("hi"))
    engine(server).replies([HELLO], Request(1, 9, 0.5, 0.9, ("a", "b", "c", "d", "e"), 3))
    assert server.bodies() == [{"model": "m", "messages": HELLO, "max_tokens": 9, "temperature": 0.5, "seed": 3,
                                "top_p": 0.9, "stop": ["a", "b", "c", "d"]}]


def test_requests_at_once(serving):
    """As many as are allowed, and no more; replies come in the order of the questions, whoever is first."""
    under_way, most, full = [], [], threading.Event()

    def turn(handler, body):
        under_way.append(body)
        most.append(len(under_way))
        if len(under_way) == 3:
            full.set()
        full.wait(5)
        time.sleep(0.002 * (7 - int(body["messages"][0]["content"])))
        under_way.remove(body)
        says(body["messages"][0]["content"])(handler, body)

    found = engine(serving(turn), concurrency=3).replies([[said("user", str(i))] for i in range(7)], Request())
    assert [reply.text for (reply,) in found] == [str(i) for i in range(7)]
    assert max(most) == 3


@pytest.mark.parametrize(("message", "sent", "left"), [
    ("Unsupported parameter: use 'max_completion_tokens' instead", "max_tokens", "max_completion_tokens"),
    ("'response_format.type' must be 'text'", "response_format", None), ("body: seed: extra_forbidden", "seed", None),
])
def test_what_a_server_does_not_know_is_left_out(serving, message, sent, left, capsys):
    def turn(handler, body):
        fails(400, message)(handler, body) if sent in body else says("hi")(handler, body)

    server = serving(turn)
    there = engine(server, extra={"response_format": {"type": "json_object"}})
    for _ in range(2):
        assert there.replies([HELLO], Request())[0][0].text == "hi"
    assert len(server.asked) == 3 and (left is None or left in server.bodies()[-1])
    assert capsys.readouterr().err.count("it is asked without") == (left is None), "told, and once"


# ---- what a reply is ----


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts(serving, name):
    """They stand before the text, and a stop in them is none; one that nothing follows is not closed."""
    there = engine(serving(says("so 5 END never", **{name: "2 END 3"})))
    assert there.replies([HELLO], Request(stop=("END",)))[0][0].text == "<think>2 END 3</think>so 5 "
    there = engine(serving(says(None, reason="length", **{name: "2 and"})))
    assert there.replies([HELLO], Request())[0][0] == Reply("<think>2 and", 7, ended=False)
    there = engine(serving(streams(event(**{name: "2 "}), event(**{name: "3"}), event("so "), event("5", "stop"))))
    assert list(there.pieces(HELLO, Request())) == ["<think>", "2 ", "3", "</think>", "so ", "5", ""]


def test_tokens(serving, capsys):
    """Shares of their sum; nothing is estimated."""
    there = engine(serving(says("a", "b", "c", tokens=11)))
    assert [reply.tokens for reply in there.replies([HELLO], Request(3))[0]] == [4, 4, 3]
    there = engine(serving(says("a", tokens=None)))
    assert [there.replies([HELLO], Request())[0][0].tokens for _ in range(3)] == [0, 0, 0]
    assert capsys.readouterr().err.count("they count as 0") == 1


# ---- streams ----


def test_a_stream(serving):
    """Comments and empty lines are none of it; it ends with [DONE] or with a reason."""
    for end in ("data: [DONE]\n\n", event("", "length"), event("", "stop") + "data: [DONE]\n\n"):
        server = serving(streams(": alive\n\n", event("", role="assistant"), event("he"), "\r\n", event("llo Ж"), end))
        assert "".join(engine(server).pieces(HELLO, Request())) == "hello Ж"
        assert server.bodies()[0]["stream"] is True


@pytest.mark.parametrize("failure", [
    streams(event("he")), streams(), streams(event("he"), 'data: {"choices": [{"del'), fails(503), hangs_up,
    streams(event("he"), 'data: {"error": {"message": "out of memory"}}\n\n'),
    lambda handler, body: handler.send(event("he").encode(), Content_Length="500", Connection="close"),
])
def test_a_cut_stream_goes_on(serving, failure):
    whole = streams(event("h"), event("ello"), event(" you", "stop"))
    pieces = list(engine(serving(failure, whole)).pieces(HELLO, Request()))
    assert "".join(pieces) == "hello you", "is something said twice?"


def test_a_cut_stream_that_says_something_else(serving):
    server = serving(streams(event("he")), streams(event("good bye", "stop")))
    with pytest.raises(UserError, match="cut its stream, and then said something else"):
        list(engine(server).pieces(HELLO, Request()))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_ctrl_c_waits_for_no_server(serving):
    """Eight requests hang for as long as the test lets them; the script ends nevertheless."""
    asked, over = threading.Event(), threading.Event()

    def turn(handler, body):
        asked.set()
        over.wait(120)

    folders = [str(ROOT / folder) for folder in ("07_cot", "checkpoints")]
    program = (f"import sys; sys.path[:0] = {folders}; import endpoint, engine, flags; "
               f"there = endpoint.Endpoint({serving(turn).url!r}, 'm'); "
               "flags.run(lambda: there.replies([[]] * 20, engine.Request()))")
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "preexec_fn": heed_ctrl_c}
    with subprocess.Popen([sys.executable, "-c", program], **settings) as process:
        while not asked.wait(0.1):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        try:
            _, failure = process.communicate(timeout=60)
        finally:
            process.kill()
            over.set()
    assert process.returncode == 130 and "Traceback" not in failure
