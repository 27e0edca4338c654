"""How a conversation becomes tokens, and which of them are the answers'.

    ids, counted = conversation_tokens([{"role": "user", "content": "What is 2 + 2?"},
                                        {"role": "assistant", "content": "4"}], tokenizer)

A template is a little program in Jinja, the language in which models publish theirs; the tokenizer keeps it. What a
person types never becomes a special token, even if it looks like one: else anybody could end their own turn and
begin another's.
"""

import sys
from functools import lru_cache
from pathlib import Path

import regex
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError

# for models that were never taught to talk: plain text with headings, and what ends a document ends an answer
PLAIN = """{% set before = {"system": "", "user": "Q:\n", "assistant": "A:\n"} -%}
{% for message in messages -%}
{{ before[message.role] + message.content + (END if message.role == "assistant" else "\n\n") }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "A:\n" }}{% endif %}"""
MARK = "\ue000"  # for private use: put into what looks special but was typed


def special_texts(tokenizer):
    """{text: id} of the tokens that only a template may say."""
    if tokenizer.kind == "tiktoken":
        return {text: tokenizer.encoding.encode_single_token(text) for text in tokenizer.encoding.special_tokens_set}
    return getattr(tokenizer, "special_tokens", {tokenizer.decode([tokenizer.end_of_text]): tokenizer.end_of_text})


def teach_to_talk(tokenizer):
    """The tokenizer with a chat template: its own, or else PLAIN."""
    if tokenizer.chat_template:
        return tokenizer
    (end,) = (text for text, i in special_texts(tokenizer).items() if i == tokenizer.end_of_text)
    return tokenizer.with_chat_template(PLAIN.replace("END", repr(end)))


def refuse(reason):
    raise TemplateError(reason)


@lru_cache
def compiled(template):
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = refuse  # for templates that check the order of roles
    return environment.from_string(template)


def render(messages, tokenizer, add_generation_prompt=False, **options):
    """The text of a conversation; MARK stands in what was typed but looks special.

    With `add_generation_prompt` it ends where an answer would begin; `options` are what else a template asks for, such
    as Qwen3's enable_thinking. Raises UserError if the template refuses it.
    """
    def harmless(text):
        for special in special_texts(tokenizer):
            text = text.replace(special, special[0] + MARK + special[1:])
        return text

    messages = [message | {"content": harmless(message["content"])} for message in messages]
    try:
        return compiled(tokenizer.chat_template).render(
            messages=messages, add_generation_prompt=add_generation_prompt, **options)
    except TemplateError as error:
        raise UserError(f"the model's chat template refuses this conversation: {error}") from error


def encode(rendered, tokenizer):
    """The ids of what `render` gave."""
    special = special_texts(tokenizer)
    parts = regex.split("(" + "|".join(map(regex.escape, sorted(special, key=len, reverse=True))) + ")", rendered)
    ids = []
    for i, part in enumerate(parts):
        ids += [special[part]] if i % 2 else tokenizer.encode(part.replace(MARK, ""), disallowed_special=())
    return ids


def prompt_tokens(messages, tokenizer, **options):
    """The ids of a conversation up to where the model's next answer begins; `options` as of `render`."""
    return encode(render(messages, tokenizer, add_generation_prompt=True, **options), tokenizer)


def conversation_tokens(messages, tokenizer):
    """(ids, counted) of a conversation: counted is True for each answer's tokens and the one that ends it.

    An answer's ids are those that the model would have written itself: they are encoded apart from what is before
    them. Raises UserError if the template rewrites what is past, or never ends an answer.
    """
    ids, counted, done = [], [], ""
    ends = {*tokenizer.end_tokens, tokenizer.end_of_text}
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked, answered = render(messages[:i], tokenizer, True), render(messages[: i + 1], tokenizer)
        if not (asked.startswith(done) and answered.startswith(asked)):
            raise UserError("the model's chat template writes past answers differently: train on one answer at a time")
        before, answer = encode(asked.removeprefix(done), tokenizer), encode(answered.removeprefix(asked), tokenizer)
        last = next((at for at, token in enumerate(answer) if token in ends), None)
        if last is None:
            raise UserError("the model's chat template does not end answers with a token that ends a text")
        ids += before + answer
        counted += [False] * len(before) + [at <= last for at in range(len(answer))]
        done = answered
    return ids, counted
