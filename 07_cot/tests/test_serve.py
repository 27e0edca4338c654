"""Our server against raw requests, our own client, OpenAI's client; and our client against transformers' server."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests
import torch
from chat_data import said
from endpoint import Endpoint
from engine import LocalEngine, Request
from flags import UserError
from for_tests import ROOT, heed_ctrl_c, oracle, refuse
from gpt import GPT, GPTConfig
from pretrained import export, load_pretrained
from sampling import Sampling, complete
from serve import CHAT, MOST_BYTES, TEXT, Server
from tokenizer import BPETokenizer

CHATTY = ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
          "{% if add_generation_prompt %}<|assistant|>{% endif %}")
SCRIPT = "07_cot/serve.py"
ON_WINDOWS = os.name == "nt"


def tiny(block_size=64):
    """A small Llama that says many different things, and its tokenizer."""
    torch.manual_seed(0)
    tokenizer = BPETokenizer()
    tokenizer.train("to be, or not to be: that is the question. " * 3, 280)
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, block_size, 2, 2, positions="rotary", norm="rms_norm",
                          attention="grouped_query", key_value_head_count=2, feed_forward="swiglu", bias="none",
                          tied_head=False))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)  # sure of something, so that texts differ
    return model, tokenizer.with_chat_template(CHATTY)


def started(engine, **settings):
    server = Server(engine, port=0, **settings)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture(scope="module")
def engine():
    return LocalEngine("tiny", *tiny())


@pytest.fixture
def server(engine):
    server = started(engine)
    yield server
    server.shutdown()
    server.end()


def ask(*questions):
    return [[said("user", question)] for question in questions]


def post(server, body, path=CHAT, **headers):
    """(status, answer, headers) of a raw request; a body that is no text is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    connection.request("POST", path, data, headers)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read()), response.headers
    connection.close()
    return answer


def wait_for(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def chat(**fields):
    return {"messages": [{"role": "user", "content": "to be?"}], "max_tokens": 4, **fields}


# ---- our client and our server ----


@pytest.mark.parametrize("request_", [
    Request(max_new_tokens=12), Request(3, 12, 1.0, seed=5), Request(2, 30, 0.9, 0.8, seed=2**63 - 1),
    Request(4, 30, 1.0, stop=("e", "to"), seed=3),
])
def test_a_served_model_says_what_it_says_here(engine, server, request_):
    """Same template, same seeds, same ends: only the tokens of several samples are known by their sum."""
    questions = ask("to be?", "that", "is the question not?", "Ж🙂")
    here, there = engine.replies(questions, request_), Endpoint(server.url).replies(questions, request_)
    for ours, theirs in zip(here, there, strict=True):
        assert [(each.text, each.ended) for each in ours] == [(each.text, each.ended) for each in theirs]
        assert sum(each.tokens for each in ours) == sum(each.tokens for each in theirs)
        assert max(each.tokens for each in theirs) - min(each.tokens for each in theirs) <= 1
    if request_.samples > 1:
        assert len({reply.text for reply in there[0]}) > 1, "samples of a question must differ"


@pytest.mark.parametrize("stop", [(), ("e",), ("to", "be,")])
def test_a_stream_is_the_reply(engine, server, stop):
    request = Request(max_new_tokens=30, temperature=1.0, stop=stop)
    ((reply,),) = engine.replies(ask("that is"), request)
    pieces = list(Endpoint(server.url).pieces(ask("that is")[0], request))
    assert "".join(pieces) == reply.text
    assert len(pieces) > 1 or stop


def test_a_stream_tells_its_end_and_its_usage(server):
    body = chat(seed=1, temperature=0, stream=True, n=2, stream_options={"include_usage": True})
    response = requests.post(server.url + "/chat/completions", json=body, timeout=60)
    assert response.headers["Content-Type"] == "text/event-stream"
    *events, done = re.findall(r"^data: (.*)\n\n", response.text, re.MULTILINE)
    *events, usage = [json.loads(event) for event in events]
    whole = post(server, chat(seed=1, temperature=0, n=2))[1]
    assert done == "[DONE]" and usage["usage"] == whole["usage"] and usage["choices"] == []
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    for i, choice in enumerate(whole["choices"]):
        own = [event["choices"][0] for event in events if event["choices"][0]["index"] == i]
        assert "".join(each["delta"]["content"] for each in own) == choice["message"]["content"]
        assert [each["finish_reason"] for each in own][-1] == choice["finish_reason"] == "length"


def test_plain_texts_go_on(engine, server):
    _, answer, _ = post(server, {"prompt": "to be", "max_tokens": 5, "temperature": 0}, TEXT)
    ids = engine.tokenizer.encode("to be")
    (text,) = complete(engine.model, [ids], 5, Sampling(0.0, stop_tokens=engine.ends))
    assert answer["object"] == "text_completion" and answer["choices"][0]["text"] == engine.tokenizer.decode(text.ids)
    assert answer["usage"]["prompt_tokens"] == len(ids)
    assert post(server, {"prompt": "", "max_tokens": 1}, TEXT)[0] == 200


def test_seeds(server):
    """The same seed says the same; none says something else each time."""
    said_ = [post(server, chat(seed=seed, max_tokens=20))[1]["choices"] for seed in (1, 1, 2, None, None, None)]
    assert said_[0] == said_[1] and said_[1] != said_[2]
    assert not said_[3] == said_[4] == said_[5]


# ---- what is refused ----


@pytest.mark.parametrize(("body", "status", "words"), [
    ("{", 400, "JSON object"), ("[]", 400, "JSON object"), ("[" * 100_000, 400, "JSON object"),
    (b"\xff\xfe{", 400, "JSON object"), ({}, 400, "messages must be"), ({"messages": []}, 400, "messages must be"),
    ({"messages": ["hello"]}, 400, "messages must be"), ({"messages": [{"role": "wizard"}]}, 400, "with a role"),
    ({"messages": [{"role": "user"}]}, 400, "must be a text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "must be a text"),
    (chat(n=0), 400, "n must be a whole number from 1"), (chat(n=True), 400, "n must be"),
    (chat(n=10**6), 400, "to 64"), (chat(temperature=-1), 400, "temperature must be a number from 0 to 2"),
    (chat(temperature=float("nan")), 400, "temperature"), (chat(top_p=0), 400, "top_p"),
    (chat(max_tokens=0), 400, "max_tokens"), (chat(max_completion_tokens="9"), 400, "max_completion_tokens"),
    (chat(seed=-1), 400, "seed"), (chat(seed=1.5), 400, "seed"), (chat(stop=""), 400, "none of them empty"),
    (chat(stop=[1]), 400, "stop must be"), (chat(stream="yes"), 400, "stream must be"),
    (chat(tools=[{"type": "function"}]), 400, "tools is not offered"), (chat(logprobs=True), 400, "logprobs"),
    (chat(response_format={"type": "json_object"}), 400, "response_format"),
    (chat(model="gpt-4o"), 404, "it is tiny"), (chat(messages=ask("a " * 100)[0]), 400, "make it shorter"),
])
def test_mistakes_of_clients(server, body, status, words):
    """OpenAI's form of an error, which names what is wrong; the server lives on."""
    found, answer, _ = post(server, body)
    assert (found, answer["error"]["type"]) == (status, "invalid_request_error") and words in answer["error"]["message"]
    assert post(server, chat(tools=[], logprobs=False, logit_bias=None, user="me"))[0] == 200


def test_characters_that_are_none(server):
    status, _, _ = post(server, '{"max_tokens": 2, "messages": [{"role": "user", "content": "\\ud800"}]}')
    assert status in (200, 400)
    assert post(server, '{"prompt": "\\ud800", "max_tokens": 2}', TEXT)[0] in (200, 400)


def test_other_pages_and_no_files(server):
    for path in ("/", "/v1", "/v1/chat", "/../../etc/passwd", "/v1/models/../../serve.py", "/v1/chat/completions/"):
        status, answer, _ = post(server, chat(), path)
        assert status == 404 and "no such page" in answer["error"]["message"]
    assert requests.get(server.url + "/chat/completions", timeout=60).status_code == 404
    assert requests.delete(server.url + "/models", timeout=60).status_code in (404, 411)
    answer = requests.get(server.url + "/models?x=1", timeout=60)
    assert [each["id"] for each in answer.json()["data"]] == ["tiny"]
    assert not [name for name in answer.headers if name.startswith("Access-Control")], "other websites may not read"


def test_lengths_of_bodies(server):
    """Too long, unknown, none: refused before a byte of it is read."""
    for headers, status in (({"Content-Length": str(MOST_BYTES + 1)}, 413), ({"Content-Length": "9" * 5000}, 413),
                            ({"Content-Length": "-1"}, 411), ({"Transfer-Encoding": "chunked"}, 411), ({}, 411)):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 %d " % status) and b'"error"' in answer


def test_a_connection_outlives_a_refusal(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    for path, status in (("/nothing", 404), (CHAT, 200), (CHAT, 200)):
        connection.request("POST", path, json.dumps(chat()))
        response = connection.getresponse()
        assert response.status == status and json.loads(response.read())
    connection.close()


def test_a_key(engine, capsys):
    server = started(engine, key="a secret")
    for header in ({}, {"Authorization": "Bearer a secre"}, {"Authorization": "Bearer \xff"}):
        status, answer, _ = post(server, chat(), **header)
        assert status == 401 and answer["error"]["code"] == "invalid_api_key"
        assert requests.get(server.url + "/models", headers=header, timeout=60).status_code == 401
    assert post(server, chat(), Authorization="Bearer a secret")[0] == 200
    server.shutdown()
    server.end()
    assert "a secret" not in "".join(capsys.readouterr())


# ---- one at a time ----


def test_too_many_are_sent_away_and_may_come_back(engine):
    server = started(engine, most_waiting=0)
    found = []
    with server.computing:  # somebody else's turn
        first = threading.Thread(target=lambda: found.append(post(server, chat())))
        first.start()
        wait_for(lambda: server.places._value == 0)
        status, answer, headers = post(server, chat())
        assert status == 429 and headers["Retry-After"] == "1" and answer["error"]["code"] == "rate_limit_exceeded"
    first.join()
    assert found[0][0] == 200 and post(server, chat())[0] == 200, "is a place given back?"
    server.shutdown()
    server.end()


@pytest.mark.parametrize("streams", [True, False])
def test_who_leaves_ends_the_computation(streams, capsys):
    """Of 100,000 tokens; if they were all computed, this test would take minutes, and the line be another one."""
    model, tokenizer = tiny(100_000)
    server = started(LocalEngine("long", model, tokenizer))
    server.engine.ends = ()
    connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=60)
    data = json.dumps(chat(max_tokens=100_000, stream=streams))
    connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n{data}".encode())
    wait_for(server.computing.locked)
    if streams:
        assert b"data: {" in connection.recv(65536) + connection.recv(65536)
    connection.close()
    printed = []
    wait_for(lambda: printed.append(capsys.readouterr().out) or "left," in "".join(printed))
    assert f"POST '/v1/chat/completions' {200 if streams else '-'}, left, " in "".join(printed)
    assert post(server, chat())[0] == 200
    server.shutdown()
    server.end()


# ---- the script ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny model as a folder that transformers reads, too."""
    folder = tmp_path_factory.mktemp("weights")
    export(*tiny(), folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(ON_WINDOWS, reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_the_script_and_ctrl_c(folder):
    words = [sys.executable, str(ROOT / SCRIPT), "-l", str(folder), "--port", "0", "--api_key_env", "KEY_FOR_TEST"]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "preexec_fn": heed_ctrl_c,
                "env": os.environ | {"KEY_FOR_TEST": "sk-secret-123"}}
    with subprocess.Popen(words, **settings) as process:
        line = next(line for line in process.stdout if "Ctrl-C" in line)
        url = re.search(r"at (http://127\.0\.0\.1:\d+/v1)", line)[1]
        header = {"Authorization": "Bearer sk-secret-123"}
        answer = requests.post(url + "/chat/completions", json=chat(), headers=header, timeout=60).json()
        assert answer["model"] == folder.name and len(answer["choices"]) == 1
        stream = requests.post(url + "/chat/completions", json=chat(stream=True, max_tokens=40), headers=header,
                               stream=True, timeout=60)
        next(stream.iter_lines())
        process.send_signal(signal.SIGINT)
        out, failure = process.communicate(timeout=60)
    assert process.returncode == 130 and failure.strip() == "serve.py: stopped"
    assert re.search(r"POST '/v1/chat/completions' 200 \d+ \+ \d+ tokens, [\d.]+ s", out)
    assert "secret" not in line + out


@pytest.mark.slow
def test_mistakes_of_its_user(engine, server):
    assert "holds no key" in refuse(SCRIPT, "--api_key_env", "NOT_THERE")
    for port in (server.server_port, 70_000):
        with pytest.raises(UserError, match="--port 0 takes any free one"):
            Server(engine, port=port)


# ---- others' clients and servers ----


def test_the_client_of_openai(engine, server):
    openai = oracle("openai")
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny"]
    asked = {"model": "tiny", "messages": ask("to be?")[0], "max_tokens": 12, "seed": 5, "temperature": 1.0}
    ((*expected,),) = engine.replies(ask("to be?"), Request(3, 12, 1.0, seed=5))
    answer = client.chat.completions.create(n=3, stop=None, **asked)
    assert [choice.message.content for choice in answer.choices] == [reply.text for reply in expected]
    assert answer.usage.completion_tokens == sum(reply.tokens for reply in expected)
    *pieces, end, usage = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
    assert "".join(piece.choices[0].delta.content for piece in pieces) == expected[0].text
    assert end.choices[0].finish_reason == ("stop" if expected[0].ended else "length")
    assert usage.usage.completion_tokens == expected[0].tokens
    text = client.completions.create(model="tiny", prompt="to be", max_tokens=3, temperature=0)
    assert text.choices[0].text and text.choices[0].finish_reason in ("length", "stop")
    with pytest.raises(openai.NotFoundError, match="it is tiny"):
        client.chat.completions.create(**asked | {"model": "other"})
    with pytest.raises(openai.BadRequestError, match="temperature must be"):
        client.chat.completions.create(**asked | {"temperature": 9})


@pytest.fixture(scope="module")
def transformers_server(folder):
    """The address of `transformers serve` with the tiny model."""
    for name in ("transformers", "fastapi", "uvicorn", "openai"):
        oracle(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", "--host",
             "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    (folder / "cache").mkdir()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url, began = f"http://127.0.0.1:{port}", time.monotonic()
        while True:
            if process.poll() is not None or time.monotonic() > began + 240:
                process.kill()
                pytest.fail("transformers serve does not start")
            try:
                requests.get(url + "/health", timeout=5)
                break
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.1)
        yield url
        process.kill()


@pytest.mark.slow
def test_the_server_of_transformers(folder, transformers_server, capsys):
    """It knows no n and tells no tokens; what is likeliest is the same in both, in float32, and in a stream."""
    model, tokenizer = load_pretrained(folder)
    here = LocalEngine("tiny", model, tokenizer)
    with pytest.raises(UserError, match="offers no model: name one"):  # it lists those of its cache
        Endpoint(transformers_server)
    there = Endpoint(transformers_server, str(folder), concurrency=1)
    questions, request = ask("to be?", "that"), Request(2, 16)
    expected, found = (each.replies(questions, request) for each in (here, there))
    assert [[reply.text for reply in each] for each in found] == [[reply.text for reply in each] for each in expected]
    assert all(reply.tokens == 0 for each in found for reply in each)
    assert capsys.readouterr().err.count("how many tokens") == 1
    pieces = list(there.pieces(questions[0], request))
    assert "".join(pieces) == expected[0][0].text and len(pieces) > 1
