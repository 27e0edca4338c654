"""A conversation in the terminal, and the answers of several models side by side."""

import sys
import textwrap
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from chat_template import prompt_tokens
from evaluation import autocast
from flags import UserError
from sampling import Completion, complete
from writing import Stopwatch, chosen_settings, pieces, until

WIDTH = 40  # characters of a column


def fitting(messages, tokenizer, room):
    """(ids of a conversation, the messages that they are of): the oldest questions are forgotten until it fits.

    Raises UserError if the last question alone is too long.
    """
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = messages[len(system) :]
    while len(ids := prompt_tokens(system + turns, tokenizer)) > room:
        if len(turns) == 1:
            raise UserError(f"the question has {len(ids):,} tokens, and there is room for {room:,}: ask a shorter one,"
                            " or for a shorter answer with -n")
        turns = turns[2:]
    return ids, system + turns


def answer(model, tokenizer, ids, args, dtype):
    """Print an answer while it is written; returns its text."""
    settings, watch, text = chosen_settings(args, tokenizer, tokenizer.end_tokens), Stopwatch(), Completion()
    said = ""
    try:
        with autocast(model.head_weight.device, dtype):
            for piece in pieces(model, tokenizer, ids, settings, watch, args, text):
                said += piece
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(" ... (stopped)", end="")
    if len(text.ids) == args.max_new_tokens and text.ids[-1] not in settings.stop_tokens:
        print(" ... (-n for more)", end="")
    print(f"\n{watch.line(stats=True)}" if args.stats else "")
    return said


def converse(model, dtype, tokenizer, args, system=None):
    """Answer each line that is typed, with all that was said before in mind, until the input ends."""
    torch.manual_seed(args.seed)
    begins = [{"role": "system", "content": system}] if system else []
    messages, typing = list(begins), sys.stdin.isatty()
    if typing:
        print("/reset forgets what was said; Ctrl-C ends an answer, /quit the conversation")
    args.max_new_tokens = args.max_new_tokens or min(256, model.config.block_size // 2)
    room = model.config.block_size - args.max_new_tokens
    while True:
        try:
            line = input("you: " if typing else "").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        if line == "/reset":
            messages = list(begins)
            print("(forgotten)", flush=True)
        elif line.startswith("/"):
            print(f"no command {line}: there are /reset and /quit", flush=True)
        elif line:
            try:
                ids, messages = fitting([*messages, {"role": "user", "content": line}], tokenizer, room)
            except UserError as error:
                print(error, flush=True)
                continue
            if not typing:
                print(f"you: {line}")
            print("model: ", end="", flush=True)
            messages.append({"role": "assistant", "content": answer(model, tokenizer, ids, args, dtype)})


def compare(models, question, args):
    """Print what several models answer to a question, in columns; `models` has (name, model, dtype, tokenizer)."""
    columns = []
    for name, model, dtype, tokenizer in models:
        torch.manual_seed(args.seed)
        ids, _ = fitting([{"role": "user", "content": question}], tokenizer,
                         model.config.block_size - args.max_new_tokens)
        settings = chosen_settings(args, tokenizer, tokenizer.end_tokens)
        with autocast(model.head_weight.device, dtype):
            (text,) = complete(model, [ids], args.max_new_tokens, settings)
        whole = tokenizer.decode([token for token in text.ids if token not in settings.stop_tokens])
        said = "".join(until([whole], args.stop))
        ended = said != whole or text.ids[-1] in settings.stop_tokens
        said = said.strip() + ("" if ended else " ...")
        lines = [part for line in said.splitlines() for part in textwrap.wrap(line, WIDTH) or [""]]
        columns.append([name[:WIDTH], "-" * len(name[:WIDTH]), *lines])
    print(f"==== {question}")
    for i in range(max(map(len, columns))):
        print("  ".join((column[i] if i < len(column) else "").ljust(WIDTH) for column in columns).rstrip())
