"""The flags of every script that lets a model write: how tokens are chosen, and how many texts are drawn."""

import math

from flags import UserError, check_ranges


def sampling_flags(parser, prompt, max_new_tokens: int | None = 120, temperature=0.7, top_p=0.9):
    """Add the flags of how tokens are chosen; `prompt` says what is gone on from when none is given."""
    group = parser.add_argument_group("generation")
    group.add_argument("-p", "--prompt", help=f"text to go on from (default: {prompt})")
    group.add_argument("-n", "--max_new_tokens", type=int, default=max_new_tokens, help="how many tokens to add")
    group.add_argument("--temperature", type=float, default=temperature,
                       help="0 takes the likeliest, 1 samples as learned")
    group.add_argument("--top_k", type=int, help="sample from the k likeliest tokens only")
    group.add_argument("--top_p", type=float, default=top_p,
                       help="sample from the likeliest tokens that hold this probability only")
    group.add_argument("--min_p", type=float,
                       help="sample from the tokens that have this share of the likeliest one's probability only")
    group.add_argument("--repetition_penalty", type=float, default=1.0,
                       help="above 1 makes tokens that the text has already less likely")
    group.add_argument("--no_repeat_ngram", type=int, metavar="N", help="never say the same N tokens twice")
    group.add_argument("--min_new_tokens", type=int, default=0, help="no end of text before that many")
    return group


def generation_flags(parser, prompt, max_new_tokens: int | None = 120):
    """Add the flags of writing: those of sampling, and what else can be done with texts."""
    group = sampling_flags(parser, prompt, max_new_tokens)
    group.add_argument("--stop", action="append", metavar="TEXT", default=[],
                       help="end where the model says this; may be given several times (default: none)")
    group = parser.add_argument_group("several texts at once")
    group.add_argument("--samples", type=int, metavar="N", default=1, help="draw N texts, and show all")
    group.add_argument("--best_of", type=int, metavar="N", default=1, help="draw N texts, and show the likeliest")
    group.add_argument("--beams", type=int, metavar="N", default=1,
                       help="draw nothing, but look for the likeliest text with N beginnings at a time")
    group.add_argument("--length_penalty", type=float, default=1.0,
                       help="with --beams: the power of its length by which a text's log-probability is divided;"
                            " the higher, the longer the texts")
    group.add_argument("--early_stopping", action="store_true",
                       help="with --beams: end as soon as N texts have ended, without a look for likelier ones")
    group = parser.add_argument_group("what is shown")
    group.add_argument("--logprobs", action="store_true", help="how likely the model found each token")
    group.add_argument("--stats", action="store_true", help="time to the first token, and tokens per second")


def check_sampling(args):
    """Raise UserError for a value that no token can be chosen with."""
    check_ranges(args, max_new_tokens=1, temperature=0, top_k=1, min_p=(0, 1), no_repeat_ngram=1)
    for name, wrong, cure in (
        ("top_p", not 0 < args.top_p <= 1, "above 0 and at most 1"),
        ("repetition_penalty", not 0 < args.repetition_penalty < math.inf, "above 0, and 1 changes nothing"),
        ("min_new_tokens", not 0 <= args.min_new_tokens <= (args.max_new_tokens or math.inf),
         "from 0 to max_new_tokens"),
    ):
        if wrong:
            raise UserError(f"{name} {getattr(args, name)} must be {cure}")


def check_generation(args):
    """Raise UserError for a value that no text can be written with."""
    check_sampling(args)
    check_ranges(args, samples=1, best_of=1, beams=1, length_penalty=(-10, 10))
    if "" in args.stop:
        raise UserError("--stop '' would end every text before it begins: name a text")
    several = [f"--{name}" for name in ("samples", "best_of", "beams") if getattr(args, name) > 1]
    if len(several) > 1:
        raise UserError(f"{' and '.join(several)} are different ways to get a text: choose one")
    if args.beams == 1 and (args.length_penalty != 1 or args.early_stopping):
        raise UserError("--length_penalty and --early_stopping are of beam search: add --beams 4, or leave them out")
    if args.beams > 1 and (args.logprobs or args.stats):
        raise UserError("--logprobs and --stats tell of tokens one by one, --beams finds whole texts: leave it out")
