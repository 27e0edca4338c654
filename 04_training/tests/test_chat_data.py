"""Conversations from named corpora and files in the common formats; every mistake is told with its line."""

import gzip
import json

import chat_data
import corpora
import docs_task
import pytest
from chat_data import conversations, preferences
from flags import UserError
from for_tests import shared


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


TALK = [{"role": "system", "content": "Be brief."}, user("Hi?"), assistant("Hello."), user("Bye?"), assistant("Bye.")]
QUESTION = [user("Hi?"), assistant("Hello.")]


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data/ folder."""
    monkeypatch.setattr(corpora, "DATA", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(("record", "expected"), [
    ({"messages": TALK}, TALK),
    ({"messages": TALK, "prompt": "not this", "prompt_id": 7}, TALK),
    ({"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi?"},
                        {"from": "gpt", "value": "Hello."}]}, [TALK[0], *QUESTION]),
    ({"prompt": "Hi?", "completion": "Hello."}, QUESTION),
    ({"prompt": TALK[:4], "completion": [TALK[4]]}, TALK),
    ({"prompt": "Hi?", "chosen": "Hello.", "rejected": "What?"}, QUESTION),
    ({"instruction": "Hi?", "output": "Hello."}, QUESTION),
    ({"instruction": "Hi?", "input": "", "output": "Hello."}, QUESTION),
    ({"instruction": "Sum up.", "input": "A text.", "output": "It."}, [user("Sum up.\n\nA text."), assistant("It.")]),
    ({"instruction": "Sum up.", "context": "A text.", "response": "It.", "category": "summarization"},
     [user("Sum up.\n\nA text."), assistant("It.")]),
    ({"question": "Hi?", "answer": "Hello."}, QUESTION),
])
def test_conversations_in_each_form(record, expected, tmp_path):
    other = {"prompt": "Other?", "completion": "Yes, другой."}
    path = write(tmp_path / "a.jsonl", record, other)
    assert conversations(path) == [expected]
    assert conversations(str(path), "test") == conversations(path, "validation") == [
        [user("Other?"), assistant("Yes, другой.")],
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([record, other], indent=1), encoding="utf-8")
    assert conversations(path) == [expected]


@pytest.mark.parametrize("record", [
    {"prompt": "Hi?", "chosen": "Hello.", "rejected": "What?"},
    {"prompt": [user("Hi?")], "chosen": [assistant("Hello.")], "rejected": [assistant("What?")]},
    {"prompt": "Hi?", "chosen": QUESTION, "rejected": [user("Hi?"), assistant("What?")]},  # with its prompt once more
    {"chosen": QUESTION, "rejected": [user("Hi?"), assistant("What?")]},
    {"chosen": "\n\nHuman: Hi?\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi?\n\nAssistant: What?"},
])
def test_preferences_in_each_form(record, tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", record, record)
    assert preferences(path) == preferences(path, "test") == [([user("Hi?")], "Hello.", "What?")]
    assert capsys.readouterr().out == ""
    assert conversations(path) == [QUESTION]
    assert "holds preferences: the chosen answers" in capsys.readouterr().out


def test_transcripts_of_several_turns(tmp_path):
    begin = "\n\nHuman: Hi?\nThe Human: is?\n\nAssistant: Hello.\n\nTwo paragraphs.\n\nHuman: Bye?\n\nAssistant: "
    record = {"chosen": f"{begin}Bye.", "rejected": f"{begin}No\n\nway."}
    asked = [user("Hi?\nThe Human: is?"), assistant("Hello.\n\nTwo paragraphs."), user("Bye?")]
    assert preferences(write(tmp_path / "a.jsonl", record, record)) == [(asked, "Bye.", "No\n\nway.")]


@pytest.mark.parametrize(("record", "complaint"), [
    ({"text": "Once."}, "no 'messages', or 'prompt' and 'completion' .*: it has 'text'"),
    ({}, "it has nothing"),
    ({"prompt": "Hi?"}, "it has 'prompt'"),
    ({"messages": "Hi?"}, "'messages' must be a list"),
    ({"messages": []}, "does not end with the assistant"),
    ({"messages": TALK[:4]}, "does not end with the assistant"),
    ({"messages": ["Hi?", "Hello."]}, "must be objects with 'role' and 'content'"),
    ({"messages": [{"role": "robot", "content": "Hi?"}, TALK[2]]}, 'role "robot" must be system, user or assistant'),
    ({"messages": [{"role": ["user"], "content": "Hi?"}, TALK[2]]}, r'role \["user"\] must be'),
    ({"messages": [{"content": "Hi?"}, TALK[2]]}, "role null must be"),
    ({"messages": [user(" \n"), TALK[2]]}, "the user says nothing"),
    ({"messages": [user("Hi?"), assistant(None)]}, "the assistant says nothing"),
    ({"messages": [assistant("Hello.")]}, "no message of the user"),
    ({"messages": [*QUESTION, *TALK]}, "system message that is not the first"),
    ({"prompt": "Hi?", "completion": ""}, "the assistant says nothing"),
    ({"instruction": [], "input": "A text.", "output": "It."}, "no message of the user"),
    ({"instruction": None, "input": "A text.", "output": "It."}, "the user says nothing"),
    ({"prompt": "Hi?", "chosen": []}, "does not end with the assistant"),
    (["messages"], "is no object"),
    ("Hi?", "is no object"),
    (None, "is no object"),
])
def test_mistakes_name_the_file_and_the_line(record, complaint, tmp_path):
    path = write(tmp_path / "a.jsonl", {"prompt": "Hi?", "completion": "Hello."}, {"messages": TALK}, record)
    for split in docs_task.SPLITS:
        with pytest.raises(UserError, match=f"a.jsonl, line 3: .*{complaint}"):
            conversations(path, split)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"messages": TALK}, record]), encoding="utf-8")
    with pytest.raises(UserError, match=f"a.json, item 2: .*{complaint}"):
        conversations(path)


@pytest.mark.parametrize(("record", "complaint"), [
    ({"messages": TALK}, "no 'chosen' and 'rejected'"),
    ({"prompt": "Hi?", "chosen": "Hello."}, "no 'chosen' and 'rejected'"),
    ({"prompt": "Hi?", "chosen": "Hello.", "rejected": "Hello."}, "are the same"),
    ({"prompt": "Hi?", "chosen": "Hello.", "rejected": ""}, "the assistant says nothing"),
    ({"chosen": "Hello.", "rejected": "What?"}, "no message of the user"),
    ({"chosen": QUESTION, "rejected": [user("Ho?"), assistant("What?")]}, "different prompts"),
    ({"chosen": "\n\nHuman: Hi?\n\nAssistant:", "rejected": "\n\nHuman: Hi?\n\nAssistant: What?"}, "says nothing"),
])
def test_mistakes_in_preferences(record, complaint, tmp_path):
    path = write(tmp_path / "a.jsonl", {"prompt": "Hi?", "chosen": "Hello.", "rejected": "What?"}, record)
    with pytest.raises(UserError, match=f"a.jsonl, line 2: .*{complaint}"):
        preferences(path)


def test_broken_files(tmp_path):
    good = json.dumps({"prompt": "Hi?", "completion": "Hello."})
    path = tmp_path / "a.jsonl"
    for text, complaint in (
        (f"{good}\n\n{good[:-1]}\n{good}\n", "line 3: no JSON"),
        (f"[{good},\n{good}", "line 2: no JSON"),
        (f'{{\n "messages": []}}\n{good}\n', "line 1: no JSON .*each line must hold one object"),
        ("9" * 5000, "line 1: no JSON .*Exceeds the limit"),
        ("", "has 0 records of use: give at least 2"),
        ("\n \n", "has 0 records of use"),
        ("[]", "has 0 records of use"),
        (f"{good}\n", "has 1 records of use: give at least 2, of which one is held out"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=f"a.jsonl.* ?{complaint}"):
            conversations(path)
    path.write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(UserError, match="a.jsonl is not UTF-8 text"):
        conversations(path)
    path.write_text(f"\ufeff\n{good}\r\n\n  {good}\n\n", encoding="utf-8")
    assert conversations(path) == conversations(path, "test") == [QUESTION], "byte order mark, blank lines"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert conversations(tmp_path / "a.jsonl.gz") == [QUESTION]


def test_splits_of_a_file(tmp_path):
    path = write(tmp_path / "a.jsonl", *({"prompt": f"{i}?", "completion": f"{i}."} for i in range(35)))
    numbers = {split: [int(asked["content"][:-1]) for asked, _ in conversations(path, split)]
               for split in docs_task.SPLITS}
    assert numbers == {"train": list(range(32)), "validation": [32, 33, 34], "test": [32, 33, 34]}


@pytest.mark.slow
def test_documentation():
    for split in docs_task.SPLITS:
        pairs, worse = docs_task.pairs(split), docs_task.preferences(split)
        assert conversations("docs", split) == [[user(pair.question), assistant(pair.answer)] for pair in pairs]
        assert preferences("docs", split) == [([user(each.question)], each.chosen, each.rejected) for each in worse]


def test_gsm8k(home):
    for file in ("train.jsonl", "test.jsonl"):
        corpora.find(f"gsm8k/{file}", str(shared("MANIFEST.md").parent))
    train, validation, test = (conversations("gsm8k", split) for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (6726, 747, 1319)
    assert train[0][0]["content"].startswith("Natalia sold clips") and train[0][1]["content"].endswith("#### 72")
    assert test[0][0]["content"].startswith("Janet") and test[0][0] not in [asked for asked, _ in train + validation]


def test_named_corpora_from_a_mirror(home, tmp_path, capsys):
    """In the published layout: human instructions in one file, preferences in two compressed ones, some of no use."""
    instruction = {"instruction": "Who?", "context": "", "response": "I.", "category": "open_qa"}
    (tmp_path / "dolly").mkdir()
    (tmp_path / "hh-rlhf").mkdir()
    empty = {**instruction, "response": ""}
    write(tmp_path / "dolly" / "databricks-dolly-15k.jsonl", instruction, empty,
          {**instruction, "context": "It was me."})
    better, worse, other = (f"\n\nHuman: {text}" for text in (
        "Hi?\n\nAssistant: Hello.", "Hi?\n\nAssistant: What?", "Ho?\n\nAssistant: What?"))
    good, broken = {"chosen": better, "rejected": worse}, {"chosen": better, "rejected": other}
    for name, lines in (("train", [good, broken, good]), ("test", [good, good, good])):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "hh-rlhf" / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("dolly", "hh-rlhf/train.jsonl.gz", "hh-rlhf/test.jsonl.gz"):
        corpora.find(name, str(tmp_path))
    assert conversations("dolly") == [[user("Who?"), assistant("I.")]]
    assert "1 of 3 records are broken and left out" in capsys.readouterr().out
    assert conversations("dolly", "test") == [[user("Who?\n\nIt was me."), assistant("I.")]]
    assert preferences("hh-rlhf") == preferences("hh-rlhf", "validation") == [([user("Hi?")], "Hello.", "What?")]
    assert "train.jsonl.gz: 1 of 3 records" in capsys.readouterr().out
    assert len(preferences("hh-rlhf", "test")) == 3 and conversations("hh-rlhf", "test") == [QUESTION] * 3
    with pytest.raises(UserError, match="dolly has no preferences: choose docs or hh-rlhf"):
        preferences("dolly")


def test_names_that_mean_nothing(tmp_path):
    for name in ("tinyshakespeare", str(tmp_path), str(tmp_path / "no.jsonl")):
        with pytest.raises(UserError, match="choose from docs, gsm8k, dolly, hh-rlhf, or give a JSONL file"):
            conversations(name)
    for read in (conversations, preferences):
        for name in ("docs", "gsm8k" if read is conversations else "hh-rlhf", write(tmp_path / "a.jsonl")):
            with pytest.raises(UserError, match="no split 'dev'"):
                read(name, "dev")
    assert set(chat_data.NAMES) - {"docs"} <= corpora.CORPORA.keys()
