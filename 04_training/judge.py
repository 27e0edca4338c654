"""How good a model's answers about Python's documentation are, beside those of other models.

    python 04_training/judge.py checkpoints/04_training.pt checkpoints/04_sft.pt checkpoints/04_dpo.pt
    python 04_training/judge.py smollm2 smollm2_lora.pt --limit 100

The questions are those of packages that training has not seen. Loss is of the right answers' tokens; the rest is of
the answers that the model itself gives, always with the likeliest token: the share that is exactly right, the reward
of the programmatic judge (docs_task.reward), how often that is higher than the reward of the model in the row above,
words an answer, the share of its triples of words that stand in the question, and the share of answers that end.
"""

import sys
from hashlib import sha256
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import docs_task
import flags
from chat_data import said
from chat_template import prompt_tokens
from evaluation import autocast
from fine_tuning import load_model
from sampling import Sampling, complete
from sft import answer_loss, examples

ROWS, LONGEST = 16, 60  # questions that are answered at once; tokens of an answer
HEADER = f"{'':24}    loss   exact  reward  better   words  copied    ends"


def answers(model, tokenizer, questions, dtype, most=LONGEST):
    """[(answer, whether it ended)] to some questions, with the likeliest tokens."""
    settings = Sampling(temperature=0, stop_tokens=tokenizer.end_tokens)
    prompts = [prompt_tokens([said("user", question)], tokenizer) for question in questions]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # neighbours of a length need no padding
    found: list = [None] * len(prompts)
    with autocast(model.head_weight.device, dtype):
        for at in range(0, len(order), ROWS):
            these = order[at : at + ROWS]
            for i, text in zip(these, complete(model, [prompts[i] for i in these], most, settings)):
                ended = text.ids[-1] in settings.stop_tokens
                found[i] = tokenizer.decode(text.ids[: len(text.ids) - ended]).strip(), ended
    return found


def judged(pairs, given):
    """{name: mean} of what can be said of some answers."""
    return {
        "exact": mean(docs_task.exact(pair, answer) for pair, answer in zip(pairs, given)),
        "words": mean(len(answer.split()) for answer in given),
        "copied": mean(docs_task.copy_rate(pair, answer) for pair, answer in zip(pairs, given)),
    }


def assess(pairs, model, tokenizer, dtype, block_size=512):
    """({name: number} of a model, the reward of each of its answers, the answers)."""
    block_size = min(block_size, model.config.block_size)
    talks = [[said("user", pair.question), said("assistant", pair.answer)] for pair in pairs]
    held_out = examples(talks, tokenizer, block_size, "the questions")
    given, ended = zip(*answers(model, tokenizer, [pair.question for pair in pairs], dtype))
    rewards = [docs_task.reward(pair, answer) for pair, answer in zip(pairs, given)]
    loss = answer_loss(model, held_out, ROWS, block_size, dtype)
    return {"loss": loss, **judged(pairs, given), "reward": mean(rewards), "ends": mean(ended)}, rewards, given


def trivial(pairs):
    """The same for the first sentence of what there is to read, which takes no model."""
    given = [docs_task.first_sentence(pair) for pair in pairs]
    rewards = [docs_task.reward(pair, answer) for pair, answer in zip(pairs, given)]
    return {**judged(pairs, given), "reward": mean(rewards)}, rewards, given


def row(name, numbers):
    """A line of the table; what is not known is left open."""
    columns = (("loss", "8.3f"), ("exact", "8.1%"), ("reward", "8.3f"), ("better", "8.1%"), ("words", "8.1f"),
               ("copied", "8.1%"), ("ends", "8.1%"))
    return f"{name:24}" + "".join(f"{numbers[key]:{form}}" if key in numbers else " " * 8 for key, form in columns)


def main():
    parser = flags.Parser("Judge answers about Python's documentation.")
    parser.add_argument("models", nargs="+", help="checkpoints, or folders, files or names of real weights")
    parser.add_argument("--split", choices=docs_task.SPLITS, default="test", help="the packages that are asked about")
    parser.add_argument("--limit", type=int, metavar="N", help="of how many questions, for a quick look (default: all)")
    parser.add_argument("--show", type=int, metavar="N", default=0, help="answers of each model to print")
    flags.machine_flags(parser, seed=False)
    args = parser.parse()
    flags.check_ranges(args, limit=1)
    pairs = sorted(docs_task.pairs(args.split), key=lambda pair: sha256(pair.name.encode()).digest())[: args.limit]
    numbers, before, given = trivial(pairs)
    said_by: dict = {"first sentence": given}
    lines = [row("first sentence", numbers)]
    for name in args.models:
        model, dtype, tokenizer = load_model(name, args)
        numbers, rewards, given = assess(pairs, model, tokenizer, dtype)
        lines.append(row(Path(name).name, numbers | {"better": docs_task.win_rate(rewards, before)}))
        before, said_by[Path(name).name] = rewards, given
    for i, pair in enumerate(pairs[: args.show]):
        print(f"---- {pair.question}\n{pair.answer}  <- the right answer")
        for name, given in said_by.items():
            print(f"{given[i]}  <- {name}")
    print(f"{len(pairs):,} questions of the {args.split} split\n{HEADER}", *lines, sep="\n")


if __name__ == "__main__":
    flags.run(main)
