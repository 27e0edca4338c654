"""Let a model sit a published exam: N replies to each question, m times over; every reply is kept as it comes.

    for line in sit(engine, "gsm8k", limit=100, request=Request(4, 256, 0.7), runs=3, path="gsm8k.jsonl"):
        print(line)

The original project's `--eval gsm8k --limit N --samples N --runs m`, for any engine, with pass@N and maj@N apart. The
file begins with a line of settings; each line behind it is a reply with what was extracted from it. What is there is
not asked again: the same call goes on after a Ctrl-C, a cut or a larger limit. Under torchrun each process takes its
share of the questions and writes a part of its own; the first one puts the parts together.
"""

import contextlib
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

from torch import distributed
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import likelihood
from atomic import replacing
from engine import LocalEngine, Request
from exam_questions import questions, subset
from extraction import final_answer, without_thoughts
from fine_tuning import mark
from flags import UserError, shown
from metrics import accuracy, over_runs, sample_metrics
from prompting import PROMPTINGS, STOP, conversation, finally_asked, shots_of
from prompting import asked as as_text
from result_lines import add_lines, read_lines
from trainer import this_process

ONCE = Request()  # one reply, of the likeliest tokens
TEXTS = 32  # replies that are asked for at once, and then kept
SHORT = 32  # tokens of a reply that holds an answer alone


# ---- the file ----


def key(line):
    return line["run"], line["number"], line["sample"]


def kept(path, settings):
    """{key: line} of a file of results, which is begun if it is not there, or not even its first line is whole.

    Raises UserError for other settings, or a file of something else, which stays as it is.
    """
    path = Path(path)
    first = {"settings": settings}
    if not path.exists() or json.dumps(first).encode("utf-8").startswith(path.read_bytes()):
        with replacing(path) as beside:
            add_lines(beside, [first])
        return {}
    try:
        head, *lines = read_lines(path)
        then, found = head["settings"], {key(line): line for line in lines}
        for name in [*settings, *sorted(then.keys() - settings.keys())]:
            if settings.get(name) != then.get(name):
                raise UserError(f"{path} has replies with {name} {then.get(name)}, not {settings.get(name)}: give"
                                " another file with --results, or the settings with which it was begun")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no file of results, or damaged: give another one with --results") from error
    return found


def part(path, rank):
    return Path(f"{path}.part{rank}")


def gathered(path, settings):
    """The file's lines, those of parts that torchrun's processes have left moved into it."""
    found = kept(path, settings)
    for each in sorted(Path(path).parent.glob(f"{Path(path).name}.part*")):
        new = {name: line for name, line in kept(each, settings).items() if name not in found}
        add_lines(path, new.values())
        found |= new
        each.unlink()
    return found


# ---- asking ----


def asker(engine, exam, prompting, request, shots):
    """A function (Questions, seed) -> for each of them [(reply, answer, tokens)], one for each sample."""
    if prompting in likelihood.WAYS:
        likeliest = likelihood.Likelihoods(engine, exam, shots, prompting)
        return lambda asked, seed: [[(letter, letter, 0)] for letter, _ in likeliest.answer(asked)]

    def ask(asked, seed):
        conversations = [conversation(question, prompting, shots) for question in asked]
        drawn = replace(request, seed=seed, stop=(*request.stop, *STOP))
        found = [[(reply.text, final_answer(reply.text, bool(question.choices)), reply.tokens) for reply in replies]
                 for question, replies in zip(asked, engine.replies(conversations, drawn))]
        return asked_again(engine, asked, conversations, found, drawn) if prompting == "zero_shot" else found

    return ask


def asked_again(engine, asked, conversations, found, request):
    """Replies in which no answer was found are gone on with: the model is asked for the answer alone.

    Kojima et al. 2022, section 3.1: "2nd prompt: answer extraction". Thoughts that have not ended stay without one.
    """
    open_ones = [(i, j) for i, replies in enumerate(found) for j, (text, said, _) in enumerate(replies)
                 if said is None and without_thoughts(text)]
    again = [[*conversations[i], *finally_asked(found[i][j][0], asked[i])] for i, j in open_ones]
    short = replace(request, samples=1, max_new_tokens=SHORT)
    for (i, j), (reply,) in zip(open_ones, engine.replies(again, short) if again else []):
        text, _, tokens = found[i][j]
        found[i][j] = (f"{text}\n\n{reply.text}", final_answer(reply.text, bool(asked[i].choices)),
                       tokens + reply.tokens)
    return found


def answer(ask, asked, runs, request, path, done):
    """Put what is not `done` to the model, and append each batch of replies to the file. Yields how many they are."""
    count = max(1, TEXTS // request.samples)
    for run in range(runs):
        open_ones = [(number, question) for number, question in asked
                     if any((run, number, sample) not in done for sample in range(request.samples))]
        for first in range(0, len(open_ones), count):
            these, began = open_ones[first : first + count], time.perf_counter()
            found = ask([question for _, question in these], request.seed + run)
            seconds = (time.perf_counter() - began) / sum(map(len, found))  # a reply's share of its batch's
            add_lines(path, [{"run": run, "number": number, "sample": sample, "question": as_text(question),
                              "reply": text, "extracted": said, "gold": question.answer,
                              "right": said == question.answer, "tokens": tokens, "seconds": round(seconds, 4)}
                             for (number, question), replies in zip(these, found)
                             for sample, (text, said, tokens) in enumerate(replies)])
            yield sum(map(len, found))


def sit(engine, exam, limit=None, request=ONCE, runs=1, prompting="zero_shot", shots=None, path=None, judge=None):
    """Yield lines: what each of `runs` came to, then means and mean absolute deviations. For the rest: `replies_of`.

    `judge`, if given, such as the verdicts of a judging.Judge, gets [(question, right answer, reply)] and says of each,
    as `.correct`, whether it is right, or None: that stands beside the exact comparison, and never in its place.
    """
    path = path or f"{exam.replace(':', '_')}_{prompting}.jsonl"
    asked, lines = replies_of(engine, exam, limit, request, runs, prompting, shots, path)
    if this_process()[0] > 0:
        return
    ks, found = sorted({1, request.samples}), []
    for run in range(runs):
        groups = [[lines[run, number, sample] for sample in range(request.samples)] for number, _ in asked]
        replies = [line for group in groups for line in group]
        metrics = sample_metrics([([line["extracted"] for line in group], [line["right"] for line in group])
                                  for group in groups], ks)
        del metrics["maj@1"]  # which is pass@1
        found.append(metrics)
        yield f"run {run + 1}: {with_intervals(metrics, len(groups))}; {described(replies)}"
        if judge is not None:
            yield f"run {run + 1}, judged: {judged(judge, replies)}"
    if runs > 1:
        yield over_runs(found)
    yield f"replies: {shown(path)}"


def replies_of(engine, exam, limit, request, runs, prompting, shots, path):
    """Ask what has not been asked yet -> ([(number, Question)], {(run, number, sample): line of the file}).

    `limit` questions, None for all; `prompting` is one of prompting.PROMPTINGS or likelihood.WAYS, and `shots` how many
    questions are shown, None for as many as usual. Raises UserError for what can't be asked.
    """
    if prompting not in (*PROMPTINGS, *likelihood.WAYS):
        raise UserError(f"no prompting '{prompting}': choose from {', '.join((*PROMPTINGS, *likelihood.WAYS))}")
    if (request.samples > 1 or runs > 1) and (request.temperature == 0 or prompting in likelihood.WAYS):
        raise UserError("samples and runs would all be the same without chance: add --temperature 0.7, or ask once")
    asked = subset(questions(exam), limit)
    examples = shots_of(exam, "direct" if prompting in likelihood.WAYS else prompting, shots)
    settings = {"model": engine.name, "exam": exam, "prompting": prompting, "shots": len(examples),
                **{name: value for name, value in asdict(request).items() if name != "stop"},
                "stop": list(request.stop)}
    if isinstance(engine, LocalEngine):  # the same name may be trained anew
        settings |= {"weights": round(mark(engine.model), 3), "template": engine.options}
    ask = asker(engine, exam, prompting, request, examples)
    rank, world = this_process()
    with in_turn(rank):
        done = gathered(path, settings) if rank == 0 else kept(path, settings)
    mine = path if world == 1 else part(path, rank)
    if world > 1:
        kept(mine, settings)
    share = asked[rank::world]
    total, wanted = len(share) * runs * request.samples, {number for number, _ in share}
    before = sum(number in wanted and run < runs for run, number, _ in done)
    try:
        # of processes that answer together the first one shows how far it is itself; no bar where nobody looks
        with tqdm(total=total, initial=before, desc=exam, unit="reply", disable=None if rank == 0 else True) as bar:
            for count in answer(ask, share, runs, request, mine, done):
                bar.update(count)
    except KeyboardInterrupt:
        print(f"what was said so far is kept in {shown(path)}: the same command goes on", file=sys.stderr)
        raise
    if world > 1:
        distributed.barrier()  # all parts are whole
    with in_turn(rank):
        return asked, gathered(path, settings) if rank == 0 else kept(path, settings)


@contextlib.contextmanager
def in_turn(rank):
    """The first process does this alone, while all others wait for it; then they do it, too."""
    several = this_process()[1] > 1
    if several and rank > 0:
        distributed.barrier()
    yield
    if several and rank == 0:
        distributed.barrier()


# ---- what came of it ----


def with_intervals(metrics, count):
    """"pass@1 12.0% (7.0% to 19.8%)": intervals of 95 %, as if each question had one reply."""
    ends = {name: accuracy([value] * count)[1:] for name, value in metrics.items()}
    return ", ".join(f"{name} {value:.1%} ({ends[name][0]:.1%} to {ends[name][1]:.1%})"
                     for name, value in metrics.items())


def described(lines):
    answered, tokens, seconds = (mean(each) for each in zip(*(
        (line["extracted"] is not None, line["tokens"], line["seconds"]) for line in lines)))
    return f"{len(lines):,} replies, {answered:.1%} with an answer, {tokens:.0f} tokens and {seconds:.2f} s each"


def judged(judge, lines):
    """What a judge says of the replies, and how often it agrees with the exact comparison."""
    verdicts = judge([(line["question"], line["gold"], line["reply"]) for line in lines])
    pairs = [(verdict.correct, line["right"]) for verdict, line in zip(verdicts, lines) if verdict.correct is not None]
    silent = len(lines) - len(pairs)
    if not pairs:
        return "no verdict of any reply"
    share, low, high = accuracy([said for said, _ in pairs])
    agreed = mean(said == right for said, right in pairs)
    return (f"{share:.1%} right ({low:.1%} to {high:.1%}), in agreement with the exact comparison {agreed:.1%},"
            f" {silent} without a verdict")
