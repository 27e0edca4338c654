"""Teach BERT to answer a question by pointing at a piece of a text: where it begins, and where it ends.

    python 05_bert_mlm/question_answering.py
    python 05_bert_mlm/question_answering.py -l minilm
    python 05_bert_mlm/question_answering.py -l untrained              # without what it learned from blanks
    python 05_bert_mlm/question_answering.py --ask "What does dedent do?" --context text.txt

A row is [CLS] question [SEP] text [SEP]. Two vectors, one for the beginning and one for the end, are compared with what
the model knows at each token of the text. Devlin et al. 2018, section 4.2.
Shapes: B questions, T tokens of the longest row, C = embedding size.
"""

import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
import flags
import mlm_training
from answer_spans import batches, encode, examples, padded
from bert_model import BERT, FAMILIES, BERTConfig
from bert_pretrained import is_pretrained, load_bert
from bert_tokens import Marks, from_state, teach_to_mask
from docs_questions import BASELINES, exact_match, table
from evaluation import autocast, evaluating
from flags import UserError, shown
from lm_model import placed
from optimizers import make_optimizer
from prepare import ensure_tokenizer
from schedules import linear
from training_run import train_and_keep

NUMBERS = {"batch_size": 32, "learning_rate": 1e-3, "steps": 200, "dropout": 0.0}
REAL_NUMBERS = {"batch_size": 16, "learning_rate": 2e-4, "steps": 150, "dropout": 0.0}
DEFAULT_CHECKPOINT = flags.CHECKPOINTS / "05_question_answering.pt"
BERT_SIZES = "embedding_size", "block_size", "head_count", "layer_count"
LONGEST = 30  # tokens of an answer


class QuestionAnswering(nn.Module):
    """A BERT with the two vectors S and E of the head, (2, C)."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.config.embedding_size, 2)
        model.initialise(self.head)

    def logits(self, ids, mask, segments, allowed):
        """What beginning and end of the answer are like at each token, (B, 2, T): -inf but where it may be."""
        # S . T_i, E . T_i
        hidden = self.model.hidden(ids, mask=mask, segments=segments)  # (B, T, C)
        with torch.autocast(hidden.device.type, enabled=False):  # in bfloat16 places would tie
            found = self.head(hidden.float()).transpose(1, 2)  # (B, 2, T)
        return found.masked_fill(~allowed[:, None], -math.inf)

    def forward(self, ids, targets, mask, segments, allowed):
        """A batch as `padded` makes it -> (None, the mean loss of beginnings and ends)."""
        # P_i = exp(S . T_i) / sum_j exp(S . T_j)
        logits = self.logits(ids, mask, segments, allowed)
        return None, F.cross_entropy(logits.flatten(0, 1), targets[:, :2].flatten())


def best_spans(logits):
    """(B, 2, T) -> (first token (B,), last token (B,), probability (B,)) of the likeliest span, the ends by themselves.

    It maximises S . T_i + E . T_j with i <= j, and no more than LONGEST tokens.
    """
    start, end = logits.log_softmax(-1).unbind(1)
    T = start.shape[-1]
    long_enough = torch.ones(T, T, dtype=torch.bool, device=logits.device).triu().tril(LONGEST - 1)
    both = (start[:, :, None] + end[:, None, :]).masked_fill(~long_enough, -math.inf)  # (B, T, T)
    found, at = both.flatten(1).max(1)
    return at // T, at % T, found.exp()


@torch.no_grad()
def answer(answering, some, marks, batch_size, dtype=torch.float32):
    """(texts, their probabilities, mean loss if the spans are known) for Examples, without dropout."""
    device, found, loss = answering.head.weight.device, {}, 0.0
    order = sorted(range(len(some)), key=lambda i: len(some[i].ids))
    with evaluating(answering), autocast(device, dtype):
        for i in range(0, len(some), batch_size):
            chosen = order[i : i + batch_size]
            ids, targets, *rest = (part.to(device) for part in padded([some[n] for n in chosen], marks))
            logits = answering.logits(ids, *rest)
            loss += F.cross_entropy(logits.flatten(0, 1), targets[:, :2].flatten(), reduction="sum").item() / 2
            for n, first, last, share in zip(chosen, *(part.tolist() for part in best_spans(logits))):
                found[n] = some[n].text(first, last), share
    texts, shares = zip(*(found[n] for n in range(len(some))))
    return texts, shares, loss / len(some)


# ---- the script ----


def arguments():
    parser = flags.Parser("Teach BERT to answer questions about a text, or ask it one.")
    group = parser.add_argument_group("checkpoints")
    group.add_argument("-l", "--load_model", metavar="PATH",
                       help="a BERT: checkpoint, real weights such as minilm, or untrained; an unfinished run goes on"
                            " (default: what 05_bert_mlm/train.py made; with --ask what this script made)")
    group.add_argument("-s", "--save_model", metavar="PATH", default="default",
                       help="'default' is checkpoints/05_question_answering.pt, or where an unfinished run was loaded"
                            " from; 'no_save' keeps nothing")
    group = parser.add_argument_group("instead of training")
    group.add_argument("--ask", metavar="QUESTION", help="answer this one")
    group.add_argument("--context", metavar="TEXT", help="the text that has the answer, or a file with it")
    flags.machine_flags(parser)
    flags.number_flags(parser, {name: f"{value}; {REAL_NUMBERS[name]} for real weights"
                                if value != REAL_NUMBERS[name] else value for name, value in NUMBERS.items()})
    return parser


def open_model(name):
    """(config, weights or None, tokenizer, checkpoint or None) of what -l names."""
    if name == "untrained":
        tokenizer = teach_to_mask(ensure_tokenizer("tokenizer", None, "pydocs"))
        sizes = {size: mlm_training.NUMBERS[size] for size in BERT_SIZES}
        return BERTConfig(tokenizer.vocab_size, **sizes, **FAMILIES["modern"]), None, tokenizer, None
    if is_pretrained(name):
        model, tokenizer = load_bert(name)
        return model.config, model.state_dict(), tokenizer, None
    loaded = checkpoint.load(name, "bert", "bert_qa")
    return BERTConfig(**loaded["config"]), loaded["model"], from_state(loaded["tokenizer"]), loaded


def build(args, config, weights, loaded):
    """(QuestionAnswering on its device, dtype); the head is new unless the checkpoint has one."""
    model = BERT(config)
    if weights:
        model.load_state_dict(weights)
    answering = QuestionAnswering(model)
    if loaded and "answer_head" in loaded:
        answering.head.load_state_dict(loaded["answer_head"])
    model, dtype = placed(model, args)
    return answering.to(model.head_weight.device), dtype


def train_command(args):
    """Train as the flags say; returns the history, or None after Ctrl-C."""
    name = args.load_model or str(mlm_training.ensure_model())
    config, weights, tokenizer, loaded = open_model(name)
    going_on = bool(loaded) and loaded["kind"] == "bert_qa" and not loaded["progress"]["finished"]
    if loaded and not going_on:
        checkpoint.tell_unfinished(loaded, name)
    real = tokenizer.kind == "wordpiece"  # or trained further from real weights
    defaults = NUMBERS | (REAL_NUMBERS if real else {}) | (loaded["run"] if loaded and going_on else {})
    for flag, value in defaults.items():
        setattr(args, flag, args.typed.get(flag, value))
    flags.check_numbers(args)
    default = name if going_on else DEFAULT_CHECKPOINT
    args.load_model, args.save_model = name, str(default) if args.save_model == "default" else args.save_model
    load, save = flags.checkpoint_paths(args, default, is_pretrained(name))
    torch.manual_seed(args.seed)
    answering, dtype = build(args, replace(config, dropout=args.dropout), weights, loaded)

    marks, sizes = Marks.of(tokenizer), (args.batch_size, dtype)
    (_, train), (held_questions, held_out), (test_questions, test) = (
        examples(split, tokenizer, marks, config.block_size) for split in ("train", "validation", "test"))
    held_questions, held_out = held_questions[::2], held_out[::2]  # enough for a curve
    print(f"{len(train):,} questions to learn from")
    right = []

    def validate():
        texts, _, loss = answer(answering, held_out, marks, *sizes)
        right.append(mean(exact_match(text, each.answer) for text, each in zip(texts, held_questions)))
        return loss

    def tell(history):
        if history[-1]["validation_loss"] is not None:
            print(f"    {right[-1]:.1%} of the held-out answers are exact")

    run = {name: getattr(args, name) for name in (*NUMBERS, "seed")}
    guess = mean(math.log(len(each.places)) for each in held_out)
    optimizer = make_optimizer(answering, "adamw", args.learning_rate, 0.01, (0.9, 0.999))
    batch, schedule = batches(train, marks, args.batch_size, args.seed), linear(args.learning_rate, args.steps, 0.1)
    history = train_and_keep(
        "bert_qa", answering.model, tokenizer, optimizer, batch, schedule, validate, run,
        f"questions about Python's documentation, {Path(name).stem}", loaded if going_on else None, load, save, dtype,
        answering, on_row=tell, beside={"answer_head": answering.head.state_dict},
        known=("a guess anywhere in the text", guess))
    if history is None:
        return None
    answers = {who: [baseline(each) for each in test_questions] for who, baseline in BASELINES.items()}
    print(*table(test_questions, answers | {"this model": answer(answering, test, marks, *sizes)[0]}), sep="\n")
    print(f"{history[-1]['seconds']:,.0f} s of training")
    if save:
        print(f"checkpoint {shown(save)}, loss curve {shown(save.with_suffix('.png'))}")
    return history


def ensure_answering():
    """The path of the default checkpoint; if there is none, it is trained now."""
    return checkpoint.ensured(DEFAULT_CHECKPOINT, lambda words: train_command(arguments().parse(words)), "bert_qa",
                              first="teaching a model to answer first")


def ask_command(args):
    """Print the answer to --ask in --context, and how likely the model finds it."""
    question, context = (args.ask or "").strip(), args.context or ""
    if os.path.isfile(context):  # which Path.is_file can't say of a long text
        context = Path(context).read_text(encoding="utf-8")
    if not question or not context.strip():
        raise UserError("a question needs a text that has the answer: give --ask and --context, neither of them empty")
    path = args.load_model or str(ensure_answering())
    loaded = checkpoint.load(path, "bert_qa")
    checkpoint.tell_unfinished(loaded, path)
    config, tokenizer = BERTConfig(**loaded["config"]), from_state(loaded["tokenizer"])
    marks = Marks.of(tokenizer)
    example = encode(question, context, tokenizer, marks)
    room = config.block_size - example.begin - 1
    if room < 1:
        raise UserError(f"the question has {example.begin - 2:,} tokens, and the model takes {config.block_size:,} with"
                        " the text: shorten it")
    if len(example.places) > room:
        raise UserError(f"the text has {len(example.places):,} tokens, and beside the question the model takes"
                        f" {room:,}: give the part of it that has the answer")
    answering, dtype = build(args, config, loaded["model"], loaded)
    (text,), (share,), _ = answer(answering, [example], marks, 1, dtype)
    print(f"{text}\n  probability {share:.1%}")


def main():
    args = arguments().parse()
    if args.ask is not None or args.context is not None:
        ask_command(args)
    elif train_command(args) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
