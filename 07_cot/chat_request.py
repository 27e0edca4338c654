"""What the body of a request asks for, in OpenAI's protocol: read with care, for it comes from anybody.

What can't be done is refused, not ignored.
"""

import secrets

from engine import Request

MOST_SAMPLES, MOST_STOPS = 64, 16
MAX_NEW_TOKENS = 1024  # where a request does not say
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NEUTRAL = {  # fields that we can't honour, and what asks for nothing, as null does
    "tools": [], "functions": [], "logprobs": False, "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0,
    "logit_bias": {}, "echo": False, "suffix": "", "best_of": 1, "response_format": {"type": "text"},
}


class Refusal(Exception):
    """What is answered instead: a status, a message, the field that is to blame, OpenAI's code, headers."""

    def __init__(self, status, message, field=None, code=None, **headers):
        super().__init__(message)
        self.status, self.field, self.code, self.headers = status, field, code, headers


def number(body, field, default, least, most, kinds=(int, float)):
    """A number of a request's body, or the default. Raises Refusal."""
    value = default if body.get(field) is None else body[field]
    if isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise Refusal(400, f"{field} must be a{'' if float in kinds else ' whole'} number from {least} to {most}", field)


def text(value, field):
    """A text, or a list of parts that are texts as one. Raises Refusal."""
    parts = value if isinstance(value, list) else [{"text": value}]
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        raise Refusal(400, f"{field} must be a text", field)
    return "".join(part["text"] for part in parts)


def messages_in(messages):
    """The messages of a chat as engine.py has them. Raises Refusal."""
    if not isinstance(messages, list) or not messages or not all(
            isinstance(each, dict) and str(each.get("role")) in ROLES for each in messages):
        raise Refusal(400, f"messages must be a list of objects, each with a role ({', '.join(ROLES)})", "messages")
    return [{"role": ROLES[each["role"]], "content": text(each.get("content"), "messages")} for each in messages]


def request_in(body):
    """The Request of engine.py that a body asks for. Raises Refusal."""
    for field, neutral in NEUTRAL.items():
        if body.get(field) not in (None, neutral):
            raise Refusal(400, f"{field} is not offered here: leave it out", field)
    stop = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or []
    if not isinstance(stop, list) or len(stop) > MOST_STOPS or "" in stop:
        raise Refusal(400, f"stop must be a text or a list of at most {MOST_STOPS}, none of them empty", "stop")
    longest = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    return Request(
        number(body, "n", 1, 1, MOST_SAMPLES, (int,)), number(body, longest, MAX_NEW_TOKENS, 1, 2**31, (int,)),
        number(body, "temperature", 1.0, 0, 2), number(body, "top_p", 1.0, 1e-6, 1),
        tuple(text(each, "stop") for each in stop),
        number(body, "seed", secrets.randbelow(2**31), 0, 2**63 - 1, (int,)))
