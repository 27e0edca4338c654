"""Knowledge distillation: a small model learns how likely a large one finds each token, not only which one came.

    python 04_training/distill.py                                 # into half of the teacher's blocks
    python 04_training/distill.py --teacher_share 0 -s no_save    # the same steps without a teacher, to compare
    python 04_training/distill.py --student untrained --kind sequence
    python 04_training/distill.py --kind on_policy --student checkpoints/04_distilled.pt -s on_policy.pt

Shapes: B rows, T tokens, N of them counted, V = vocabulary size.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint as recomputed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import checkpoint
import flags
from batches import shuffled_batches
from chat_data import conversations
from fine_tuning import fine_tune, fine_tuning_flags, open_model, stretch
from flags import UserError, shown
from linear_cross_entropy import CHUNK_BYTES
from lm_model import check_length
from packing import fill_rows, packed, packed_batches
from prepare import ensure_tokens, open_tokens
from pretrained import is_pretrained
from sampling import Sampling, complete
from sft import answer_loss, ensure_sft, examples
from students import NEW, NUMBERS, REAL_NUMBERS, SIZES, bare, begin_student

ALPHAS = {"logits": 0.5, "sequence": 0.0, "on_policy": 1.0}
CHOICES = {"student": "layers", "ngram_rows": None, "kind": "logits", "teacher_share": None, "beta": 0.0,
           "distillation_temperature": 1.0, "student_share": 0.5, "text": "pydocs", "text_share": None}
LONGEST = 64  # tokens of an answer that teacher or student write


def divergence(student, teacher, beta=0.0):
    """How far softmax q of a student's logits (N, V) is from softmax p of a teacher's, (N,) in nats.

    beta 0 is KL(p || q), 1 is KL(q || p), and between them is the generalised Jensen-Shannon divergence.
    Agarwal et al. 2024, "On-Policy Distillation of Language Models", equation 1.
    """
    q, p = student.log_softmax(-1), teacher.log_softmax(-1)

    def kl(a, b):  # sum of a (log a - log b)
        return F.kl_div(b, a, reduction="none", log_target=True).sum(-1)

    if beta in (0, 1):
        return kl(q, p) if beta else kl(p, q)
    # beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q
    m = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def distillation_loss(student, teacher, targets, alpha, temperature=1.0, beta=0.0):
    """alpha T^2 D(p_T, q_T) + (1 - alpha) cross-entropy, of logits (N, V) and targets (N,), summed.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2: 1/T makes gradients smaller by T^2.
    """
    soft = temperature**2 * divergence(student / temperature, teacher / temperature, beta).sum()
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, targets, reduction="sum")


class Distilled(nn.Module):
    """A student that is called like a GPT and has a teacher's loss. With alpha 0 it is the student's own."""

    def __init__(self, student, teacher, alpha, temperature=1.0, beta=0.0, chunk_bytes=CHUNK_BYTES):
        super().__init__()
        self.model, self.config, self.settings = student, student.config, (alpha, temperature, beta)
        self.teacher = [teacher.eval().requires_grad_(False)]  # in a list: no part of what is trained and saved
        self.rows = max(1, chunk_bytes // (4 * student.config.vocab_size))

    def of_chunk(self, hidden, known, targets):
        student, (teacher,) = self.model, self.teacher
        return distillation_loss(student.head(hidden).float(), teacher.head(known).float(), targets, *self.settings)

    def forward(self, ids, targets, positions=None, mask=None):
        if self.settings[0] == 0:
            return self.model(ids, targets, positions, mask)
        counted = targets != -100
        with torch.no_grad():
            known = self.teacher[0].hidden(ids, positions, mask)[counted]  # (N, C): no logits of what is not counted
        hidden, targets = self.model.hidden(ids, positions, mask)[counted], targets[counted]
        # of many, so many logits at a time: they are computed again when their gradients are
        pieces = list(zip(*(each.split(self.rows) for each in (hidden, known, targets))))
        keep = len(pieces) < 2
        total = sum(self.of_chunk(*piece) if keep else recomputed(self.of_chunk, *piece, use_reentrant=False)
                    for piece in pieces)
        experts = self.model.blocks if self.training and self.config.expert_count else ()
        return None, total / max(1, len(targets)) + sum(block.feed_forward.balance_loss for block in experts)


def written_batches(found, writer, ends, batch_size, block_size, seed, temperature):
    """step -> a packed batch of what `writer`, with the weights that it has by then, answers to some questions."""
    def batch(step):
        chosen = [found[i] for i in np.random.default_rng((seed, step)).integers(len(found), size=batch_size)]
        asked = [ids[: counted.index(True)] for ids, counted in chosen]
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        texts = complete(writer, asked, LONGEST, Sampling(temperature, stop_tokens=ends), generator=generator)
        answered = [(question + text.ids[: block_size + 1 - len(question)], len(question))
                    for question, text in zip(asked, texts)]
        answered = [(ids, [i >= begins for i in range(len(ids))]) for ids, begins in answered]
        rows = fill_rows([len(ids) - 1 for ids, _ in answered], block_size)
        return packed([[answered[n] for n in row] for row in rows], block_size)

    return batch


def unigram_loss(train, held_out, vocab_size):
    """Mean loss of guessing each token of held-out answers by how often it was met, and once more, in the others."""
    learned, asked = ([token for ids, counts in found for token, counts in zip(ids, counts) if counts]
                      for found in (train, held_out))
    counts = np.bincount(learned, minlength=vocab_size) + 1
    return float(-np.log(counts / counts.sum())[asked].mean())


def arguments():
    parser = flags.Parser("Let a small model learn from a large one.")
    numbers = {name: (NUMBERS | SIZES)[name] for name in flags.NUMBERS}  # in the usual order
    fine_tuning_flags(parser, "distilled", "docs", numbers, REAL_NUMBERS, "what 04_training/sft.py made")
    group = parser.add_argument_group("the student of the model that -l names")

    def choice(name, meaning, **settings):
        default = "" if CHOICES[name] is None else f" (default: {CHOICES[name]})"
        group.add_argument(f"--{name}", help=meaning + default, **settings)

    choice("student", "layers, made of some of the teacher's; untrained, with a quarter of its parameters; or a"
                      " checkpoint with the same vocabulary")
    choice("ngram_rows", "of a new student, for n-grams of each length (default: an eighth of the teacher's, or what is"
                         " left of a quarter if untrained)", type=int)
    choice("kind", "whose answers are learned from: the data's (logits), the teacher's (sequence), or the student's own"
                   " (on_policy)", choices=ALPHAS)
    choice("teacher_share", "alpha: the share of the loss that is the teacher's; 0 trains without it (default: "
           + ", ".join(f"{alpha} for {kind}" for kind, alpha in ALPHAS.items()) + ")", type=float)
    choice("distillation_temperature", "both models' logits are divided by it", type=float)
    choice("beta", "of the divergence: 0 forward KL, 1 reverse KL, between them Jensen-Shannon", type=float)
    choice("student_share", "lambda: of on_policy's batches, those with the student's answers", type=float)
    choice("text", "a corpus to learn the language from, before the answers")
    choice("text_share", "of the steps, those that go to it (default: 0.7; 0 if the student is a checkpoint)",
           type=float)
    parser.checkpointed |= CHOICES
    return parser


def fill_in(args):
    """Say what the flags leave open: who teaches whom, and how. Raises UserError for what can't be meant."""
    name = args.load_model or str(ensure_sft())
    loaded = None if is_pretrained(name) else checkpoint.load(name, "gpt", "adapters")
    going_on = loaded and loaded["run"].get("method") == "distilled" and not loaded["progress"]["finished"]
    run = loaded["run"] if loaded and going_on else {}
    for choice, default in CHOICES.items():
        setattr(args, choice, args.typed.get(choice, run.get(choice, default)))
    args.teacher, args.student = (run["teacher"], name) if going_on else (name, args.student)
    if args.teacher_share is None:
        args.teacher_share = ALPHAS[args.kind]
    if args.text_share is None:
        args.text_share = 0.7 if args.student in NEW else 0.0
    flags.check_ranges(args, teacher_share=(0, 1), beta=(0, 1), student_share=(0, 1), ngram_rows=1)
    for name, wrong, cure in (
        ("teacher_share", args.kind == "on_policy" and args.teacher_share < 1, "1: the student's answers are no truth"),
        ("distillation_temperature", not 0 < args.distillation_temperature < math.inf, "more than 0"),
        ("text_share", not 0 <= args.text_share < 1, "at least 0 and less than 1"),
    ):
        if wrong:
            raise UserError(f"{name} {getattr(args, name)} must be {cure}")


def train_command(args):
    """Train as the flags say; returns the history, or None after Ctrl-C."""
    fill_in(args)
    teacher, tokenizer, _ = open_model(args.teacher)
    start = begin_student(args, teacher, tokenizer)
    student, sizes = start.model, (args.batch_size, args.block_size)
    for model in (teacher, student):
        if args.block_size > model.config.block_size:
            stretch(model, args.block_size)
        model.to(student.head_weight.device)
    if student.config.ngram_longest and not start.peft:  # answers alone are too few for it, as in fine_tuning.begin
        student.ngram_embedding.requires_grad_(args.text_share > 0)
    share = student.parameter_count() / teacher.parameter_count()
    print(f"{share:.1%} of the {teacher.parameter_count():,} parameters of its teacher, {shown(args.teacher)}")

    train, held_out = (examples(conversations(args.data, split), tokenizer, args.block_size, f"{args.data}, {split},")
                       for split in ("train", "validation"))
    first = round(args.text_share * args.steps)
    if first:
        text, *_ = open_tokens(ensure_tokens(args.text, bare(tokenizer)))
        check_length(args, text)
        text = shuffled_batches(text, *sizes, args.seed)
    answers = packed_batches(train, *sizes, args.seed)
    writer, temperature, written_share = {"logits": (None, 0, 0), "sequence": (teacher, 0, 1),
                                          "on_policy": (student, 1, args.student_share)}[args.kind]
    ends = tokenizer.end_of_text, *tokenizer.end_tokens
    written = written_batches(train, writer, ends, *sizes, args.seed, temperature)

    def batch(step):
        if step < first:
            return text(step)
        by_hand = np.random.default_rng((args.seed, step, 1)).random() >= written_share
        return (answers if by_hand else written)(step - first)

    def validate(model=student, most: int | None = 200):
        return answer_loss(model, held_out[:most], *sizes, start.dtype)

    floor = unigram_loss(train, held_out, tokenizer.vocab_size)
    trained = Distilled(student, teacher, args.teacher_share, args.distillation_temperature, args.beta)
    run = {name: getattr(args, name) for name in ("teacher", *CHOICES) if name != "student"}
    history = fine_tune(start, args, "distilled", batch, validate, trained, known=("unigrams' loss", floor), run=run,
                        table_rate=0.16 if args.student == "untrained" else 0.03)  # what a table knows is worth keeping
    if history is not None:
        ours, best = (validate(model, most=None) for model in (student, teacher))
        print(f"loss of all held-out answers: unigrams {floor:.3f}, student {ours:.3f}, teacher {best:.3f}; the student"
              f" keeps {(floor - ours) / (floor - best):.1%} of what its teacher knows more than unigrams")
    return history


def main():
    if train_command(arguments().parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
