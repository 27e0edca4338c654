"""Train a gpt2-style language model on a text, then let it write: the report's script, whole.

    python 03_gpt/lm_model.py
    python 03_gpt/lm_model.py -t tiktoken -m o200k_base -l lm.pt -s lm.pt -d my.txt 8 8 4 1e-3 5000 4 3 0.1
    python 03_gpt/lm_model.py -l lm.pt -d my.txt --no_train

`train.py` and `infer.py` beside it are its two halves.
"""

import math
import sys
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import checkpoint
import flags
import trainer
from evaluation import evaluate
from flags import UserError, shown
from gpt import GPT, GPTConfig
from prepare import choose_tokenizer, open_data
from pretrained import is_pretrained, load_pretrained
from training_run import train_and_keep
from writing import write
from writing_flags import check_generation, generation_flags

DEFAULT_CHECKPOINT = flags.CHECKPOINTS / "03_gpt.pt"
NUMBERS = {
    "embedding_size": 128, "batch_size": 8, "block_size": 64, "learning_rate": 3e-3,
    "steps": 3000, "head_count": 4, "layer_count": 2, "dropout": 0.0,
}
DIFFERENCES = """The original's defaults were -t tiktoken -m o200k_base 8 4 8 1e-4 5000 4 3 0.2. Here they are a
tokenizer of our own, because it needs no download and its small vocabulary suits a small model, and numbers with
which two processor cores reach readable text within three minutes. Dropout is 0 because no text is read often enough
in that time to be learned by heart."""


def training_arguments(description):
    parser = flags.Parser(description, epilog=DIFFERENCES)
    flags.training_flags(parser, save="checkpoints/03_gpt.pt", **NUMBERS)
    return parser


def build(args, vocab_size, loaded=None, **parts):
    """(model on its device, dtype), with the weights of a checkpoint if one was loaded, else of a config's parts."""
    if loaded:
        config = GPTConfig(**loaded["config"])
    else:
        sizes = args.embedding_size, args.block_size, args.head_count, args.layer_count
        config = GPTConfig(vocab_size, *sizes, **parts)
    config.dropout = getattr(args, "dropout", 0.0)
    model = GPT(config)
    if loaded:
        model.load_state_dict(loaded["model"])
    return placed(model, args)


def placed(model, args):
    """(model on the device that the flags mean, dtype), and a line that says so."""
    device = flags.choose_device(args.device)
    dtype = flags.choose_dtype(args.dtype, device, model.config.embedding_size)
    print(f"device {device}, dtype {str(dtype).removeprefix('torch.')}, {model.parameter_count():,} parameters")
    return model.to(device), dtype


def starting_point(args, default):
    """What -l and -s mean: (where weights come from or None, that if it is a checkpoint, its path, where to save).

    What it fixes is taken over into `args`.
    """
    real = is_pretrained(args.load_model)
    load, save = flags.checkpoint_paths(args, default, real)
    if real:
        return real_weights(args), None, None, save
    loaded = checkpoint.load(load, "gpt") if load else None
    if loaded:
        flags.take_numbers(args, loaded["config"], loaded["run"], load)
    return loaded, loaded, load, save


def train_command(args):
    """Train as the flags say and save; return (model, dtype, tokenizer, validation tokens), or None after Ctrl-C."""
    weights, loaded, load, save = starting_point(args, DEFAULT_CHECKPOINT)
    flags.check_numbers(args)
    torch.manual_seed(args.seed)
    tokenizer, train_tokens, val_tokens = open_data(args, weights and weights["tokenizer"], args.load_model)
    check_length(args, train_tokens)
    model, dtype = build(args, tokenizer.vocab_size, weights)
    print(f"{len(train_tokens):,} training and {len(val_tokens):,} validation tokens of {args.data}")

    # what must be equal for training to go on where it stopped
    run = {name: getattr(args, name) for name in ("batch_size", "learning_rate", "steps", "dropout", "seed")}
    run["text"] = fingerprint(train_tokens, val_tokens)

    def validate(most: int | None = 20_000):
        return evaluate(model, val_tokens, args.batch_size, args.block_size, dtype, most)

    history = train_and_keep(
        "gpt", model, tokenizer, trainer.make_optimizer(model, args.learning_rate),
        trainer.random_batches(train_tokens, args.batch_size, args.block_size, args.seed),
        trainer.warmup_cosine(args.learning_rate, args.steps), validate, run,
        f"{args.data}, {model.parameter_count():,} parameters", loaded, load, save, dtype,
    )
    if history is None:
        return None
    final = validate(most=None)
    perplexity = math.exp(min(final, 700))
    print(f"validation loss {final:.3f}, perplexity {perplexity:.1f} on all {len(val_tokens):,} validation tokens")
    if save:
        print(f"checkpoint {shown(save)}, loss curve {shown(save.with_suffix('.png'))}")
    return model, dtype, tokenizer, val_tokens


def real_weights(args):
    """What -l names, as if it were a checkpoint. It fixes the sizes, too, but trains on blocks as short as is typed."""
    model, tokenizer = load_pretrained(args.load_model)
    block_size = min(args.typed.pop("block_size", 256), model.config.block_size)
    config = asdict(model.config)
    flags.take_numbers(args, config, {}, args.load_model)
    args.block_size = block_size
    return {"model": model.state_dict(), "config": config, "tokenizer": tokenizer.state()}


def fingerprint(train_tokens, val_tokens):
    """What tells one text from another, for a run that goes on."""
    return [len(train_tokens), len(val_tokens), int(train_tokens[:1000].sum())]


def check_length(args, train_tokens):
    if len(train_tokens) <= args.block_size:
        raise UserError(
            f"{args.data} has {len(train_tokens):,} training tokens, and one block takes {args.block_size} and one"
            " more: give a longer text or a smaller block_size"
        )


def ensure_model():
    """The path of the default checkpoint; if there is none, it is trained now, with the default numbers.

    A run that was stopped may be a reader's own, of another text: it is left as it is, and `load_model` says so.
    """
    return checkpoint.ensured(DEFAULT_CHECKPOINT, lambda words: train_command(training_arguments("").parse(words)))


def load_model(path, args):
    """(model, dtype, tokenizer) of a checkpoint or of real weights. Raises UserError if there are none."""
    if is_pretrained(path):
        model, tokenizer = load_pretrained(path)
        return *placed(model, args), tokenizer
    loaded = checkpoint.load(path, "gpt")
    flags.take_numbers(args, loaded["config"], {}, path)
    tokenizer = choose_tokenizer(args, loaded["tokenizer"], path)
    checkpoint.tell_unfinished(loaded, path)
    return *build(args, tokenizer.vocab_size, loaded), tokenizer


def held_out_prompt(tokenizer, val_tokens, length=8):
    """The ids of the first words of a document that training has not seen."""
    ends = (val_tokens[:-length] == tokenizer.end_of_text).nonzero()[0]
    first = int(ends[0]) + 1 if len(ends) else 0
    ids = val_tokens[first : first + 2 * length].tolist()
    while len(ids) > length and tokenizer.decode(ids[length : length + 1])[:1].isalnum():
        length += 1  # to the end of the word
    return ids[:length]


def main():
    parser = training_arguments("Train a gpt2-style language model on a text, then let it write.")
    flags.no_train_flag(parser)
    generation_flags(parser, "a piece of the held-out text")
    args = parser.parse()
    check_generation(args)
    if args.no_train:
        if args.load_model == "untrained":
            raise UserError("--no_train needs a model: name a checkpoint with -l")
        model, dtype, tokenizer = load_model(args.load_model, args)
        if args.prompt is None:
            _, _, val_tokens = open_data(args, tokenizer.state(), args.load_model)
    else:
        trained = train_command(args)
        if trained is None:
            sys.exit(130)
        model, dtype, tokenizer, val_tokens = trained
    if args.prompt is None:
        prompt = held_out_prompt(tokenizer, val_tokens)
    else:
        prompt = tokenizer.encode(args.prompt, disallowed_special=())
    write(model, dtype, tokenizer, [prompt], args)


if __name__ == "__main__":
    flags.run(main)
