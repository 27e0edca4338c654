"""Asking a model on this machine: what it says depends on the question and the seed, not on what is asked beside it."""

import pytest
import torch
from char_tokenizer import CharTokenizer
from chat_data import said
from chat_template import teach_to_talk
from engine import LocalEngine, Request
from flags import UserError
from gpt import GPT, GPTConfig
from sampling import Sampling, complete

CHARACTERS = "\n Q:A?abcdefgh0123456789"
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{{ '0' if enable_thinking else '1' }}"


@pytest.fixture
def engine():
    torch.manual_seed(0)
    tokenizer = teach_to_talk(CharTokenizer(CHARACTERS))
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, 48, 2, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # sure of something, so that texts differ
    return LocalEngine("tiny", model, tokenizer)


def ask(*questions):
    return [[said("user", question)] for question in questions]


def test_a_reply_does_not_depend_on_its_neighbours(engine):
    request = Request(samples=3, max_new_tokens=12, temperature=1.0)
    together = engine.replies(ask("abc?", "a?", "hgfedc?"), request)
    alone = [engine.replies(ask(question), request)[0] for question in ("abc?", "a?", "hgfedc?")]
    assert together == alone, "is each sample drawn with a generator of its own?"
    assert len({reply.text for reply in together[0]}) > 1, "samples of a question must differ"
    assert engine.replies(ask("abc?"), Request(3, 12, 1.0, seed=1)) != [together[0]]


def test_each_reply_has_the_room_that_its_own_question_leaves(engine):
    """Near the block's end a long question leaves little room, and takes none from others."""
    request = Request(max_new_tokens=30)
    ((long,), (short,)) = engine.replies(ask("a" * 28 + "?", "a?"), request)
    assert ([long], [short]) == (engine.replies(ask("a" * 28 + "?"), request)[0], engine.replies(ask("a?"), request)[0])
    assert long.tokens <= 48 - len(engine.ids(ask("a" * 28 + "?")[0])) < 30


def test_replies_are_the_models_own(engine):
    """The template, then the likeliest tokens; what ends a text is counted, and not shown."""
    (reply,), ids = engine.replies(ask("abc?"), Request(max_new_tokens=9))[0], engine.ids(ask("abc?")[0])
    assert engine.tokenizer.decode(ids) == "Q:\nabc?\n\nA:\n"
    (expected,) = complete(engine.model, [ids], 9, Sampling(0.0, stop_tokens=engine.ends))
    assert reply.tokens == len(expected.ids)
    assert reply.text == engine.tokenizer.decode([i for i in expected.ids if i not in engine.ends])
    assert reply.ended == (expected.ids[-1] in engine.ends)


def test_pieces_are_the_reply(engine):
    request = Request(max_new_tokens=12, temperature=1.0)
    ((reply,),) = engine.replies(ask("abc?"), request)
    pieces = list(engine.pieces(ask("abc?")[0], request))
    assert "".join(pieces) == reply.text and len(pieces) > 1


def test_a_stop_ends_a_reply_and_is_not_in_it(engine):
    ((whole,),) = engine.replies(ask("abc?"), Request(max_new_tokens=12))
    stop = whole.text[4:6]
    ((cut,),) = engine.replies(ask("abc?"), Request(max_new_tokens=12, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.ended and cut.tokens < whole.tokens


def test_templates_and_reasoners(engine):
    """Options go to the template; a reasoner reads the bare question."""
    tokenizer = engine.tokenizer.with_chat_template(TEMPLATE)
    for thinking, mark in ((True, "0"), (False, "1")):
        asked = LocalEngine("tiny", engine.model.model, tokenizer, options={"enable_thinking": thinking})
        assert tokenizer.decode(asked.ids(ask("ab?")[0])) == f"ab?{mark}"
    reasoner = LocalEngine("tiny", engine.model.model, tokenizer, talks=False)
    assert reasoner.ids(ask("ab?")[0]) == tokenizer.encode("ab?")


def test_no_room(engine):
    with pytest.raises(UserError, match="make it shorter"):
        engine.replies(ask("a" * 60), Request())
