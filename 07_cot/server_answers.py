"""What a server says in OpenAI's protocol, read: its errors, the pieces of a stream, thoughts apart from the text."""

import json
import re
import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from flags import UserError
from writing import until


class Passing(Exception):
    """What may be better in a while; `wait` has the seconds that the server asked for."""

    def __init__(self, problem, wait=0.0):
        super().__init__(problem)
        self.wait = wait


class Refused(Exception):
    """The server does not take this request, in its own words."""


def heard(message):
    """A list of (is a thought, text) for what a message, or a piece of one, has: thoughts come under two names."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    return [(thinks, text) for thinks, text in ((True, thought), (False, message.get("content"))) if text]


def deltas(response):
    """(is a thought, text) as a stream of events brings them. Raises Passing if it ends before the reply does."""
    ended = False
    for line in response.iter_lines():
        if not line.startswith(b"data:"):
            continue  # comments, by which servers say that they live
        if line[5:].strip() == b"[DONE]":
            return
        event = json.loads(line[5:])
        if event.get("error"):
            raise Passing(f"an error in the stream, {said_in(event)}")
        for choice in event.get("choices") or []:
            yield from heard(choice.get("delta") or {})
            ended = ended or choice.get("finish_reason") is not None
    if not ended:
        raise Passing("the stream was cut")


def spoken(parts, stop):
    """The text of (is a thought, text): thoughts in <think>, then the rest up to a stop, in pieces."""
    thinking = False
    for is_thought, group in groupby(parts, lambda part: part[0]):
        texts = (text for _, text in group)
        if is_thought:
            yield "<think>"
            yield from texts
        else:
            if thinking:  # a thought that nothing follows is unfinished, and stays open
                yield "</think>"
            yield from until(texts, stop)
        thinking = is_thought


def said_in(body):
    """What an error's JSON says, under one of the names that servers give it."""
    error = body.get("error") or body.get("detail") or body.get("message") if isinstance(body, dict) else None
    return str(error.get("message", "") if isinstance(error, dict) else error or "")


def address(url):
    """The address under which /chat/completions stands: /v1 is added where no version is named."""
    found = re.fullmatch(r"(https?://(?:[\w.-]+|\[[\da-fA-F:]+\])(?::\d{1,5})?)(/[^?#]*)?", url.strip())
    if "@" in url or not found:  # not shown: there may be a password in it
        raise UserError("an endpoint is an address such as http://127.0.0.1:8000/v1, without user, password or question"
                        " mark: a key belongs into the environment")
    host, path = found[1], re.sub(r"(/chat/completions)?/*$", "", found[2] or "")
    return f"{host}{path}" + ("" if re.search(r"/v\d", path) else "/v1")
