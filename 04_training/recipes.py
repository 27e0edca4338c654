"""The flags of train.py, and for each corpus those that are known to work."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import trainer
from flags import UserError
from gpt import FAMILIES
from schedules import SCHEDULES

# twice through two megabytes of text, in less than five minutes; three times are learned by heart
TWICE = {
    "tokenizer": "tokenizer", "ngram_dropout": 0.3, "embedding_size": 256, "batch_size": 16, "block_size": 128,
    "learning_rate": 9e-3, "steps": 530, "head_count": 4, "layer_count": 4, "dropout": 0.1,
}
SHAKESPEARE = {
    "data": "tinyshakespeare", "tokenizer": "char", "optimizer": "adamw", "ngrams": 6, "ngram_rows": 131072,
    "embedding_size": 128, "block_size": 256, "learning_rate": 6e-3, "head_count": 4, "layer_count": 1, "dropout": 0.0,
}
RECIPES = {
    "pydocs": {"data": "pydocs", **TWICE},
    "tinystories": {"data": "tinystories", **TWICE},
    "wikitext-2": {"data": "wikitext-2", **TWICE},
    # better than any count of characters in a quarter of the time of nanoGPT's recipe
    "tinyshakespeare": {**SHAKESPEARE, "batch_size": 8, "steps": 400},
    # as good as nanoGPT's recipe in a fiftieth of its time
    "sprint": {**SHAKESPEARE, "batch_size": 4, "steps": 60},
    # the report's second command; days on two cores: not run here
    "openwebtext": {
        "data": "openwebtext", "tokenizer": "tiktoken", "tokenizer_model": "o200k_base", "family": "gpt2",
        "ngrams": 0, "optimizer": "adamw", "schedule": "cosine", "embedding_size": 384, "batch_size": 64,
        "block_size": 256, "learning_rate": 3e-4, "steps": 5000, "head_count": 6, "layer_count": 6, "dropout": 0.2,
    },
}

# flags that an unfinished run fixes, and what they are where neither it nor the recipe nor the user says
CHOICES = {
    "family": "llama", "ngrams": 4, "ngram_rows": 65536, "ngram_dropout": 0.0, "optimizer": "muon",
    "schedule": "linear", "warmup": 0.05, "final": 0.0, "weight_decay": 0.1, "clip": 1.0, "pieces": "shuffled",
    "mix": [], "documents": False, "multi_token": 0.0,
}


def training_arguments(description):
    parser = flags.Parser(description)
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--recipe", choices=RECIPES, help="what is known to work for a text; flags that are typed win"
                                                          " (default: that of the text, else that of pydocs)")
    defaults = {name: TWICE[name] for name in flags.NUMBERS}
    flags.training_flags(parser, "tokenizer", "pydocs", "checkpoints/04_training.pt", **defaults)
    group = parser.add_argument_group("model and optimizer")

    def choice(name, meaning, **settings):
        group.add_argument(f"--{name}", help=f"{meaning} (default: {CHOICES[name]})", **settings)

    choice("family", "the parts of its blocks, in a new model", choices=FAMILIES)
    choice("ngrams", "length of the longest n-gram that has a vector of its own, in a new model; 0 for none", type=int)
    choice("ngram_rows", "vectors for the n-grams of each length", type=int)
    choice("ngram_dropout", "share of their vectors left out in training", type=float)
    choice("optimizer", "Muon moves the matrices of blocks, and AdamW the rest; plain_adamw is our own",
           choices=["adamw", "plain_adamw", "muon", "sgd"])
    choice("schedule", "how the learning rate falls after its warm-up", choices=SCHEDULES)
    choice("warmup", "share of the steps in which it rises", type=float)
    choice("final", "share of it that is left at the end", type=float)
    choice("weight_decay", "of matrices, times the learning rate", type=float)
    choice("clip", "the longest gradient that is followed whole", type=float)
    choice("multi_token", "weight of a second head's loss, which predicts the token after the next", type=float)
    group = parser.add_argument_group("batches")
    choice("pieces", "shuffled: each piece of the text once before any comes again; random: from random places",
           choices=["shuffled", "random"])
    group.add_argument("--mix", nargs=2, action="append", metavar=("DATA", "SHARE"),
                       help="another text, and the share of rows that come from it, all from random places;"
                            " may be given several times")
    group.add_argument("--documents", action="store_true", default=None,
                       help="no token looks beyond the beginning of its document")
    parser.checkpointed |= CHOICES
    group = parser.add_argument_group("speed and memory: these change no result")
    group.add_argument("--micro_batch", type=int, metavar="TOKENS", help="whose activations are held at a time"
                       f" (default: {trainer.MICRO_BATCH['cpu']:,} on a CPU)")
    group.add_argument("--recompute", action="store_true", help="compute activations of blocks twice, and keep none")
    group.add_argument("--compile", action="store_true", help="let torch.compile make the model's code faster")
    group = parser.add_argument_group("what is seen, and when it ends")
    group.add_argument("--samples", type=int, metavar="N", default=0,
                       help="lines that the model writes at each validation")
    group.add_argument("--tensorboard", metavar="FOLDER", help="log there, too; needs the package tensorboard")
    group.add_argument("--patience", type=int, metavar="N", help="stop after N validations without a better one")
    return parser


def parse(parser, words=None):
    """The flags, where those that were not typed come from the recipe."""
    parser.set_defaults(data=None)
    args = parser.parse(words)
    if args.data:
        args.typed["data"] = args.data
    name = args.recipe or (args.data if args.data in RECIPES else "pydocs")
    for flag, value in RECIPES[name].items():
        if flag not in args.typed:
            setattr(args, flag, value)
    return args


def take_choices(args, run):
    """Take from a checkpoint's run the choices that were not typed."""
    for name in ("data", *CHOICES):
        setattr(args, name, args.typed.get(name, run.get(name, getattr(args, name))))


def check_choices(args):
    flags.check_numbers(args)
    flags.check_ranges(args, ngram_rows=1, weight_decay=0, multi_token=0, micro_batch=1, patience=1)
    for name, wrong, cure in (
        ("ngrams", args.ngrams < 0 or args.ngrams == 1, "0 or at least 2"),
        ("ngram_dropout", not 0 <= args.ngram_dropout < 1, "at least 0 and less than 1"),
        ("clip", not args.clip > 0, "more than 0"),
    ):
        if wrong:
            raise UserError(f"{name} {getattr(args, name)} must be {cure}")
