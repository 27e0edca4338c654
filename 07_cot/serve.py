"""Offer a model over OpenAI's protocol, so that any chat client, or endpoint.py, can talk to it.

    python 07_cot/serve.py                      # the reasoner of this chapter, at http://127.0.0.1:8000/v1
    python 07_cot/serve.py -l smollm2 --port 0  # real weights, at a free port, which is printed

Knows /v1/models, /v1/chat/completions and /v1/completions. One request is computed at a time, others wait; a client
that leaves ends what is computed for it. What can't be done is refused, not ignored.
"""

import hmac
import json
import os
import secrets
import select
import socket
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from chat_request import Refusal, messages_in, request_in, text
from engine import generator, load_engine
from evaluation import autocast
from flags import UserError
from reasoner import ensure_reasoner
from sampling import Completion, stream
from writing import until

MOST_BYTES = 1 << 20  # of a request
MODELS, CHAT, TEXT = "/v1/models", "/v1/chat/completions", "/v1/completions"


class Server(ThreadingHTTPServer):
    """A thread for each connection; they take turns at the engine."""

    daemon_threads, block_on_close, request_queue_size = True, False, 128
    allow_reuse_address = os.name != "nt"  # there a second server would take the port of the first

    def __init__(self, engine, host="127.0.0.1", port=8000, key=None, most_waiting=16):
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"can't listen at port {port} of {host} ({error}): --port 0 takes any free one") from error
        self.engine, self.key, self.url = engine, key, f"http://{host}:{self.server_port}/v1"
        self.computing, self.places = threading.Lock(), threading.Semaphore(1 + most_waiting)
        self.began, self.ending = int(time.time()), threading.Event()

    @contextmanager
    def turn(self):
        """Wait for the engine. Raises Refusal if too many do."""
        if not self.places.acquire(blocking=False):
            raise Refusal(429, "too many wait: try again later", code="rate_limit_exceeded", **{"Retry-After": "1"})
        try:
            with self.computing:
                yield
        finally:
            self.places.release()

    def handle_error(self, request, client_address):
        """A client that goes away is no fault of ours, and worth no traceback; all else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def end(self):
        """End what is computed, and close."""
        self.ending.set()
        self.computing.acquire(timeout=10)
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version, server_version, sys_version, timeout = "HTTP/1.1", "serve.py", "", 60  # seconds of silence

    def answer(self):
        """Answer one request, and print a line about it."""
        began, self.status, self.told, self.route = time.perf_counter(), None, "", self.path.partition("?")[0]
        try:
            data = self.body()  # read in any case: what is left unread would be taken for the next request
            self.check_key()
            if (self.command, self.route) == ("GET", MODELS):
                self.send({"object": "list", "data": [{"id": self.server.engine.name, "object": "model",
                                                       "created": self.server.began, "owned_by": "course"}]})
            elif self.command == "POST" and self.route in (CHAT, TEXT):
                self.complete(self.parsed(data))
            else:
                raise Refusal(404, f"no such page: there are GET {MODELS}, POST {CHAT} and POST {TEXT}")
        except Refusal as refusal:
            self.refuse(refusal)
        except (UserError, UnicodeError) as error:  # no room, a character that the model does not know
            self.refuse(Refusal(400, str(error), "messages" if self.route == CHAT else "prompt"))
        except OSError:
            self.told, self.close_connection = f"{self.told}, left", True
        except Exception:
            traceback.print_exc()
            self.refuse(Refusal(500, "something went wrong here"))
        seconds = time.perf_counter() - began
        print(f"{self.command} {ascii(self.path[:80])} {self.status or '-'}{self.told}, {seconds:.2f} s", flush=True)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        """`answer` prints a line instead."""

    def body(self):
        """The bytes of the request. Raises Refusal for too many, or for an unknown number of them."""
        length = self.headers.get("Content-Length", "0" if self.command == "GET" else "")
        known = length.isascii() and length.isdigit() and "Transfer-Encoding" not in self.headers
        if not known or len(length) > 18 or int(length) > MOST_BYTES:
            self.close_connection = True
            raise Refusal(413 if known else 411, f"Content-Length must be there, and at most {MOST_BYTES:,} bytes")
        return self.rfile.read(int(length))

    def check_key(self):
        """Raise Refusal for a wrong key; in constant time, so that none can be found out letter by letter."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "surrogateescape")
        if self.server.key and not hmac.compare_digest(given, self.server.key.encode("utf-8")):
            raise Refusal(401, "a wrong key, or none: send 'Authorization: Bearer ...'", None, "invalid_api_key")

    def parsed(self, data):
        """The body as a dict. Raises Refusal."""
        try:
            body = json.loads(data) | {}
        except (ValueError, TypeError, RecursionError):
            raise Refusal(400, "the body must be a JSON object") from None
        if body.get("model") not in (None, self.server.engine.name):
            raise Refusal(404, f"no such model here: it is {self.server.engine.name}", "model", "model_not_found")
        return body

    def prompt(self, body):
        """The ids of what is to be gone on with. Raises Refusal and UserError."""
        engine = self.server.engine
        if self.route == CHAT:
            return engine.prompt(messages_in(body.get("messages")))
        ids = engine.tokenizer.encode(text(body.get("prompt"), "prompt"), disallowed_special=())
        if len(ids) < engine.model.config.block_size:
            return ids or [engine.tokenizer.end_of_text]
        raise Refusal(400, f"the prompt has {len(ids):,} tokens, too many for {engine.name}", "prompt")

    def complete(self, body):
        """Answer with texts that go on with a conversation, or with a prompt."""
        request, streams, options = request_in(body), body.get("stream") or False, body.get("stream_options") or {}
        if not isinstance(streams, bool) or not isinstance(options, dict):
            raise Refusal(400, "stream must be true or false, and stream_options an object", "stream")
        engine, ids = self.server.engine, self.prompt(body)
        kind, chunk = ("chat.completion", "chat.completion.chunk") if self.route == CHAT else ("text_completion",) * 2
        head = {"id": f"{kind[:4]}cmpl-{secrets.token_hex(12)}", "object": chunk if streams else kind,
                "created": int(time.time()), "model": engine.name}
        written = [Completion() for _ in range(request.samples)]
        with self.server.turn(), autocast(engine.model.head_weight.device, engine.dtype):
            tokens = self.tokens(engine, ids, request, written)
            if streams and request.samples == 1:
                for piece in until(engine.tokenizer.stream(tokens), request.stop):
                    self.event(head | {"choices": [self.choice(0, piece, streams)]})
            for _ in tokens:  # of several texts, each is sent when all are written
                pass
        replies = [engine.reply(each.ids, request) for each in written]
        usage = {"prompt_tokens": len(ids), "completion_tokens": sum(reply.tokens for reply in replies)}
        usage["total_tokens"] = sum(usage.values())
        self.told = f" {usage['prompt_tokens']} + {usage['completion_tokens']} tokens"
        if not streams:
            choices = [self.choice(i, reply.text, streams, reply) for i, reply in enumerate(replies)]
            return self.send(head | {"choices": choices, "usage": usage})
        for i, reply in enumerate(replies):
            rest = reply.text if request.samples > 1 else ""
            self.event(head | {"choices": [self.choice(i, rest, streams, reply)]})
        if options.get("include_usage"):
            self.event(head | {"choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def tokens(self, engine, ids, request, written):
        """Yield the tokens that are shown, and fill in `written`: the texts that LocalEngine.replies draws, too."""
        generators = [generator(ids, sample, request.seed) for sample in range(request.samples)]
        room = min(request.max_new_tokens, engine.model.config.block_size - len(ids))
        for row, token, _ in stream(engine.model, [ids], room, engine.settings(request), request.samples, generators):
            readable = select.select([self.connection], [], [], 0)[0]
            if self.server.ending.is_set() or readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionAbortedError  # closed by the client: it can be read, and nothing is there
            written[row].ids.append(token)
            if token not in engine.ends:
                yield token

    def choice(self, i, words, streams, reply=None):
        """One text, or a piece of one, in the protocol's form; its end is told with its Reply."""
        message = {"delta" if streams else "message": {"role": "assistant", "content": words}}
        return {"index": i, **({"text": words} if self.route == TEXT else message), "logprobs": None,
                "finish_reason": None if reply is None else "stop" if reply.ended else "length"}

    def begin(self, status, headers):
        self.status = status
        self.send_response(status)
        for name, value in {**headers, "Connection": "close" if self.close_connection else "keep-alive"}.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, answer, status=200, **headers):
        data = json.dumps(answer).encode("utf-8")
        self.begin(status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers})
        self.wfile.write(data)

    def event(self, data):
        """Send a piece of a stream (Server-Sent Events, as OpenAI uses them)."""
        if self.status is None:
            self.begin(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        self.chunk(b"data: " + json.dumps(data).encode("utf-8") + b"\n\n")

    def chunk(self, data):
        """A piece of a body whose length nobody knows yet; an empty one ends it (RFC 9112, section 7.1)."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def refuse(self, refusal):
        """Answer in the form of OpenAI's errors; where an answer has begun, cut it."""
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        error = {"message": str(refusal), "type": kind, "param": refusal.field, "code": refusal.code}
        self.close_connection = self.close_connection or self.status is not None
        if self.status is None:
            self.send({"error": error}, refusal.status, **refusal.headers)


def main():
    parser = flags.Parser("Offer a model over OpenAI's protocol: any chat client can talk to it.")
    parser.add_argument("-l", "--load_model", metavar="PATH", help="checkpoint or real weights (default: our reasoner)")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one, and it is printed")
    parser.add_argument("--api_key_env", metavar="NAME", help="ask for the key that this environment variable holds")
    flags.machine_flags(parser)
    args = parser.parse()
    key = os.environ.get(args.api_key_env, "").strip() if args.api_key_env else None
    if key == "":
        raise UserError(f"the environment variable {args.api_key_env} holds no key: set it")
    server = Server(load_engine(str(args.load_model or ensure_reasoner()), args), args.host, args.port, key)
    print(f"{server.engine.name} at {server.url}{'' if key else ', without a key'}; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    finally:
        server.end()


if __name__ == "__main__":
    flags.run(main)
