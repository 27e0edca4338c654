"""What infer.py asks of other models than the reasoners of this chapter: real weights, or a server, by the same flags.

    python 07_cot/infer.py "How many legs have 3 cats and 2 birds?" -l smollm2 --samples 4
    python 07_cot/infer.py --eval gsm8k --limit 100 --samples 4 --runs 3
    python 07_cot/infer.py --eval mmlu:college_mathematics -l smollm2 --prompting letters
    python 07_cot/infer.py --eval gsm8k --endpoint http://127.0.0.1:8000 --judge http://127.0.0.1:8001
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import checkpoint
from endpoint import Endpoint
from engine import Request, load_engine
from exam_questions import EXAMS, Question, questions
from extraction import final_answer
from flags import UserError
from judging import judge_at
from likelihood import WAYS
from pretrained import is_pretrained
from prompting import PROMPTINGS, STOP, conversation, shots_of, thinking_options
from published_exams import sit
from voting import vote

LIMIT = 100  # questions of an exam, where nothing is said
OURS = ("top_k", "min_p", "repetition_penalty", "no_repeat_ngram", "min_new_tokens", "calculator", "least_steps",
        "most_steps", "step_beams", "refine", "verifier", "plot", "difficulty")  # what only our reasoners understand


def engine_flags(parser):
    """Add the flags of other models to those of ours; `untouched` in the result has what OURS are if not given."""
    parser.set_defaults(untouched={name: parser.get_default(name) for name in OURS})
    group = parser.add_argument_group("other models: real weights by -l, or servers that speak OpenAI's protocol")
    group.add_argument("--endpoint", metavar="URL", help="ask the model of a server, whose key is in OPENAI_API_KEY")
    group.add_argument("--endpoint_model", metavar="NAME", help="which of its models (default: the first)")
    group.add_argument("--judge", metavar="URL", help="with --eval: let a server's model judge the replies, too")
    group.add_argument("--judge_model", metavar="NAME", help="which of its models (default: the first)")
    group.add_argument("--concurrency", type=int, metavar="N", default=8, help="requests under way at once")
    group.add_argument("--timeout", type=float, metavar="S", default=300.0, help="seconds without a word from a server")
    group.add_argument("--prompting", choices=[*PROMPTINGS, *WAYS], default="zero_shot",
                       help="think first, asked to or by examples; answer at once; or which choice is the likeliest")
    group.add_argument("--shots", type=int, metavar="N", help="examples (default: GSM8K 8, MMLU 5)")
    group.add_argument("--thinking", choices=["on", "off"],
                       help="Qwen3's thinking mode, a switch of its chat template (default: the template's own)")
    group.add_argument("--results", metavar="FILE", help="of --eval: each reply as a line of JSON; what is there is not"
                       " asked again (default: the exam's name and the prompting, here)")


def is_reasoner(path):
    """Whether this is a checkpoint of 07_cot/train.py, whose questions are those of the families."""
    return not is_pretrained(path) and "style" in checkpoint.load(path, "gpt", "adapters")["run"]


def chosen_engine(args):
    """The engine that the flags name. Raises UserError for flags that mean nothing to it."""
    typed = [f"--{name}" for name, value in args.untouched.items() if getattr(args, name) != value]
    if typed:
        raise UserError(f"{typed[0]} is for this chapter's own reasoners: leave it out")
    if args.judge and not args.eval:
        raise UserError("--judge compares replies with known answers: add --eval gsm8k")
    if not args.endpoint:
        engine = load_engine(args.load_model or "smollm2", args)
        if args.thinking:
            engine.options = thinking_options(engine.tokenizer, args.thinking == "on")
        return engine
    if args.load_model:
        raise UserError("-l is a model here and --endpoint one elsewhere: give one of them")
    extra = {"chat_template_kwargs": {"enable_thinking": args.thinking == "on"}} if args.thinking else None
    return Endpoint(args.endpoint, args.endpoint_model, concurrency=args.concurrency, timeout=args.timeout,
                    extra=extra)


def request_of(args, stop=()):
    """The Request that the flags of generation mean."""
    return Request(args.samples, args.max_new_tokens or Request.max_new_tokens, args.temperature, args.top_p, stop,
                   args.seed)


def ask(engine, question, args):
    """Yield lines: each reply to a question in plain words, the answer that it claims, and the votes."""
    if args.prompting in WAYS:
        raise UserError(f"--prompting {args.prompting} is for questions with choices: give --eval {EXAMS[1]}")
    shots = shots_of("gsm8k", args.prompting, args.shots) if args.prompting == "few_shot" else []
    messages = conversation(Question(question, ""), args.prompting, shots)
    (replies,) = engine.replies([messages], request_of(args, STOP))
    answers = [final_answer(reply.text) for reply in replies]
    for number, (reply, answer) in enumerate(zip(replies, answers), 1):
        end = "" if reply.ended else " ..."
        yield f"---- reply {number} of {len(replies)}, {reply.tokens} tokens: {answer or 'no answer'}"
        yield f"{reply.text.strip()}{end}"
    if len(replies) > 1:
        found = vote(answers)
        yield f"---- vote: {found.answer or 'none'} ({found.share:.0%})"


def examine(engine, args):
    """Yield lines: what an exam came to (published_exams.sit)."""
    judge = None
    if args.judge:
        judge = judge_at(args.judge, args.judge_model, concurrency=args.concurrency, timeout=args.timeout).verdicts
    limit = args.limit or min(LIMIT, len(questions(args.eval)))
    yield from sit(engine, args.eval, limit, request_of(args), args.runs, args.prompting, args.shots, args.results,
                   judge)
