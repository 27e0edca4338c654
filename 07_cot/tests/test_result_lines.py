"""Lines survive a crash, and what a file holds is not measured again."""

import json

import pytest
from flags import UserError
from result_lines import add_lines, measured_once, read_lines


def test_lines_come_back_and_a_cut_one_goes_with_the_next(tmp_path):
    path = tmp_path / "new" / "a.jsonl"
    assert read_lines(path) == []
    add_lines(path, [{"a": "\u2028 é"}, {"b": [1, 2]}])
    before = path.read_bytes()
    path.write_bytes(before + b'{"c": 3')
    assert read_lines(path) == [{"a": "\u2028 é"}, {"b": [1, 2]}]
    assert path.read_bytes() == before + b'{"c": 3', "reading changes no file: it may be one of something else"
    add_lines(path, [{"d": 4}])
    assert path.read_bytes() == before + b'{"d": 4}\n'
    path.write_bytes(b'{"c": 3}')
    add_lines(path, [])
    assert path.read_bytes() == b"", "even a line that can be read may be cut off, if it has no end"


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a note\n", encoding="utf-8")
    with pytest.raises(UserError, match="a.txt is no file of results"):
        read_lines(tmp_path / "a.txt")


def test_each_thing_is_measured_once(tmp_path):
    calls, path = [], tmp_path / "a.jsonl"

    def measure():
        calls.append(1)
        return {"curve": [(1, 2)]}

    for seed in (1, 2, 1):
        assert measured_once(path, {"seed": seed}, measure) == {"what": {"seed": seed}, "curve": [[1, 2]]}
    assert len(calls) == 2 == len([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
