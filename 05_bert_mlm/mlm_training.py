"""What train.py does: hide a part of a text, let BERT guess it, and keep what it has learned."""

import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
import flags
from bert_model import BERT, FAMILIES, BERTConfig
from bert_pretrained import is_pretrained, load_bert
from bert_tokens import Marks, choose_tokenizer, from_state
from evaluation import autocast, evaluating
from flags import UserError, shown
from lm_model import check_length, fingerprint, placed
from masked_batches import held_out_batches, masked_batches
from masking import KINDS
from optimizers import make_optimizer
from prepare import ensure_tokens, open_tokens
from schedules import SCHEDULES
from sentence_pairs import documents_of, held_out_pairs, pair_batches
from training_run import train_and_keep

DEFAULT_CHECKPOINT, SHORT_CHECKPOINT = flags.CHECKPOINTS / "05_bert_mlm.pt", flags.CHECKPOINTS / "05_short.pt"
NUMBERS = {
    "embedding_size": 256, "batch_size": 32, "block_size": 128, "learning_rate": 9e-3,
    "steps": 600, "head_count": 4, "layer_count": 4, "dropout": 0.0,
}
REAL = {"batch_size": 16, "learning_rate": 1e-4, "steps": 200, "dropout": 0.1, "optimizer": "adamw"}  # real weights
ADAMW_SHARE = 0.3  # of Muon's learning rate, for embeddings: with more of it words are learned before places
# flags that an unfinished run fixes, and what they are where neither it nor the user says
CHOICES = {"family": "modern", "mask_rate": 0.3, "masking": "token", "pairs": False, "optimizer": "muon",
           "schedule": "linear"}


def training_arguments(description):
    parser = flags.Parser(description, epilog="Real weights begin with other defaults: "
                          + ", ".join(f"{name} {value}" for name, value in REAL.items()) + ".")
    flags.training_flags(parser, save="checkpoints/05_bert_mlm.pt", **NUMBERS)
    choice_flags(parser, CHOICES)
    return parser


def choice_flags(parser, names):
    """Add the flags of those of CHOICES that are named."""
    group = parser.add_argument_group("what is hidden, and from whom")

    def choice(name, meaning, **settings):
        if name in names:
            group.add_argument(f"--{name}", help=f"{meaning} (default: {CHOICES[name]})", **settings)

    choice("family", "the parts of a new model: BERT's own, or those that encoders have today", choices=FAMILIES)
    choice("mask_rate", "share of the tokens that are hidden; validation always hides 15 %%", type=float)
    choice("masking", "what is hidden at a time: a token, a whole word, or several words running", choices=KINDS)
    choice("pairs", "pairs of sentences; whether the second follows the first is to be guessed, too",
           action="store_true", default=None)
    choice("optimizer", "Muon moves the matrices of blocks, and AdamW the rest", choices=["adamw", "muon"])
    choice("schedule", "how the learning rate falls after its warm-up", choices=SCHEDULES)
    parser.checkpointed |= {name: CHOICES[name] for name in names}


def comparison_arguments(description, names, numbers):
    """A parser for runs that are compared and not kept: some names of CHOICES, some of NUMBERS with their defaults."""
    parser = flags.Parser(description)
    flags.text_flags(parser)
    choice_flags(parser, names)
    flags.machine_flags(parser)
    flags.number_flags(parser, numbers)
    return parser


def starting_point(args):
    """(config, weights and tokenizer's state, or three times None; the checkpoint of an own run or None; paths).

    What they fix is taken over into `args`, and what is left open is chosen.
    """
    for name, default in CHOICES.items():
        setattr(args, name, args.typed.get(name, default))
    real = is_pretrained(args.load_model)
    load, save = flags.checkpoint_paths(args, DEFAULT_CHECKPOINT, real)
    if real:
        model, tokenizer = load_bert(args.load_model)
        config, weights, state, loaded = model.config, model.state_dict(), tokenizer.state(), None
        block_size = min(args.typed.pop("block_size", args.block_size), config.block_size)
        run = REAL | args.typed
    elif load:
        loaded = checkpoint.load(load, "bert")
        config, weights, state = BERTConfig(**loaded["config"]), loaded["model"], loaded["tokenizer"]
        block_size, run = config.block_size, loaded["run"]
    else:
        return None, None, None, None, load, save
    if "family" in args.typed:
        raise UserError(f"--family is for new models, and {args.load_model} has its parts: leave it out")
    flags.take_numbers(args, asdict(config), run, args.load_model)
    for name in CHOICES:
        setattr(args, name, args.typed.get(name, run.get(name, CHOICES[name])))
    args.block_size = block_size
    return config, weights, state, loaded, load, save


def check(args):
    flags.check_numbers(args)
    if args.block_size < 8:
        raise UserError(f"block_size {args.block_size} must be at least 8: [CLS] and [SEP] take their places, too")
    if not 0 < args.mask_rate < 1:
        raise UserError(f"mask_rate {args.mask_rate} must be more than 0 and less than 1")


def build(args, config, weights, tokenizer):
    """(model on its device, dtype), new or with these weights; a head that they lack begins untrained."""
    if config is None:
        sizes = args.embedding_size, args.block_size, args.head_count, args.layer_count
        config = BERTConfig(tokenizer.vocab_size, *sizes, **FAMILIES[args.family])
    config = replace(config, masked_head=True, dropout=args.dropout)
    if args.pairs and not (config.segment_count and config.pooler):
        config = replace(config, segment_count=2, pooler=True)
    model = BERT(config)
    if weights:
        model.load_state_dict(weights, strict=False)
    return placed(model, args)


@torch.no_grad()
def guessed(model, batches, dtype=torch.float32):
    """(mean loss of hidden tokens, share of them whose likeliest token is right) over some batches, without dropout."""
    device, loss, right, count = model.head_weight.device, 0.0, 0, 0
    with evaluating(model), autocast(device, dtype):
        for batch in batches:
            ids, targets, *rest = (part.to(device) for part in batch)
            logits = model.head(model.hidden(ids, *rest[:3], only=targets != -100)).float()
            targets = targets[targets != -100]
            loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            right += (logits.argmax(-1) == targets).sum().item()
            count += len(targets)
    return loss / max(count, 1), right / max(count, 1)


def train_command(args):
    """Train as the flags say and save; returns the history, or None after Ctrl-C."""
    config, weights, state, loaded, load, save = starting_point(args)
    check(args)
    torch.manual_seed(args.seed)
    tokenizer = choose_tokenizer(args, state)
    train_tokens, val_tokens, _ = open_tokens(ensure_tokens(args.data, tokenizer))
    check_length(args, train_tokens)
    if len(val_tokens) < args.block_size:
        raise UserError(f"{args.data} has {len(val_tokens):,} validation tokens, fewer than a block of"
                        f" {args.block_size}: give a longer text or a smaller block_size")
    model, dtype = build(args, config, weights, tokenizer)
    print(f"{len(train_tokens):,} training and {len(val_tokens):,} validation tokens of {args.data}")

    marks, sizes = Marks.of(tokenizer), (args.batch_size, args.block_size)
    if args.pairs:
        train, held_out = (documents_of(tokens, marks) for tokens in (train_tokens, val_tokens))
        batch = pair_batches(train, marks, *sizes, args.seed, args.mask_rate, args.masking)
        held_out = held_out_pairs(held_out, marks, *sizes)
    else:
        batch = masked_batches(train_tokens, marks, *sizes, args.seed, args.mask_rate, args.masking)
        held_out = held_out_batches(val_tokens, marks, *sizes)
    accuracy = []

    def validate():
        loss, share = guessed(model, held_out, dtype)
        accuracy.append(share)
        return loss

    def tell(history):
        if history[-1]["validation_loss"] is not None:
            print(f"    {accuracy[-1]:.1%} of the hidden tokens guessed")

    schedule = SCHEDULES[args.schedule](args.learning_rate, args.steps, 0.05, 0.0)
    kept = ("data", "batch_size", "learning_rate", "steps", "dropout", "seed", *CHOICES)
    run = {name: getattr(args, name) for name in kept} | {"text": fingerprint(train_tokens, val_tokens)}
    optimizer = make_optimizer(model, args.optimizer, args.learning_rate, adamw_share=ADAMW_SHARE)
    history = train_and_keep(
        "bert", model, tokenizer, optimizer, batch, schedule, validate, run,
        f"{args.data}, {model.parameter_count():,} parameters", loaded, load, save, dtype, on_row=tell)
    if history is None:
        return None
    whole = held_out if args.pairs else held_out_batches(val_tokens, marks, *sizes, most=len(val_tokens))
    loss, share = guessed(model, whole, dtype)
    print(f"validation loss {loss:.3f}, perplexity {math.exp(min(loss, 700)):.1f}, {share:.1%} guessed, of 15 % of the"
          f" validation tokens")
    if args.pairs:
        print(f"{follows_guessed(model, held_out, dtype):.1%} of the pairs guessed right")
    if save:
        print(f"checkpoint {shown(save)}, loss curve {shown(save.with_suffix('.png'))}")
    return history


@torch.no_grad()
def follows_guessed(model, batches, dtype=torch.float32):
    """The share of pairs of which the model rightly says whether the second sentence follows the first."""
    device, right, count = model.head_weight.device, 0, 0
    with evaluating(model), autocast(device, dtype):
        for batch in batches:
            ids, _, *rest, follows = (part.to(device) for part in batch)
            logits = model.next_sentence(model.pooled(model.hidden(ids, *rest)[follows != -100]))
            right += (logits.argmax(-1) == follows[follows != -100]).sum().item()
            count += (follows != -100).sum().item()
    return right / max(count, 1)


def ensure_model():
    """The path of the default checkpoint; if there is none, of one from a short run, which is done now."""
    if DEFAULT_CHECKPOINT.exists():
        return DEFAULT_CHECKPOINT

    def train(words):
        args = training_arguments("").parse(words)
        args.steps //= 4
        return train_command(args)

    first = "a short run first (05_bert_mlm/train.py makes a better model)"
    return checkpoint.ensured(SHORT_CHECKPOINT, train, "bert", first=first)


def load_model(path, args):
    """(model in eval mode, dtype, tokenizer) of a checkpoint or of real weights."""
    if is_pretrained(path):
        model, tokenizer = load_bert(path)
    else:
        loaded = checkpoint.load(path, "bert")
        tokenizer, model = from_state(loaded["tokenizer"]), BERT(BERTConfig(**loaded["config"]))
        model.load_state_dict(loaded["model"])
        checkpoint.tell_unfinished(loaded, path)
    model, dtype = placed(model.eval(), args)
    return model, dtype, tokenizer
