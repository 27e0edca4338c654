"""The command line of the original, in every order that argparse tends to get wrong."""

import argparse
import math

import flags
import pytest
import torch
from flags import UserError
from writing_flags import check_generation, generation_flags

NUMBERS = {
    "embedding_size": 128, "batch_size": 8, "block_size": 64, "learning_rate": 3e-3,
    "steps": 1000, "head_count": 4, "layer_count": 4, "dropout": 0.0,
}


def parse(line):
    parser = flags.Parser("test")
    flags.training_flags(parser, **NUMBERS)
    flags.no_train_flag(parser)
    generation_flags(parser, "nothing")
    return parser.parse(line.split())


@pytest.mark.parametrize(("line", "no_train", "typed"), [
    ("", False, {}),
    ("--no_train", True, {}),
    ("--no_train True", True, {}),
    ("--no_train False", False, {}),
    ("--no_train=False", False, {}),
    ("-s no_save 384 64 256 3e-4 5000 6 6 0.2 --no_train True", True, {"embedding_size": 384, "dropout": 0.2}),
    ("--no_train 8 8 4 1e-3 5000 4 3 0.1", True, {"embedding_size": 8, "block_size": 4, "learning_rate": 1e-3}),
    ("8 8 -d x.txt 4 1e-3 --no_train False 5000 -s y.pt 4 3 0.1", False, {"block_size": 4, "dropout": 0.1}),
    ("-t tiktoken -m o200k_base 16", False, {"embedding_size": 16, "tokenizer": "tiktoken"}),
])
def test_no_train_and_numbers_in_any_place(line, no_train, typed):
    args = parse(line)
    assert args.no_train is no_train, "did --no_train swallow a number, or take 'False' for true?"
    for name, value in typed.items():
        assert getattr(args, name) == value and type(getattr(args, name)) is type(value)
    for name in NUMBERS.keys() - args.typed.keys():
        assert getattr(args, name) == NUMBERS[name]


@pytest.mark.parametrize("line", ["--no_train maybe", "--no_train=no", "8.5", "x", "1 2 3 4 5 6 7 8 9", "-t bpe"])
def test_bad_words_end_in_one_line_and_status_2(line, capsys):
    with pytest.raises(SystemExit) as exit:
        parse(line)
    assert exit.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("line", "message"), [
    ("10 8 4 1e-3 10 4", "embedding_size 10 must be divisible by head_count 4"),
    ("0", "embedding_size 0 must be more than 0"),
    ("8 -2", "batch_size -2"),
    ("8 8 4 nan", "learning_rate nan"),
    ("8 8 4 1e-3 5 4 1 1.0", "dropout 1.0 must be at least 0 and less than 1"),
    ("8 8 4 1e-3 5 4 1 -.1", "dropout -0.1 must be"),
])
def test_values_that_no_model_can_have(line, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        flags.check_numbers(parse(line))


def test_ranges():
    args = argparse.Namespace(one=1, share=0.5, left_out=None, endless=math.inf, none=math.nan)
    flags.check_ranges(args, one=1, share=(0, 1), left_out=5)
    for limits, message in (({"one": 2}, "one 1 must be at least 2$"), ({"endless": 0}, "endless inf must be"),
                            ({"share": (0.6, 1)}, "share 0.5 must be at least 0.6 and at most 1"),
                            ({"none": (0, 1)}, "none nan must be")):
        with pytest.raises(UserError, match=message):
            flags.check_ranges(args, **limits)


@pytest.mark.parametrize(("line", "message"), [
    ("-n 0", "max_new_tokens 0"), ("--temperature -1", "temperature -1.0"), ("--temperature nan", "temperature nan"),
    ("--top_k 0", "top_k 0"), ("--top_p 0", "top_p 0.0"), ("--min_p 2", "min_p 2.0 must be at least 0 and at most 1"),
    ("--repetition_penalty 0", "repetition_penalty 0.0"), ("--no_repeat_ngram 0", "no_repeat_ngram 0 must be"),
    ("--min_new_tokens 500", "min_new_tokens 500 must be from 0 to max_new_tokens"), ("--stop=", "--stop '' would"),
    ("--samples 0", "samples 0 must be at least 1"), ("--best_of 0", "best_of 0"), ("--beams 0", "beams 0"),
    ("--samples 2 --beams 2", "--samples and --beams are"), ("--beams 2 --logprobs", "--beams finds whole texts"),
])
def test_values_that_no_text_can_be_written_with(line, message):
    with pytest.raises(UserError, match=message):
        check_generation(parse(line))


def test_what_load_and_save_mean(tmp_path, capsys):
    default, there, new = tmp_path / "default.pt", tmp_path / "there.pt", tmp_path / "new.pt"
    there.touch()

    def paths(line):
        return flags.checkpoint_paths(parse(line), default)

    assert paths("") == (None, default)
    assert paths("-s no_save") == (None, None)
    assert paths(f"-l {there}") == (there, there)
    assert paths(f"-l {there} -s {new}") == (there, new)
    assert paths(f"-l {new} -s {new}") == (None, new)
    assert "starting untrained" in capsys.readouterr().out
    for line in (f"-l {new}", f"-l {new} -s no_save", f"-s {tmp_path}"):
        with pytest.raises(UserError):
            paths(line)


def test_device_and_dtype():
    cpu = torch.device("cpu")
    assert flags.choose_device("cpu") == cpu
    assert flags.choose_dtype("bfloat16", cpu, 8) == torch.bfloat16
    assert flags.choose_dtype("auto", cpu, 8) == torch.float32, "a small model gains nothing from bfloat16"
    with pytest.raises(UserError, match="--device auto"):
        flags.choose_device("cuda:99")
