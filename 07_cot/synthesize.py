"""Thousands of questions with their steps and answers, made by a bigger model of texts, or by the exact generators.

    python 07_cot/synthesize.py                                             # 10,000 of all families, in seconds
    python 07_cot/synthesize.py -d pydocs -l smollm2 --target 200
    python 07_cot/synthesize.py -d notes/ --endpoint http://localhost:8000/v1 --apart gsm8k/test.jsonl -o pairs.jsonl
    python 07_cot/train.py -d checkpoints/07_synthesized.jsonl              # learns from it; so does 04_training/sft.py

Texts are cut into passages, a model asks and answers from each, and what question_checks.py finds wrong, or has seen
before, goes to the file .rejected.jsonl beside, with its reason. Each line says where it comes from. Both files only
grow, a batch of passages at a time: the same command goes on where it was stopped.
"""

import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import corpora
import flags
from annotate import Rejected, problem_of, report
from chat_data import said
from endpoint import Endpoint
from engine import Request, load_engine
from flags import UserError, shown
from question_checks import checked, pair_from
from reading import END_OF_TEXT
from result_lines import add_lines, read_lines
from seen_questions import Seen, questions_apart
from tasks import FAMILIES, draw

OUTPUT = flags.CHECKPOINTS / "07_synthesized.jsonl"
LEAST, LONGEST = 200, 1000  # characters of a passage
INSTRUCTION = """Write one question that this passage answers, one to three short steps of thought that lead to the \
answer, and the short answer, in the passage's own words. The question must make sense without the passage. Write a \
computation as <<3*4=12>>12. Reply in JSON: {"question": "...?", "steps": ["..."], "answer": "..."}"""
EXAMPLES = (
    ("The town library of Elm lends books for three weeks. Whoever returns a book late pays 2 dollars for each week.",
     {"question": "For how long does the town library of Elm lend its books?",
      "steps": ["The library lends a book for three weeks, then it is late."], "answer": "three weeks"}),
    ("Mr. Webb keeps 12 hens. Each of them lays 5 eggs a week, and he sells all of them at the market on Saturday.",
     {"question": "Mr. Webb keeps 12 hens that lay 5 eggs a week each. How many eggs does he sell on Saturday?",
      "steps": ["All 12 hens together lay 12*5 = <<12*5=60>>60 eggs a week."], "answer": "60"}),
    ("Basalt is a dark rock. It forms when lava cools quickly at the surface, so that its crystals stay small.",
     {"question": "Why are the crystals of basalt small?",
      "steps": ["Basalt forms when lava cools quickly."], "answer": "because the lava cools quickly"}),
)
PARTS = ("Write one question that this passage answers.", "Which sentence of this passage answers this question?",
         "Answer with a few words of this passage:")
PROMPT = sha256(repr((INSTRUCTION, EXAMPLES, PARTS)).encode()).hexdigest()[:8]  # its version: no change is forgotten
EXACT = "the exact generators of 07_cot/tasks.py"


# ---- from texts to conversations ----


def spans(text, separator, begin, end):
    """(begin, end) of what stands between the separators in a part of a text."""
    for match in re.compile(separator).finditer(text, begin, end):
        yield begin, match.start()
        begin = match.end()
    yield begin, end


def cut(text, least=LEAST, longest=LONGEST):
    """(begin, end) of passages: as many whole paragraphs as fit; of a paragraph that does not fit, whole sentences."""
    units, begin, last = [], None, 0
    for paragraph in spans(text, r"\n\s*\n", 0, len(text)):
        fits = paragraph[1] - paragraph[0] <= longest
        units += [paragraph] if fits else spans(text, r"(?<=[.!?])\s+", *paragraph)
    for unit_begin, unit_end in [*units, (len(text) + longest, len(text) + longest)]:
        if begin is not None and unit_end - begin > longest:
            piece = text[begin:last]
            begin += len(piece) - len(piece.lstrip())
            if len(piece.strip()) >= least:
                yield begin, begin + len(piece.strip())
            begin = None
        if unit_end - unit_begin <= longest:  # no sentence is that long: it is a table, or a program
            begin, last = unit_begin if begin is None else begin, unit_end


def passages(source):
    """(text, its origin) of each passage of a corpus, a text file or a folder; no text comes twice.

    The origin tells which of the characters it is that data/corpora.py reads, and the licence if that is known.
    """
    seen, begin, document = set(), 0, ""
    licence = getattr(corpora.CORPORA.get(source.partition("/")[0]), "licence", None)
    for piece in chain(corpora.pieces(source), [END_OF_TEXT]):
        if piece != END_OF_TEXT:
            document += piece
            continue
        for first, last in cut(document):
            text = document[first:last]
            if (name := sha256(text.encode()).hexdigest()[:16]) not in seen:
                seen.add(name)
                span = [begin + first, begin + last]
                yield text, {"source": source, "span": span, "sha256": name, "licence": licence}
        begin, document = begin + len(document) + len(END_OF_TEXT), ""


def whole_replies(engine, texts, request):
    """For each passage the replies to a conversation that has the examples before."""
    before = [turn for text, pair in EXAMPLES
              for turn in (said("user", f"{text}\n\n{INSTRUCTION}"), said("assistant", json.dumps(pair)))]
    found = engine.replies([[*before, said("user", f"{text}\n\n{INSTRUCTION}")] for text in texts], request)
    return [[reply.text for reply in replies] for replies in found]


def replies_in_parts(engine, texts, request):
    """The same of a model too small for JSON and examples: question, thought and answer are asked for one by one."""
    request = replace(request, stop=("\n",))
    found = engine.replies([[said("user", f"{text}\n\n{PARTS[0]}")] for text in texts], request)
    rows = [(text, reply.text.strip()) for text, replies in zip(texts, found) for reply in replies]
    steps, answers = (engine.replies([[said("user", f"{text}\n\n{part} {question}")] for text, question in rows],
                                     replace(request, samples=1)) for part in PARTS[1:])
    told = [json.dumps({"question": question, "steps": [step.text.strip()], "answer": answer.text.strip()})
            for (_, question), (step,), (answer,) in zip(rows, steps, answers)]
    return [told[i : i + request.samples] for i in range(0, len(told), request.samples)]


# ---- the two files ----


class Pairs:
    """What is kept and what is rejected, in two files and in memory; `common` is the same for all lines of a file."""

    def __init__(self, path, common, apart):
        self.paths = path, path.with_suffix(".rejected.jsonl")
        self.common = common
        self.kept, self.rejected = map(read_lines, self.paths)
        self.new = [], []
        self.seen = Seen(apart, [pair["question"] for _, pair in EXAMPLES])
        for line in (*self.kept, *self.rejected):
            for name, value in common.items():
                if not isinstance(line, dict) or line.get(name) != value:
                    raise UserError(f"{shown(path)} was made in another way, and not with {name} {value}: name another"
                                    " file with -o, or move it away")
        for line in self.kept:
            self.seen.add(line["question"], FAMILIES.get(line["source"]))
        self.done = {line["sha256"] for line in (*self.kept, *self.rejected)}  # passages, and questions of families
        self.write()  # nothing yet; but a last line that was cut off goes

    def judge(self, make, origin, family=None, reply=None):
        """Keep the Problem that make() returns or, with its reason, what was said instead."""
        origin = {**origin, **self.common, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            problem = make()
            self.seen.check(problem.question, family)
        except Rejected as error:
            self.new[1].append({"reason": error.reason, "wrong": str(error.wrong), "reply": reply, **origin})
            return
        self.seen.add(problem.question, family)
        pair = {"question": problem.question, "steps": [*problem.steps], "answer": problem.answer}
        self.new[0].append({**pair, **origin})

    def write(self):
        """Append what was judged since the last time."""
        for path, new, old in zip(self.paths, self.new, (self.kept, self.rejected)):
            add_lines(path, new)
            old += new
            new.clear()

    def report(self):
        """Lines: for each source how many were made and kept, and why the others were not."""
        for source in dict.fromkeys(line["source"] for line in (*self.kept, *self.rejected)):
            kept = [problem_of(line) for line in self.kept if line["source"] == source]
            rejected = [(f"at {line.get('span', 'a problem')}", Rejected(line["reason"], line["wrong"]))
                        for line in self.rejected if line["source"] == source]
            yield from report(source, kept + rejected, kept, rejected, FAMILIES.get(source))


# ---- who makes them ----


def from_families(pairs, names, target):
    """As many problems of each family, a twentieth for validation and one for tests, as annotate deals them."""
    for i, name in enumerate(names):
        count, family = target // len(names) + (i < target % len(names)), FAMILIES[name]
        held_out = count // 20
        for split, part in (("train", count - 2 * held_out), ("validation", held_out), ("test", held_out)):
            for problem in draw(name, split, part, pairs.common["seed"]) if part else ():
                origin = {"source": name, "sha256": sha256(problem.question.encode()).hexdigest()[:16]}
                if origin["sha256"] not in pairs.done:  # else an earlier run made it
                    pairs.judge(partial(checked, problem, family), origin, family)
    pairs.write()


def from_texts(pairs, sources, ask, target, at_once):
    """Ask about one batch of passages after the other, until there are `target` pairs: ask(texts) -> their replies."""
    left = (each for source in sources for each in passages(source) if each[1]["sha256"] not in pairs.done)
    with tqdm(total=target, initial=len(pairs.kept), unit=" pairs", disable=None) as bar:
        while len(pairs.kept) < target and (batch := list(islice(left, at_once))):
            for (text, origin), replies in zip(batch, ask([text for text, _ in batch])):
                for reply in replies:
                    pairs.judge(partial(pair_from, reply, text), origin, reply=reply)
            pairs.write()
            pairs.done.update(origin["sha256"] for _, origin in batch)
            bar.update(len(pairs.kept) - bar.n)
            bar.set_postfix(rejected=len(pairs.rejected))


def arguments():
    parser = flags.Parser("Make questions, their steps and answers, by the thousand.")
    parser.add_argument("-d", "--data", nargs="+", metavar="SOURCE", default=list(FAMILIES),
                        help="families, or corpora, text files and folders of them (default: all families)")
    parser.add_argument("-o", "--output", metavar="PATH", default=str(OUTPUT), help="JSONL file to begin or go on with")
    parser.add_argument("--target", type=int, metavar="N", default=10_000, help="end when the file has that many pairs")
    parser.add_argument("--apart", nargs="+", metavar="FILE", default=[],
                        help="JSONL files of questions that must not be asked, or gsm8k/test.jsonl")
    group = parser.add_argument_group("who asks about texts")
    group.add_argument("-l", "--load_model", metavar="PATH", help="a checkpoint, or real weights such as smollm2")
    group.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server")
    group.add_argument("--endpoint_model", metavar="NAME", help="one of its models (default: its first)")
    group.add_argument("--in_parts", action="store_true",
                       help="ask for question, thought and answer one by one: for models too small for JSON")
    group.add_argument("--samples", type=int, metavar="N", default=4, help="pairs to ask for of each passage")
    group.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token each time")
    group.add_argument("-n", "--max_new_tokens", type=int, default=200, help="of a pair")
    group.add_argument("--concurrency", type=int, metavar="N", default=8, help="passages that are asked about at once")
    flags.machine_flags(parser)
    return parser


def open_engine(args):
    """(an engine, or None for families, what all lines have in common). Raises UserError."""
    families = [name for name in args.data if name in FAMILIES]
    if families and len(families) < len(args.data):
        raise UserError(f"{families[0]} is a family, which needs no model: let texts go to a file of their own")
    if families:
        return None, {"model": EXACT, "seed": args.seed}
    if (args.load_model is None) == (args.endpoint is None):
        raise UserError("who asks about these texts? Name one: -l smollm2, say, or --endpoint URL")
    if args.endpoint:
        engine = Endpoint(args.endpoint, args.endpoint_model, concurrency=args.concurrency)
    else:
        engine = load_engine(args.load_model, args)
    prompt = f"{PROMPT}{', in parts' if args.in_parts else ''}"
    return engine, {"model": engine.name, "prompt": prompt, "seed": args.seed, "temperature": args.temperature}


def main():
    args = arguments().parse()
    flags.check_ranges(args, target=1, samples=1, max_new_tokens=1, concurrency=1, temperature=(0, 10))
    path, apart = Path(args.output), questions_apart(args.apart)
    engine, common = open_engine(args)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", timeout=0):
            pairs = Pairs(path, common, apart)
            try:
                if engine is None:
                    from_families(pairs, args.data, args.target)
                else:
                    request = Request(args.samples, args.max_new_tokens, args.temperature, seed=args.seed)
                    ask = partial(replies_in_parts if args.in_parts else whole_replies, engine, request=request)
                    from_texts(pairs, args.data, ask, args.target, args.concurrency)
            finally:  # after Ctrl-C, too: the same command goes on
                print(*pairs.report(), f"{len(pairs.kept):,} pairs in {shown(path)}", sep="\n")
    except Timeout as error:
        raise UserError(f"another process writes to {shown(path)}: wait, or name another file with -o") from error


if __name__ == "__main__":
    flags.run(main)
