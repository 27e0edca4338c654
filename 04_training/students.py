"""The students of distill.py: where they begin.

A new one is as wide as its teacher and made of some of its blocks, or untrained, with a quarter of its parameters; or
it is a model that knows something already.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from fine_tuning import Start, begin
from flags import UserError
from gpt import GPT
from lm_model import placed
from pretrained import is_pretrained
from tokenizer import from_state

NUMBERS = {"batch_size": 16, "block_size": 128, "learning_rate": 1e-3, "steps": 400, "dropout": 0.0}
REAL_NUMBERS = {"batch_size": 4, "block_size": 256, "learning_rate": 5e-4, "steps": 60}
SIZES = {"embedding_size": "the teacher's, or half of it if untrained", "head_count": "the teacher's",
         "layer_count": "half of the teacher's, or as many of them as fit if untrained"}
NEW = "layers", "untrained"


def quarter(teacher, typed):
    """The config of a student with a quarter of a teacher's parameters, as far as it is not typed.

    Half as wide, and with as many of its blocks as fit; n-grams, if they have vectors, get the rows that are left.
    """
    whole, C = teacher.config, typed["embedding_size"]
    scaled = {name: size * C // whole.embedding_size for name, size in vars(whole).items()
              if size and name.endswith("_size") and name not in ("vocab_size", "block_size")}
    config = replace(whole, **scaled, head_count=typed["head_count"], ngram_rows=0)

    def size(layer_count):
        with torch.device("meta"):
            return GPT(replace(config, layer_count=layer_count)).parameter_count()

    room = teacher.parameter_count() // 4
    layers = typed.get("layer_count", max(1, min(whole.layer_count, (room - size(0)) // (size(1) - size(0)))))
    rows = (room - size(layers)) // max(1, (whole.ngram_longest - 1) * C)
    return replace(config, layer_count=layers, ngram_rows=typed.get("ngram_rows", max(1, rows)))


def from_layers(teacher, typed, dropout):
    """A student as wide as its teacher, of every k-th of its blocks and an eighth of its rows for n-grams.

    Sanh et al. 2019, "DistilBERT", section 3, keep every second block. A row is the mean of those that fall on it.
    """
    whole = teacher.config
    count = typed.get("layer_count", max(1, whole.layer_count // 2))
    rows = typed.get("ngram_rows", max(1, whole.ngram_rows // 8))
    same = all(typed[name] == getattr(whole, name) for name in ("embedding_size", "head_count"))
    if not same or count > whole.layer_count or whole.ngram_rows % rows:
        raise UserError(f"--student layers has embedding_size {whole.embedding_size} and head_count {whole.head_count},"
                        f" at most layer_count {whole.layer_count}, and ngram_rows that divide {whole.ngram_rows}:"
                        " give no others")
    student = GPT(replace(whole, layer_count=count, ngram_rows=rows, dropout=dropout))
    state = {name: w for name, w in teacher.state_dict().items() if not name.startswith("blocks.")}
    if whole.ngram_longest:
        table = state["ngram_embedding.table.weight"].view(whole.ngram_longest - 1, -1, rows, whole.embedding_size)
        state["ngram_embedding.table.weight"] = table.mean(1).flatten(0, 1)  # (h mod R) mod r = h mod r
    student.load_state_dict(state, strict=False)
    for i, block in enumerate(student.blocks):
        block.load_state_dict(teacher.blocks[i * whole.layer_count // count].state_dict())
    return student


def bare(tokenizer):
    """The tokenizer without a chat template: to compare vocabularies, and for texts that were prepared before."""
    return from_state({name: part for name, part in tokenizer.state().items() if name != "chat_template"})


def begin_student(args, teacher, tokenizer):
    """Where the student begins, as fine_tuning.begin has it; numbers that the flags leave open are filled in."""
    typed = {name: args.typed[name] for name in ("ngram_rows", *SIZES) if name in args.typed}
    for name in SIZES:
        delattr(args, name)
    if args.student not in NEW:
        args.load_model = args.student
        start = begin(args, "distilled", NUMBERS, REAL_NUMBERS, None)
        for name, value in typed.items():
            if (own := getattr(start.model.config, name)) != value:
                raise UserError(f"{name} {value} contradicts {args.student}, which has {own}: leave it out")
        if bare(start.tokenizer).state() != bare(tokenizer).state():
            raise UserError(f"{args.student} has another vocabulary than its teacher {args.teacher}: give a student"
                            " with the same, or leave out --student for a new one")
        return start
    if args.peft:
        raise UserError(f"--{args.peft} adds to a model that knows something: name one with --student, or leave it out")
    whole, args.load_model = teacher.config, "untrained"
    width = whole.embedding_size // 2 if args.student == "untrained" else whole.embedding_size
    typed = {"embedding_size": width, "head_count": whole.head_count} | typed
    args.real_weights = is_pretrained(args.teacher)
    for name, value in (NUMBERS | (REAL_NUMBERS if args.real_weights else {}) | typed).items():
        setattr(args, name, args.typed.get(name, value))
    flags.check_numbers(args)
    _, save = flags.checkpoint_paths(args, flags.CHECKPOINTS / "04_distilled.pt")
    torch.manual_seed(args.seed)
    model = from_layers(teacher, typed, args.dropout) if args.student == "layers" else GPT(
        replace(quarter(teacher, typed), dropout=args.dropout))
    model, dtype = placed(model, args)
    return Start(model, tokenizer, dtype, None, None, None, None, None, save)
