"""How an exam's question is put to a model: at once, or so that it thinks first; as a conversation, or as one text.

    conversation(question, "zero_shot")                                 # one turn: "... Let's think step by step ..."
    conversation(question, "few_shot", shots_of("gsm8k", "few_shot"))   # eight worked problems as turns before it
    conversation(question, "direct", shots_of("gsm8k", "direct"))       # the same problems, with their answers alone
    listed_beginning("mmlu:formal_logic", shots), listed(question)      # plain text, for the letters' log-likelihoods

A model's chat template makes tokens of a conversation (04_training/chat_template.py; PLAIN is for models without one).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from chat_data import said
from exam_questions import PRACTICE, questions, subset
from flags import UserError

PROMPTINGS = ("direct", "zero_shot", "few_shot")
LETTERS = "ABCD"
SHOTS = {"gsm8k": 8, "mmlu": 5}  # as in Wei et al. 2022, and Hendrycks et al. 2021
STOP = ("\nQ:",)  # a model that was never taught to talk would go on with a question of its own
THINK = "Let's think step by step."
AT_ONCE = "Say only: The answer is {}."
FINALLY = {False: "Therefore, the answer (arabic numerals) is", True: "Therefore, among A through D, the answer is"}


def asked(question):
    """The question as text, with its choices below each other."""
    return "\n".join([question.text, *(f"{letter}. {each}" for letter, each in zip(LETTERS, question.choices))])


def claim(answer, question):
    """How an answer is said: "The answer is 18.", "The answer is (B)." (Wei et al. 2022, figure 1)."""
    return f"The answer is {f'({answer})' if question.choices else answer}."


def conversation(question, prompting, shots=()):
    """The messages that ask a question; those of `shots`, which are answered, are turns before it.

    "zero_shot" is Kojima et al. 2022, "Large Language Models are Zero-Shot Reasoners", section 3; "few_shot" Wei et al.
    2022, "Chain-of-Thought Prompting Elicits Reasoning in Large Language Models", and "direct" what they compare it to.
    """
    messages = []
    for shot in shots:
        why = f"{shot.rationale}\n" if prompting == "few_shot" else ""
        messages += [said("user", asked(shot)), said("assistant", why + claim(shot.answer, shot))]
    wanted = AT_ONCE.format("(letter)" if question.choices else "(number)") if prompting == "direct" else THINK
    return [*messages, said("user", asked(question) + ("" if shots else f"\n\n{wanted}"))]


def finally_asked(thoughts, question):
    """What goes on with a conversation whose reply had thoughts, but no answer: Kojima et al. 2022, section 3.1."""
    return [said("assistant", thoughts), said("user", FINALLY[bool(question.choices)])]


def shots_of(exam, prompting, count=None):
    """The Questions that are shown with their answers: always the same ones, and none of the test split.

    Raises UserError where there are not as many, or where they are to be explained and are not.
    """
    if prompting == "zero_shot":
        return []
    name = exam.partition(":")[0]
    found, count = questions(exam, PRACTICE), SHOTS[name] if count is None else count
    if count == 0 and prompting != "few_shot":
        return []
    if not 1 <= count <= len(found):
        raise UserError(f"shots {count} must be from 1 to {len(found):,}, the questions that may be shown")
    # MMLU's are shown in their own order, as everybody does
    chosen = found[:count] if name == "mmlu" else [question for _, question in subset(found, count)]
    if prompting == "few_shot" and not all(question.rationale for question in chosen):
        raise UserError(f"the questions of {exam} come without reasons to show: use --prompting zero_shot or direct")
    return chosen


def thinking_options(tokenizer, thinks=True):
    """What a chat template is told: whether the model thinks first, if it is one that can be asked to (Qwen3).

    Raises UserError for a model that can't.
    """
    if "enable_thinking" not in (tokenizer.chat_template or ""):
        raise UserError("this model's chat template has no thinking mode: leave out the flag, or let it think by"
                        " --prompting zero_shot")
    return {"enable_thinking": thinks}


# ---- plain text, for log-likelihoods ----


def listed_beginning(exam, shots):
    """What all questions of an MMLU subject are read behind: the heading and the questions that are shown."""
    return heading(exam) + "".join(f"{listed(shot)} {shot.answer}\n\n" for shot in shots)


def listed(question):
    """The form of Hendrycks et al. 2021, figure 1a: " A", " B", " C" or " D" goes on from there."""
    return f"{asked(question)}\nAnswer:"


def unlisted_beginning(exam, shots):
    """The same without the choices, where a whole choice goes on."""
    return heading(exam) + "".join(f"{unlisted(shot)} {shot.choices[LETTERS.index(shot.answer)]}\n\n" for shot in shots)


def unlisted(question):
    return f"{question.text}\nAnswer:"


def heading(exam):
    subject = exam.partition(":")[2].replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"
