"""A server that does as it is told: for tests of what clients make of answers, errors and silence."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else {}
        self.server.asked.append((self.path, dict(self.headers), body))
        try:
            self.server.turn(self, body)
        except OSError:  # who asked has gone
            self.close_connection = True

    do_POST = do_GET

    def send(self, answer, status=200, **headers):
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content_Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """The tests look at `asked` instead."""


class Script(ThreadingHTTPServer):
    """Answers with the next of some functions (handler, body); the last one goes on."""

    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def __init__(self, *turns):
        super().__init__(("127.0.0.1", 0), Handler)
        self.turns, self.asked, self.lock = list(turns), [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def turn(self, handler, body):
        with self.lock:
            turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        turn(handler, body)

    def handle_error(self, request, client_address):
        """Cut connections are meant."""

    def bodies(self):
        return [body for _, _, body in self.asked]


@pytest.fixture
def serving():
    started = []

    def start(*turns):
        started.append(Script(*turns))
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


# ---- its turns ----


def says(*texts, tokens=7, reason="stop", **message):
    choices = [{"index": i, "message": {"content": text, **message}, "finish_reason": reason}
               for i, text in enumerate(texts)]
    return lambda handler, body: handler.send({"choices": choices, "usage": {"completion_tokens": tokens}})


def fails(status, message="no", **headers):
    return lambda handler, body: handler.send({"error": {"message": message}}, status, **headers)


def hangs_up(handler, body):
    handler.connection.shutdown(socket.SHUT_RDWR)


def half(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"ind')
    handler.close_connection = True


def slow(handler, body):
    time.sleep(2)


def event(text="", reason=None, **delta):
    choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def streams(*events):
    return lambda handler, body: handler.send("".join(events).encode(), Content_Type="text/event-stream")


def raw(text):
    return lambda handler, body: handler.send(text.encode())
