"""Conversations and preferences, from named corpora and from JSONL files in the common formats.

A conversation is a list of messages, {"role": "system", "user" or "assistant", "content": text}; the assistant has the
last one. A preference is (messages that ask, the better answer, the worse one). Records of these forms are understood:

    {"messages": [{"role": ..., "content": ...}, ...]}    {"conversations": [{"from": "human", "value": ...}, ...]}
    {"prompt": ..., "completion": ...}                    {"prompt": ..., "chosen": ..., "rejected": ...}
    {"instruction": ..., "input": ..., "output": ...}     (also with context and response)
    {"question": ..., "answer": ...}                      {"chosen": ..., "rejected": ...}, as whole conversations

where prompts and answers are texts or lists of messages.
"""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import corpora
import docs_task
from flags import UserError
from reading import lines_of

NAMES = ("docs", "gsm8k", "dolly", "hh-rlhf")
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}
ANSWERED = (("prompt", None, "completion"), ("question", None, "answer"), ("instruction", "input", "output"),
            ("instruction", "context", "response"))  # what asks, what that is about, what answers


def said(role, content):
    """A message. This and what follows raise ValueError, which says what is wrong with a record."""
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"role {json.dumps(role)} must be system, user or assistant")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"the {ROLES[role]} says nothing: each message needs a text")
    return {"role": ROLES[role], "content": content}


def messages_of(value, role):
    """A list of messages as it is, a text as one message of that role; a transcript of HH-RLHF is a list, too."""
    if isinstance(value, str) and value.startswith("\n\nHuman:"):
        _, *parts = re.split(r"\n\n(Human|Assistant):", value)
        return [said({"Human": "user", "Assistant": "assistant"}[speaker], text.strip())
                for speaker, text in zip(parts[::2], parts[1::2])]
    if not isinstance(value, list):
        return [said(role, value)]
    if not all(isinstance(each, dict) for each in value):
        raise ValueError("messages must be objects with 'role' and 'content'")
    return [said(each.get("role", each.get("from")), each.get("content", each.get("value"))) for each in value]


def whole(messages):
    """The messages, if they are a conversation."""
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("the conversation does not end with the assistant: its last message is what is learned")
    if any(message["role"] == "system" for message in messages[1:]):
        raise ValueError("a system message that is not the first: move it to the beginning")
    if all(message["role"] != "user" for message in messages):
        raise ValueError("no message of the user: there is nothing to answer")
    return messages


def conversation(record):
    """The messages of a record in any of the forms; of two answers, the better one."""
    for name in record.keys() & {"messages", "conversations"}:
        if not isinstance(record[name], list):
            raise ValueError(f"'{name}' must be a list of messages")
        return whole(messages_of(record[name], "user"))
    if "chosen" in record:
        return answered(record, "chosen")
    for asks, more, answers in ANSWERED:
        if asks in record and answers in record:
            asked = messages_of(record[asks], "user")
            if record.get(more) and asked:
                asked[-1]["content"] += f"\n\n{record[more]}"
            return whole(asked + messages_of(record[answers], "assistant"))
    forms = " or ".join(f"'{asks}' and '{answers}'" for asks, _, answers in (*ANSWERED, ("chosen", None, "rejected")))
    raise ValueError(f"no 'messages', or {forms}: it has {', '.join(map(repr, record)) or 'nothing'}")


def answered(record, which):
    """The prompt of a preference with one of its answers, which may be there with the prompt before it."""
    answer = messages_of(record[which], "assistant")
    alone = answer and all(message["role"] == "assistant" for message in answer)
    return whole((messages_of(record["prompt"], "user") if "prompt" in record and alone else []) + answer)


def preference(record):
    """(messages that ask, better answer, worse answer)."""
    if not {"chosen", "rejected"} <= record.keys():
        raise ValueError("no 'chosen' and 'rejected': preferences need two answers")
    (*asked, better), (*also_asked, worse) = (answered(record, which) for which in ("chosen", "rejected"))
    if asked != also_asked:
        raise ValueError("'chosen' and 'rejected' answer different prompts")
    if better == worse:
        raise ValueError("'chosen' and 'rejected' are the same: there is nothing to prefer")
    return asked, better["content"], worse["content"]


def records(path):
    """[(where it stands, record)] of the lines of a JSONL file, or of the items of one list."""
    lines, found, at = list(lines_of(path)), [], 1
    listed = "".join(lines[:9]).lstrip().startswith("[")
    try:
        if listed:
            found = [(f"item {i}", item) for i, item in enumerate(json.loads("".join(lines)), 1)]
        for at, line in enumerate([] if listed else lines, 1):
            found += [(f"line {at}", json.loads(line))] if line.strip() else []
    except ValueError as error:  # of a number with too many digits it says no more than that
        at, reason = getattr(error, "lineno", 1) if listed else at, getattr(error, "msg", error)
        raise UserError(f"{path}, line {at}: no JSON ({reason}): each line must hold one object") from error
    return found


def read(path, understand, published):
    """What a function makes of each record of a file. A published corpus has flaws: these records are left out."""
    found, listed = [], records(path)
    for where, record in listed:
        try:
            if not isinstance(record, dict):
                raise ValueError(f"{json.dumps(record)[:40]} is no object: write {{...}} with names")
            found.append(understand(record))
        except ValueError as error:
            if not published:
                raise UserError(f"{path}, {where}: {error}") from error
    if len(found) < len(listed):
        print(f"{path.name}: {len(listed) - len(found):,} of {len(listed):,} records are broken and left out")
    if len(found) < 2:
        raise UserError(f"{path} has {len(found)} records of use: give at least 2, of which one is held out")
    if understand is conversation and any(isinstance(record, dict) and "chosen" in record for _, record in listed):
        print(f"{path.name} holds preferences: the chosen answers are taken as conversations")
    return found


def check_data(name_or_path):
    """Raise UserError now if -d names nothing that is there, not after a model was made for it."""
    if name_or_path and name_or_path not in ("docs", *NAMES) and not Path(name_or_path).is_file():
        kind = "no file" if Path(name_or_path).suffix else "no conversations"
        raise UserError(f"{kind} '{name_or_path}': choose from {', '.join(NAMES)}, or give a JSONL file that is there")


def of_split(name_or_path, split, understand):
    """The records of a split: of a file without splits the last tenth is "validation", and "test", too."""
    if split not in docs_task.SPLITS:
        raise UserError(f"no split '{split}': choose from {', '.join(docs_task.SPLITS)}")
    named, path, own_test = name_or_path in NAMES, Path(name_or_path), False
    if named:
        sources = corpora.CORPORA[name_or_path].sources
        own_test = split == "test" and len(sources) > 1
        path = corpora.find(f"{name_or_path}/{sources[own_test].file}")[0][0]
    else:
        check_data(name_or_path)
    found = read(path, understand, named)
    held_out = max(1, len(found) // 10)
    return found if own_test else found[:-held_out] if split == "train" else found[-held_out:]


def conversations(name_or_path, split="train"):
    """The conversations of a split, as lists of messages. Raises UserError that names the file and the line."""
    if name_or_path == "docs":
        return [[said("user", pair.question), said("assistant", pair.answer)] for pair in docs_task.pairs(split)]
    return of_split(name_or_path, split, conversation)


def preferences(name_or_path, split="train"):
    """The preferences of a split, as (messages that ask, chosen, rejected). Raises UserError as above."""
    if name_or_path == "docs":
        return [([said("user", each.question)], each.chosen, each.rejected) for each in docs_task.preferences(split)]
    if name_or_path in ("gsm8k", "dolly"):
        raise UserError(f"{name_or_path} has no preferences: choose docs or hh-rlhf, or give a JSONL file")
    return of_split(name_or_path, split, preference)
