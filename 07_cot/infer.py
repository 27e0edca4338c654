"""Ask a trained model: it thinks in several ways at once, and votes.

    python 07_cot/infer.py "3*9+6*8*2*1-5?" --samples 16
    python 07_cot/infer.py "3*9+6*8*2*1-5?" --samples 16 --plot         # draws the thought tree
    python 07_cot/infer.py "3*9+6*8*2*1-5?" --calculator
    python 07_cot/infer.py "3*9+6*8*2*1-5?" --samples 16 --verifier     # who is right counts for more
    python 07_cot/infer.py "3*9+6*8*2*1-5?" --route                     # thinks only as long as it has to
    python 07_cot/infer.py "Bob has 58 pens. Bob loses 17. How many has Bob?" --route -l smollm2
    python 07_cot/infer.py --eval arithmetic --limit 400 --samples 16 --runs 3
    python 07_cot/infer.py --eval gsm8k                                 # asking.py: other models, and published exams
"""

import sys
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import flags
from asking import ask, chosen_engine, engine_flags, examine, is_reasoner
from chains import CALCULATORS, Chain, Guide, row_generators, think
from distributed import processes
from evaluation import autocast
from exam_questions import EXAMS
from family_runs import measured_runs
from fast_decode import for_writing
from flags import UserError, shown
from problem_batches import STYLES
from reasoner import ensure_reasoner, load_reasoner
from step_search import refine, step_beams
from tasks import family_of, find
from thought_tree import draw_tree, tree_of
from thought_tree_page import write_page
from thoughts import routed
from verifier import ensure_verifiers, load_verifier, scores
from voting import tally
from writing_flags import check_sampling, sampling_flags


def arguments():
    parser = flags.Parser("Let a model think about a question in several ways, and vote.")
    parser.add_argument("question", nargs="?", help="of one of the families; 07_cot/tasks.py shows how they look")
    sampling_flags(parser, "nothing: a question is needed", max_new_tokens=None, top_p=1.0)
    group = parser.add_argument_group("thinking")
    group.add_argument("--samples", type=int, metavar="N", default=1, help="draw N chains at once")
    group.add_argument("--calculator", action="store_true",
                       help=f"a tool writes what stands behind each = ({', '.join(CALCULATORS)})")
    group.add_argument("--least_steps", type=int, metavar="N", default=0,
                       help="an answer before that many is turned into 'wait' (train.py --slips teaches the word)")
    group.add_argument("--most_steps", type=int, metavar="N", help="behind that many the answer is due")
    group.add_argument("--step_beams", type=int, metavar="N", default=0,
                       help="search: after each step keep the N likeliest beginnings")
    group.add_argument("--refine", type=int, metavar="ROUNDS", default=0,
                       help="write the first chain anew from the step on of which the model is least sure")
    group.add_argument("--verifier", nargs="?", const="default", metavar="PATH",
                       help="weigh votes, and choose beams, by what a verifier thinks of a chain (default: the process"
                            " model of 07_cot/verifier.py for the question's family, trained if need be)")
    group.add_argument("--route", action="store_true", help="let a router decide after each thought whether a base"
                       " model, or what -l names, should answer; a Tiny Thought Model thinks for it (thoughts.py;"
                       " trained if need be)")
    group.add_argument("--plot", nargs="?", const="thought_tree.png", metavar="FILE",
                       help="draw the thought tree: a PNG, or a page for a browser if the name ends with .html")
    group = parser.add_argument_group("a set of questions")
    group.add_argument("--eval", metavar="NAME", help="instead of a question, test problems of a family, or an exam:"
                       f" {', '.join(EXAMS)}")
    group.add_argument("--limit", type=int, metavar="N", help="how many of them (default: 400, of an exam 100)")
    group.add_argument("--difficulty", type=int, help="of these (default: the family's own)")
    group.add_argument("--runs", type=int, metavar="M", default=1, help="all of it M times, with other chances")
    group = parser.add_argument_group("model")
    group.add_argument("-l", "--load_model", metavar="PATH",
                       help="a checkpoint, or a folder, file or name of real weights such as smollm2 (default: that of"
                            " the question's family, trained if need be)")
    group.add_argument("--style", choices=STYLES, default="chain", help="think first, or answer at once")
    engine_flags(parser)
    flags.machine_flags(parser)
    return parser


def steering(args, name, tokenizer):
    """How the tokens of chains are chosen, as the flags say."""
    says = CALCULATORS[name] if args.calculator else None
    return Guide(args.temperature, args.top_k, args.top_p, args.min_p, args.repetition_penalty, args.no_repeat_ngram,
                 args.min_new_tokens, tokenizer=tokenizer, says=says, least_steps=args.least_steps,
                 most_steps=args.most_steps)


def judge_of(args, name):
    """A function (question, texts) -> scores of chains or beginnings from 0 to 1; None without --verifier."""
    if args.verifier is None:
        return None
    path = ensure_verifiers(name)[0] if args.verifier == "default" else args.verifier
    verifier, dtype, tokenizer = load_verifier(path, args)
    return lambda question, texts: scores(verifier, tokenizer, [question], [texts], dtype)[0]


def draw_chains(model, tokenizer, question, args, name, judge=None):
    """The Chains that the flags ask for."""
    settings = steering(args, name, tokenizer)
    if args.step_beams:
        return step_beams(model, tokenizer, question, args.step_beams, score=judge, settings=settings)
    generators = row_generators(args.samples, args.seed)
    (chains,) = think(model, tokenizer, [question], args.samples, settings, args.max_new_tokens, generators)
    if args.refine:
        chains[0] = refine(model, tokenizer, question, chains[0], args.refine, settings=settings)
    return chains


def marked(question, chain, family):
    """A chain as text, in which what does not follow is marked: "3*9=7;7+6=4(wrong);#4(wrong)"."""
    rights = family.judge(question, chain.steps)[0]
    words = [f"{step}{'' if right else '(wrong)'};" for step, right in zip(chain.steps, rights)]
    if chain.answer is None:
        return f"{''.join(words)} no answer"
    return f"{''.join(words)}#{chain.answer}{'' if family.right(question, chain.answer) else '(wrong)'}"


def main():
    parser = arguments()
    args = parser.parse()
    question = args.question if args.prompt is None else args.prompt
    if (question is None) == (args.eval is None):
        parser.error("give a question, such as '3*9+6*8*2*1-5?', or --eval and a family")
    check_sampling(args)
    flags.check_ranges(args, samples=1, least_steps=0, step_beams=0, refine=0, limit=1, runs=1)
    if args.route:
        if args.eval or args.endpoint:
            raise UserError("--route thinks about a question, with models on this machine: leave out --eval and"
                            " --endpoint")
        for line in routed(question, args):
            print(line, flush=True)
        return
    if args.endpoint or args.eval in EXAMS or args.load_model and not is_reasoner(args.load_model):
        with processes(args.device):
            engine = chosen_engine(args)
            for line in examine(engine, args) if args.eval else ask(engine, question, args):
                print(line, flush=True)
        return
    name = args.eval or family_of(question)
    family = find(name)
    if args.calculator and name not in CALCULATORS:
        raise UserError(f"--calculator is for {', '.join(CALCULATORS)}: leave it out")
    for flag in ("step_beams", "refine", "verifier", "plot") if args.eval else ():
        if getattr(args, flag):
            raise UserError(f"--{flag} is for one question: leave it out with --eval")
    path = args.load_model or ensure_reasoner(name, args.style)
    model, dtype, tokenizer, _ = load_reasoner(path, args)
    model, dtype = for_writing(model, dtype)
    with torch.no_grad(), autocast(model.head_weight.device, dtype):
        if args.eval:
            for line in measured_runs(model, tokenizer, name, steering(args, name, tokenizer), args.limit or 400,
                                      args.samples, args.runs, args.seed, args.difficulty, args.max_new_tokens):
                print(line, flush=True)
        else:
            judge = judge_of(args, name)
            show(question, draw_chains(model, tokenizer, question, args, name, judge), family, args.plot, judge)


def show(question, chains, family, plot, judge=None):
    """Print the chains, the votes and the answer; draw the tree to the path `plot`, if there is one."""
    print(question)
    weights = judge(question, [chain.text for chain in chains]) if judge else [1] * len(chains)
    believed = {chain.text: f" {weight:.2f}" if judge else "" for chain, weight in zip(chains, weights)}
    for text, count in Counter(chain.text for chain in chains).most_common():
        print(f"{count:4}x{believed[text]} {marked(question, Chain(text), family)}")
    votes = tally([chain.answer for chain in chains], weights)
    if not votes:
        print("no chain came to an answer")
        return
    ranked = sorted(votes, key=lambda answer: votes[answer], reverse=True)
    print(f"votes: {', '.join(f'{answer} {votes[answer]:.4g}' for answer in ranked)}")
    answer = ranked[0]
    truth = "right" if family.right(question, answer) else f"wrong: it is {family.solve(question).answer}"
    print(f"answer: {answer} ({truth})")
    if plot:
        (write_page if Path(plot).suffix == ".html" else draw_tree)(tree_of(question, chains, family), plot)
        print(f"thought tree: {shown(plot)}")


if __name__ == "__main__":
    flags.run(main)
