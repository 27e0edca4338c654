"""A model on another machine, behind any server that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama, a cloud.

    engine = Endpoint("http://127.0.0.1:8000")  # its first model; the key, if it wants one, is in OPENAI_API_KEY
    engine.replies([[said("user", "What is 2 + 2?")]], Request(samples=4, temperature=0.8))  # as LocalEngine does

What may pass is tried again: 429, 5xx, time-outs, what was cut, answers that are no JSON. What will not pass ends in
one line that says the cure.
"""

import json
import os
import queue
import random
import re
import sys
import threading
import time
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from engine import Reply
from flags import UserError
from server_answers import Passing, Refused, address, deltas, heard, said_in, spoken
from web_fetch import seconds_to_wait

CONNECT = 10  # seconds
MOST_WAIT = 300  # seconds that a server may ask for
STOPS = 4  # OpenAI takes no more; the rest is cut here
OPTIONAL = ("response_format", "seed")  # what is left out where a server refuses it by name


def side_by_side(function, jobs, at_once):
    """{job: function(job)}, at most `at_once` at a time, by daemons: after Ctrl-C nobody waits for them."""
    todo, done, over = iter(jobs), queue.SimpleQueue(), threading.Event()

    def work():
        for job in todo:
            if over.is_set():
                return
            try:
                done.put((job, function(job), None))
            except Exception as error:
                done.put((job, None, error))

    try:
        for _ in jobs[:at_once]:
            threading.Thread(target=work, daemon=True).start()
        found = {}
        while len(found) < len(jobs):
            job, found[job], error = done.get()
            if error:
                raise error
        return found
    finally:
        over.set()


class Endpoint:
    """An engine (see engine.py) that asks a server. Without `model` it takes the first that the server names.

    The key is read from the environment variable `key_name`, and never shown. At most `concurrency` requests are under
    way at once; each is tried `attempts` times, with waits from `first_wait` seconds on that double. `timeout`: the
    seconds without a word after which a server is given up. `extra`: further fields of every request.
    Raises UserError, here and everywhere, for what can't be mended by trying again.
    """

    def __init__(self, url, model=None, key_name="OPENAI_API_KEY", concurrency=8, timeout=300.0, attempts=5,
                 first_wait=1.0, extra=None):
        if concurrency < 1 or attempts < 1 or not timeout > 0:
            raise UserError(f"concurrency {concurrency} and attempts {attempts} must be at least 1, and timeout"
                            f" {timeout} more than 0")
        self.url, self.key_name, self.key = address(url), key_name, os.environ.get(key_name, "").strip()
        if not re.fullmatch(r"[!-~]*", self.key):
            raise UserError(f"{key_name} is no key: it has spaces or other characters that no key has")
        self.concurrency, self.timeout, self.attempts, self.first_wait = concurrency, timeout, attempts, first_wait
        self.extra, self.limit, self.without, self.told = extra or {}, "max_tokens", set(), set()
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=concurrency))
        self.name = model or self.models()[0]

    def models(self):
        """The names of the server's models."""
        names = self.persist(lambda response: [str(each["id"]) for each in response.json()["data"]], path="models")
        if names:
            return names
        raise UserError(f"{self.url} offers no model: name one")

    def replies(self, conversations, request):
        """For each conversation, a list of messages, a list of `request.samples` Replies.

        Where a server writes one sample at a time, the others are asked for by further requests, with the next seeds.
        Of several samples in one answer a server tells only the sum of tokens: each Reply has an equal share.
        """
        found = [[] for _ in conversations]
        while lacking := [i for i, each in enumerate(found) if len(each) < request.samples]:
            if any(found) or "n" in self.without:
                jobs = [(i, 1, number) for i in lacking for number in range(len(found[i]), request.samples)]
            else:
                jobs = [(i, request.samples, 0) for i in lacking]
            answers = side_by_side(
                lambda job: self.ask(conversations[job[0]], request, *job[1:]), jobs, self.concurrency)
            for i, wanted, number in jobs:
                found[i] += answers[i, wanted, number][:wanted]
        return found

    def pieces(self, messages, request):
        """One reply, yielded as texts while it is written. A stream that was cut goes on, if it says the same again."""
        body, said = self.body(messages, request) | {"stream": True}, ""
        for attempt in count():
            sent, text = self.agreed(body), ""
            try:
                with self.answering("chat/completions", sent) as response:
                    for piece in spoken(deltas(response), request.stop):
                        text += piece
                        if not (text.startswith(said) or said.startswith(text)):
                            raise UserError(f"{self.url} cut its stream, and then said something else: ask once more")
                        new, said = text[len(said) :], max(said, text, key=len)
                        yield new
                return
            except Passing as problem:
                self.wait(attempt, problem)
            except Refused as problem:
                self.do_without(sent, problem)

    def body(self, messages, request, samples=1, number=0):
        """The fields of a request for `samples` replies, the first of which is sample `number` of its conversation."""
        return {"model": self.name, "messages": messages, "max_tokens": request.max_new_tokens,
                "temperature": request.temperature, "seed": (request.seed + number) % 2**63,
                **({"top_p": request.top_p} if request.top_p < 1 else {}),
                **({"stop": list(request.stop[:STOPS])} if request.stop else {}),
                **({"n": samples} if samples > 1 else {}), **self.extra}

    def agreed(self, body):
        """The fields without those that the server has refused."""
        fields = {self.limit if field == "max_tokens" else field: value for field, value in body.items()}
        return {field: value for field, value in fields.items() if field not in self.without}

    def do_without(self, sent, problem):
        """Remember what the server seems to refuse. Raises UserError if it can't be left out."""
        if refused := [field for field in OPTIONAL if field in sent and field in str(problem)]:
            self.without.update(refused)
            self.tell(f"{self.url} takes no {refused[0]}: it is asked without")
        elif "max_tokens" in sent and "max_completion_tokens" in str(problem):  # OpenAI's newer name
            self.limit = "max_completion_tokens"
        elif "n" in sent:  # each server has its own words for that
            self.without.add("n")
        else:
            raise UserError(f"{self.url} refuses the request: {problem}") from problem

    def ask(self, messages, request, samples, number):
        """At least one Reply; `samples` where the server writes as many at once."""
        def read(response):
            answer = response.json()
            choices = sorted(answer["choices"], key=lambda choice: choice.get("index", 0))
            tokens = (answer.get("usage") or {}).get("completion_tokens")
            if tokens is None:
                self.tell(f"{self.url} does not tell how many tokens it wrote: they count as 0")
            share, rest = divmod(tokens or 0, len(choices))
            return [Reply("".join(spoken(heard(choice["message"]), request.stop)), share + (i < rest),
                          choice.get("finish_reason") != "length") for i, choice in enumerate(choices)]

        return self.persist(read, self.body(messages, request, samples, number))

    def persist(self, read, body=None, path="chat/completions"):
        """What `read` makes of a response to a request, which is made until that is good."""
        for attempt in count():
            sent = self.agreed(body) if body else None
            try:
                with self.answering(path, sent) as response:
                    return read(response)
            except Passing as problem:
                self.wait(attempt, problem)
            except Refused as problem:
                self.do_without(sent or {}, problem)

    def wait(self, attempt, problem):
        """Wait as was asked, and a back-off with jitter, so that not all come back at once; UserError at the end."""
        if attempt + 1 >= self.attempts or problem.wait > MOST_WAIT:
            asks = f", and asks to wait {problem.wait:,.0f} s" if problem.wait else ""
            raise UserError(f"{self.url} gave no answer in {attempt + 1} attempts, at last: {self.clean(str(problem))}"
                            f"{asks}; check that it runs, give it longer, or ask less at once") from problem
        time.sleep(problem.wait + min(MOST_WAIT, self.first_wait * 2**attempt) * random.uniform(0.5, 1))

    def sign(self, request):
        """With the key, or with nothing: without a function for it requests looks for another one in ~/.netrc."""
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request

    @contextmanager
    def answering(self, path, body=None):
        """The response to one request, good so far. Raises Passing, Refused and UserError, also while it is read."""
        try:
            response = self.session.request(
                "GET" if body is None else "POST", f"{self.url}/{path}", json=body, auth=self.sign, stream=True,
                allow_redirects=False, timeout=(CONNECT, self.timeout))
        except requests.exceptions.SSLError as error:
            raise UserError(f"{self.url} has no certificate that is trusted here: check the address") from error
        except (requests.Timeout, requests.ConnectionError) as error:
            raise Passing(f"no connection, or no answer in the {self.timeout:g} s that it has") from error
        except requests.RequestException as error:
            raise UserError(f"{self.url} is no address that can be asked: check it") from error
        with response:
            try:
                self.check(response)
                yield response
            except requests.exceptions.JSONDecodeError as error:
                raise Passing("an answer that is no JSON") from error
            except requests.RequestException as error:
                raise Passing("the connection was cut, or silent for too long") from error
            except (ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
                raise Passing("an answer of another form than OpenAI's") from error

    def check(self, response):
        """Raise what the status of a response means, with what the server says of it."""
        if (status := response.status_code) == 200:
            return
        if 300 <= status < 400:  # not followed: the key would go to whoever is named there
            to = self.clean(urlsplit(response.headers.get("Location", "")).netloc.rpartition("@")[2])
            raise UserError(f"{self.url} sends on to {to or 'another page'}: if you trust that, give its address")
        problem, start = str(status), b"".join(islice(response.iter_content(4096), 4))
        with suppress(ValueError):  # of a page for people
            problem = self.clean(": ".join(filter(None, [problem, said_in(json.loads(start))])))
        if status in (408, 425, 429) or status >= 500:
            raise Passing(problem, seconds_to_wait(response.headers.get("Retry-After")) or 0.0)
        if status in (401, 403):
            cure = f"set {self.key_name} to one that it takes" if self.key else f"put its key into {self.key_name}"
            raise UserError(f"{self.url} lets only some in ({problem}): {cure}")
        if status == 404:
            raise UserError(f"{self.url} has no such page, or no such model ({problem}): check both")
        raise Refused(problem)

    def clean(self, words):
        """A server's words, fit to be shown: short, in one line, and without the key, should it repeat it."""
        words = words.replace(self.key, "(the key)") if self.key else words
        return " ".join("".join(c if c.isprintable() else " " for c in words).split())[:300]

    def tell(self, line):
        """Say something once."""
        if line not in self.told:
            self.told.add(line)
            print(line, file=sys.stderr)
