"""Train the pieces of a model that thinks when it is asked to, as far as they are missing.

    python 07_cot/thoughts.py                   # base, LoRA for answers, Tiny Thought Model, router
    python 07_cot/thoughts.py -d addition --seed 1338
    python 07_cot/thoughts.py -l smollm2        # the same pieces for real weights, on word problems

The base (thinking_base.py) answers, with LoRA (answering.py), at once or with thoughts in its context. The Tiny Thought
Model (thought_distillation.py), a sixth of its size, writes the thoughts. The router (router.py) reads what the base
knows, and says whether it should be given a thought first.
"""

import sys
from dataclasses import asdict, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from answering import ensure_answers
from flags import UserError, shown
from router import load_router, route
from router_training import budget_of, ensure_router, open_pieces
from tasks import family_of, find
from thinking_base import ensure_base
from thought_distillation import ensure_tiny
from thought_plan import REAL_NUMBERS, Plan


def ensure_thoughts(plan, seed, args):
    """{piece: its path} of base, answers, tiny and router; what is missing is trained now."""
    paths = {"base": ensure_base(plan, args), "answers": ensure_answers(plan, seed, args),
             "tiny": ensure_tiny(plan, seed, args)}
    return paths | {"router": ensure_router(plan, seed, args)}


def routed(question, args, plan=None):
    """Yield lines: what the router decides about a question, each thought, and the answer. For `infer.py --route`.

    `args` has load_model, seed, device and dtype. The pieces of the question's family are trained now if they are
    missing.
    """
    plan = plan or plan_for(args.load_model, data=family_of(question))
    paths = ensure_thoughts(plan, args.seed, args)
    base, writer = open_pieces(plan, args.seed, args)
    router, threshold = load_router(paths["router"], base.device)
    found, = route(base, writer, router.probabilities, [question], threshold, budget_of(plan))
    family = find(plan.data)
    rights = family.judge(question, found.thoughts)[0]
    yield f"{question}  (an answer is given where the router believes it with {threshold:.2f} or more)"
    for k, believed in enumerate(found.believed):
        said = f"{k} thoughts" if k != 1 else "1 thought"
        if k < len(found.thoughts):
            yield (f"{said}: {believed:.3f}, think: {found.thoughts[k]}{'' if rights[k] else ' (wrong)'}")
        elif believed >= threshold:
            yield f"{said}: {believed:.3f}, answer"
        else:
            yield f"{said}: {believed:.3f}, but {'there are no more' if found.ended else 'these are all it may have'}"
    right = found.answer is not None and family.right(question, found.answer)
    truth = "right" if right else f"wrong: it is {family.solve(question).answer}"
    yield f"answer: {found.answer} ({truth}); {found.written} tokens written, {found.read} read"


def thought_arguments(description, seed=True):
    parser = flags.Parser(description)
    parser.add_argument("-l", "--load_model", metavar="PATH", default="untrained",
                        help="what the base is made of: a checkpoint, or a folder, file or name of real weights such as"
                             " smollm2; 'untrained' is this chapter's own reasoner")
    group = parser.add_argument_group("pieces")
    meanings = {"data": "the family of problems", "hardest": "difficulty; problems are of all up to it",
                "problems": "of each difficulty, for training", "layers": "of a base that is not loaded",
                "base_steps": "of the base's training", "rank": "of LoRA",
                "answer_steps": "of LoRA's training for answers",
                "chains": "of each difficulty, that the teacher writes", "sequence_steps": "of the Tiny Thought Model"
                " on these", "on_policy_steps": "further ones, on chains of its own, with the teacher's logits",
                "routed": "problems of each difficulty that the router learns from"}
    for each in fields(Plan):
        if each.name != "load_model":
            short = ["-d"] if each.name == "data" else []
            other = f"; {REAL_NUMBERS[each.name]} with -l" if each.name in REAL_NUMBERS else ""
            group.add_argument(*short, f"--{each.name}", type=each.type,
                               help=f"{meanings[each.name]} (default: {each.default}{other})")
    flags.machine_flags(parser, seed)
    return parser


def plan_for(load_model=None, **typed):
    """A Plan for this chapter's own models, or, with the numbers for these, for those that -l names."""
    if load_model in (None, "untrained"):
        return Plan(**typed)
    return Plan(**REAL_NUMBERS | typed, load_model=load_model)


def plan_of(args):
    """The Plan that the flags mean. Raises UserError for what can't be."""
    typed = {each.name: getattr(args, each.name) for each in fields(Plan) if each.name != "load_model"}
    plan = plan_for(args.load_model, **{name: value for name, value in typed.items() if value is not None})
    if plan.load_model and args.layers:
        raise UserError(f"--layers is of a base that is made here, not of {plan.load_model}: leave it out")
    family = find(plan.data)
    if not family.easiest <= plan.hardest <= family.hardest:
        raise UserError(f"hardest {plan.hardest} of {plan.data} must be from {family.easiest} to {family.hardest}")
    for name, value in asdict(plan).items():
        if name not in ("data", "load_model") and value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    return plan


def main():
    args = thought_arguments("Train what thinks when it is asked to: base, Tiny Thought Model, router.").parse()
    for piece, path in ensure_thoughts(plan_of(args), args.seed, args).items():
        print(f"{piece}: {shown(path)}")


if __name__ == "__main__":
    flags.run(main)
