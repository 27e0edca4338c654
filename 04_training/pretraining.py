"""Pretraining in earnest: what train.py does once its flags are read."""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint as recomputed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import trainer
from batches import mixed_batches, shuffled_batches, within_documents
from checkpoint import ensured
from cost import flops_per_token, matrix_speed
from distributed import share_gradients
from evaluation import evaluate
from flags import UserError, shown
from gpt import FAMILIES, Block
from lm_model import build, check_length, fingerprint, held_out_prompt, starting_point
from multi_token import MultiTokenPrediction
from ngram_embedding import NGramEmbedding
from optimizers import make_optimizer
from prepare import ensure_tokens, open_data, open_tokens
from recipes import CHOICES, check_choices, parse, take_choices, training_arguments
from sampling import generate
from schedules import SCHEDULES
from training_run import best_path, train_and_keep

DEFAULT_CHECKPOINT, SHORT_CHECKPOINT = flags.CHECKPOINTS / "04_training.pt", flags.CHECKPOINTS / "04_short.pt"


def chosen_parts(args):
    """What a new model is made of: entries of a GPTConfig. A head of its own goes with n-grams."""
    ngrams = {"ngram_longest": args.ngrams, "ngram_rows": args.ngram_rows, "ngram_dropout": args.ngram_dropout,
              "tied_head": False}
    return FAMILIES[args.family] | (ngrams if args.ngrams else {})


def make_batches(args, count, tokenizer, train_tokens):
    """step -> a batch for all `count` processes together, as the flags say."""
    texts, weights = [train_tokens], [1.0]
    for data, share in args.mix:
        try:
            weights.append(float(share))
        except ValueError:
            weights.append(math.nan)
        if not 0 < weights[-1] < 1:
            raise UserError(f"--mix {data} {share}: the share must be above 0 and below 1")
        texts.append(open_tokens(ensure_tokens(data, tokenizer))[0])
    weights[0] -= sum(weights[1:])
    if weights[0] <= 0:
        raise UserError(f"the shares of --mix leave nothing for {args.data}: their sum must be below 1")
    for tokens in texts:
        check_length(args, tokens)
    sizes = args.batch_size * count, args.block_size, args.seed
    if args.mix:
        batch = mixed_batches(texts, weights, *sizes)
    else:
        pieces = {"shuffled": shuffled_batches, "random": trainer.random_batches}[args.pieces]
        batch = pieces(train_tokens, *sizes)
    return within_documents(batch, tokenizer.end_of_text) if args.documents else batch


def recompute(model):
    """Let each block's activations be computed again when its gradients are, not kept until then.

    Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 4.
    """
    blocks: Any = [part for part in model.modules() if isinstance(part, Block)]
    for block in blocks:
        block.forward = lambda *inputs, forward=block.forward: recomputed(forward, *inputs, use_reentrant=False)


def compiled(model):
    """What torch.compile makes of a model; the table of n-grams, whose gradients are sparse, stays as it is.

    Raises UserError where it can't compile anything.
    """
    flags.check_compiler(next(model.parameters()).device)
    for part in model.modules():
        if isinstance(part, NGramEmbedding):
            part.forward = torch.compiler.disable(part.forward)  # pyright: ignore[reportAttributeAccessIssue]
    return torch.compile(model)


def tensorboard(folder):
    """A function that shows a run's history there. Raises UserError without the package."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard needs a package: pip install tensorboard") from error
    writer = SummaryWriter(folder)

    def log(history):
        row = history[-1]
        for name in row.keys() - {"step"}:
            if row[name] is not None:
                writer.add_scalar(name, row[name], row["step"])

    return log


def train_command(args, count=1):
    """Train as the flags say, in `count` processes; returns the history, or None after Ctrl-C."""
    weights, loaded, load, save = starting_point(args, DEFAULT_CHECKPOINT)
    take_choices(args, loaded["run"] if loaded else {})
    check_choices(args)
    logs = [tensorboard(args.tensorboard)] if args.tensorboard else []
    torch.manual_seed(args.seed)
    tokenizer, train_tokens, val_tokens = open_data(args, weights and weights["tokenizer"], args.load_model)
    batch = make_batches(args, count, tokenizer, train_tokens)
    schedule = SCHEDULES[args.schedule](args.learning_rate, args.steps, args.warmup, args.final)
    model, dtype = build(args, tokenizer.vocab_size, weights, **chosen_parts(args))
    device = model.head_weight.device
    print(f"{len(train_tokens):,} training and {len(val_tokens):,} validation tokens of {args.data}")

    def validate(most: int | None = 20_000):
        return evaluate(model, val_tokens, args.batch_size, args.block_size, dtype, most)

    def sample(history):
        if history[-1]["validation_loss"] is not None:
            prompt = torch.tensor([held_out_prompt(tokenizer, val_tokens)], device=device)
            print(f"    {tokenizer.decode(generate(model, prompt, 40, 0.7, top_p=0.9)[0].tolist())!r}")

    trained = MultiTokenPrediction(model, args.multi_token).to(device) if args.multi_token else model
    if loaded and args.multi_token and "multi_token" in loaded:
        trained.load_state_dict(loaded["multi_token"], strict=False)
    optimizer = make_optimizer(trained, args.optimizer, args.learning_rate, args.weight_decay)
    full_speed = matrix_speed(device, dtype) / flops_per_token(trained, args.block_size)
    if args.recompute:
        recompute(trained)
    # what must be equal for training to go on where it stopped
    kept = ("data", "batch_size", "learning_rate", "steps", "dropout", "seed", *CHOICES)
    run = {name: getattr(args, name) for name in kept} | {"text": fingerprint(train_tokens, val_tokens)}
    forward = share_gradients(compiled(trained) if args.compile else trained)
    logs += [sample] * args.samples
    history = train_and_keep(
        "gpt", model, tokenizer, optimizer, batch, schedule, validate, run,
        f"{args.data}, {model.parameter_count():,} parameters", loaded, load, save, dtype, forward,
        on_row=lambda history: [log(history) for log in logs], keep_best=True,
        beside={"multi_token": trained.beside} if args.multi_token else {},
        clip=args.clip, micro_batch=args.micro_batch, patience=args.patience, full_speed=full_speed,
    )
    if history is None:
        return None
    final = validate(most=None)
    print(f"validation loss {final:.3f}, perplexity {math.exp(min(final, 700)):.1f} on all {len(val_tokens):,}"
          " validation tokens")
    if save:
        print(f"checkpoint {shown(save)}, the best one {shown(best_path(save))}, loss curve"
              f" {shown(save.with_suffix('.png'))}, log {shown(save.with_suffix('.csv'))}")
    return history


def ensure_model():
    """The path of the default checkpoint; if there is none, of one from a short run, which is done now."""
    if DEFAULT_CHECKPOINT.exists():
        return DEFAULT_CHECKPOINT

    def train(words):
        args = parse(training_arguments(""), words)
        args.steps //= 4
        return train_command(args)

    first = "a short run first (04_training/train.py makes a better model)"
    return ensured(SHORT_CHECKPOINT, train, "gpt", first=first)
