"""The families against judges that know nothing of them: Python itself, sorting, and trying all possibilities."""

import contextlib
import graphlib
import io
import itertools
import random
import re

import numpy as np
import pytest
from countdown_task import plan, term_value
from family import WAIT, kept, read_chain, write_chain
from for_tests import refuse, succeed
from tasks import CHARACTERS, FAMILIES, draw, family_of


def of_all_difficulties(name, count):
    """Problems of a family, `count` of each of up to five difficulties."""
    family = FAMILIES[name]
    levels = sorted({round(level) for level in np.linspace(family.easiest, family.hardest, 5)})
    return [problem for level in levels for problem in draw(name, "train", count, level, level)]


# ---- answers against other ways to find them ----


def test_arithmetic_equals_python_with_brackets():
    for problem in of_all_difficulties("arithmetic", 40):
        term = problem.question[0]
        for operator, digit in zip(problem.question[1:-1:2], problem.question[2::2]):
            term = f"({term}{operator}{digit})"
        assert problem.answer == str(eval(term) % 10), problem
        for step in problem.steps:
            before, after = step.split("=")
            assert eval(before) % 10 == int(after)


@pytest.mark.parametrize("name", ["addition", "multiplication"])
def test_sums_and_products_equal_python(name):
    for problem in of_all_difficulties(name, 60):
        assert problem.answer == str(eval(problem.question[:-1])), problem
        for step in problem.steps:
            before, after = step.split("=")
            assert eval(re.sub(r"\b0+(?=\d)", "", before)) == int(after), step


def test_numbers_on_paper_have_carries_and_zeros():
    for question in ("999+1?", "5+17?", "0+0?", "907*308?", "25*4?", "12*0?", "10*10?"):
        assert FAMILIES[family_of(question)].solve(question).answer == str(eval(question[:-1]))


def test_word_problems_equal_python():
    meanings = ((r"(\w+) has (\d+) [a-z]+\.", r"\1 = \2"), (r"(\w+) buys (\d+) more\.", r"\1 = \1 + \2"),
                (r"(\w+) loses (\d+)\.", r"\1 = \1 - \2"), (r"(\w+) has (\d+) more than (\w+)\.", r"\1 = \3 + \2"),
                (r"(\w+) has (\d+) fewer than (\w+)\.", r"\1 = \3 - \2"),
                (r"(\w+) has (\d+) times as many as (\w+)\.", r"\1 = \3 * \2"))
    for problem in of_all_difficulties("words", 60):
        *sentences, asked = re.findall(r"[^.?]+[.?]", problem.question)
        has = {}
        for sentence in sentences:
            (line,) = [re.sub(form, meaning, sentence.strip()) for form, meaning in meanings
                       if re.fullmatch(form, sentence.strip())]
            exec(line, {"__builtins__": {}}, has)
            assert all(0 <= number <= 99 for number in has.values())
        assert problem.answer == str(has[asked.split()[-1][:-1]]), problem


def test_programs_print_what_python_prints():
    for problem in of_all_difficulties("programs", 60):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(problem.question.removesuffix("?"), {})
        assert out.getvalue() == f"{problem.answer}\n", problem


def test_booleans_equal_python():
    for problem in of_all_difficulties("booleans", 60):
        term = problem.question[:-1].replace("T", "1").replace("F", "0").replace("!", "~")
        assert problem.answer == "FT"[eval(term) & 1], problem


def reachable(numbers):
    """Everything that all numbers together can become, with nothing below 0 on the way."""
    if len(numbers) == 1:
        return set(numbers)
    found = set()
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = [number for n, number in enumerate(numbers) if n not in (i, j)]
        for value in {numbers[i] + numbers[j], numbers[i] - numbers[j], numbers[i] * numbers[j]}:
            if value >= 0:
                found |= reachable([*rest, value])
    return found


def test_countdown_reaches_its_target():
    for problem in of_all_difficulties("countdown", 30):
        numbers, target = problem.question[:-1].split("=")
        assert eval(problem.answer) == int(target), problem
        assert sorted(re.findall(r"\d+", problem.answer)) == sorted(numbers.split()), "each number once"
        assert FAMILIES["countdown"].right(problem.question, problem.answer)
        assert all(eval(step.replace("=", "==")) for step in problem.steps)


def test_countdown_has_a_plan_where_there_is_one():
    generator = random.Random(0)
    for _ in range(40):
        numbers = [generator.randint(1, 9) for _ in range(generator.randint(2, 4))]
        possible = reachable(numbers)
        for target in range(120):
            assert (plan(tuple(sorted(numbers)), target) is not None) == (target in possible), (numbers, target)


def test_countdown_knows_when_the_target_is_lost():
    family, question = FAMILIES["countdown"], "2 3 4=14?"  # 3 * 4 + 2
    assert family.judge(question, ["3*4=12", "12+2=14"]) == ([True, True], "(3*4)+2")
    assert family.judge(question, ["2+12=14"]) == ([False], None), "there is no 12 yet"
    assert family.judge(question, ["2+3=5", "5*4=20"])[0] == [False, False] and 14 not in reachable([5, 4])
    assert family.judge(question, ["3*4=12"]) == ([True], None)


@pytest.mark.parametrize("text", ["(9-5)*6", "9-5*6", "2*3+4*5", "((1))", "1-2-3", "2*(3+4)*5", "7"])
def test_terms_have_the_values_that_python_gives_them(text):
    assert term_value(text) == (eval(text), [int(number) for number in re.findall(r"\d+", text)])


@pytest.mark.parametrize("text", ["", "(", ")", "1+", "*2", "(1", "1)", "1 + 2", "1/2", "a", "²", "-1", "(" * 5000])
def test_what_is_no_term_is_no_answer(text):
    assert not FAMILIES["countdown"].right("2 3=6?", text)
    assert FAMILIES["countdown"].right("2 3=6?", "3*2") and not FAMILIES["countdown"].right("2 3=6?", "6")


def test_ordering_equals_a_topological_order():
    for problem in of_all_difficulties("ordering", 60):
        *pairs, place = problem.question[:-1].split()
        before = {}
        for pair in pairs:
            before.setdefault(pair[2], []).append(pair[0])
        assert problem.answer == list(graphlib.TopologicalSorter(before).static_order())[int(place) - 1], problem


MEANINGS = {"lies": lambda own, other: not other, "true": lambda own, other: other,
            "both lie": lambda own, other: not own and not other, "one lies": lambda own, other: not (own and other),
            "alike": lambda own, other: own == other, "differ": lambda own, other: own != other}


def test_knights_have_exactly_one_solution():
    """Of all 2^n possibilities; that one lies means that at least one does."""
    for problem in of_all_difficulties("knights", 12):
        said = re.findall(r"(\w): (?:\w,)?(\w) ([a-z ]+)\.", problem.question)
        assert len(said) == problem.question.count(".")
        people = sorted({person for who, about, _ in said for person in (who, about)})
        possible = [kinds for values in itertools.product((False, True), repeat=len(people))
                    if (kinds := dict(zip(people, values)))
                    and all(kinds[who] == MEANINGS[what](kinds[who], kinds[about]) for who, about, what in said)]
        assert len(possible) == 1, problem
        assert problem.answer == ("".join(person for person in people if possible[0][person]) or "none"), problem


# ---- chains, right and wrong ----


@pytest.mark.parametrize("name", FAMILIES)
def test_right_chains_are_judged_right(name):
    for problem in of_all_difficulties(name, 20):
        assert read_chain(problem.chain) == (list(problem.steps), problem.answer)
        right, answer = FAMILIES[name].judge(problem.question, problem.steps)
        assert all(right) and len(right) == len(problem.steps) and answer == problem.answer
        assert FAMILIES[name].right(problem.question, problem.answer)
        assert not FAMILIES[name].right(problem.question, problem.answer + "0")
        assert set(problem.question + problem.chain) <= set(CHARACTERS)
        short = problem.steps[:-1]
        assert FAMILIES[name].judge(problem.question, short) == ([True] * len(short), None), "it does not get there"
        more = (*problem.steps, problem.steps[-1])
        right, answer = FAMILIES[name].judge(problem.question, more)
        assert right == [True] * len(short) + [True, False] and answer is None, "after the end nothing follows"


def altered(step):
    """A claim of the same form that says something else."""
    if step.endswith(("lies", "true")):
        return step[:-4] + {"lies": "true", "true": "lies"}[step[-4:]]
    return step[:-1] + ("FT"[step[-1] == "F"] if step[-1] in "TF" else str((int(step[-1]) + 1) % 10))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "ordering"])  # its steps have no results
def test_a_broken_step_is_marked_and_those_that_go_on_from_it_are_right(name):
    generator, whole = random.Random(1), 0
    for problem in draw(name, "train", 40, seed=5):
        thinker, steps, wrong = FAMILIES[name].think(problem.question), [], generator.randrange(len(problem.steps))
        try:
            step = next(thinker)
            while True:
                steps.append(altered(step) if len(steps) == wrong else step)
                step = thinker.send(steps[-1])
        except StopIteration as end:
            answer, whole = end.value, whole + 1
        except ValueError:  # nothing follows from that claim
            answer = None
        assert len(steps) > wrong
        right, follows = FAMILIES[name].judge(problem.question, steps)
        assert right == [i != wrong for i in range(len(steps))] and follows == answer, (problem, steps)
        repaired = [*steps[: wrong + 1], WAIT, *problem.steps[wrong:]]
        right, follows = FAMILIES[name].judge(problem.question, repaired)
        assert all(right) and follows == problem.answer, "what was taken back claims nothing"
    assert whole >= 10


def test_a_wrong_neighbour_is_marked():
    family, question = FAMILIES["ordering"], "B<C D<B C<A 2?"
    assert family.judge(question, ["1D", "2B"]) == ([True, True], "B")
    assert family.judge(question, ["1B", "2C"]) == ([False, True], "C")
    assert family.judge(question, ["1D", "2?"]) == ([True, False], "?"), "what is said there is the answer"
    assert family.judge(question.replace("2", "3"), ["1D", "2?", "3C"]) == ([True, False, False], None)
    assert family.operands(question) == ["D", "B"]


def test_steps_that_are_taken_back():
    assert kept(["3*9=8", WAIT, "3*9=7"]) == [2] and kept([WAIT, "a", "b", WAIT, WAIT, "c"]) == [5]
    assert write_chain(["3*9=7"], "7") == "3*9=7;#7" and read_chain("3*9=7;7+") == (["3*9=7", "7+"], None)
    assert read_chain("") == ([], None) and read_chain("#7") == ([], "7") and read_chain("a;# 7 ") == (["a"], "7")


def mutated(text, generator):
    """The text with a few characters changed, doubled, swapped or left out, or a part of it repeated."""
    characters = list(text)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(characters) + 1)
        cut = characters[generator.randrange(len(characters) + 1) :][: generator.randint(0, 9)]
        odd = generator.choice([*CHARACTERS, "²", "٣", "é", "\x1c", "9" * 5000, ";;", "wait;", "=", "-1", ""])
        characters[at : at + generator.choice([0, 1, 1, 3])] = generator.choice([[odd], [odd], cut])
    return "".join(characters)


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_that_a_model_might_write_raises(name):
    family, generator = FAMILIES[name], random.Random(2)
    for problem in draw(name, "train", 60, seed=7):
        for _ in range(20):
            steps, answer = read_chain(mutated(problem.chain, generator))
            right, follows = family.judge(problem.question, steps)
            assert len(right) == len(steps) and set(map(type, right)) <= {bool}
            assert follows is None or isinstance(follows, str)
            assert answer is None or family.right(problem.question, answer) in (True, False)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_question_is_read_or_refused_with_a_value_error(name):
    family, generator, refused = FAMILIES[name], random.Random(3), 0
    for problem in draw(name, "train", 40, seed=8):
        for _ in range(20):
            try:
                family.solve(mutated(problem.question, generator))
            except ValueError as error:
                assert str(error)
                refused += 1
    assert refused > 100
    for question in ("", "?", "!" * 5000 + "T?", "(" * 5000 + "?"):
        with pytest.raises(ValueError):
            family.solve(question)


# ---- the script ----


def test_the_script_shows_problems_of_one_family_or_all():
    out = succeed("07_cot/tasks.py", "knights", "--show", 2, "--split", "test")
    assert out.startswith("knights: ") and len(out.splitlines()) == 3 and out.count("Who?") >= 2
    assert out == succeed("07_cot/tasks.py", "--split", "test", "knights", "--show", 2), "the same seed"
    everything = succeed("07_cot/tasks.py", "--show", 1, "--seed", 5)
    assert re.findall(r"^(\w+): ", everything, re.MULTILINE) == list(FAMILIES)
    assert len(everything.splitlines()) == 2 * len(FAMILIES)


def test_the_script_refuses_what_can_not_be():
    assert "no family 'nothing': choose from arithmetic, " in refuse("07_cot/tasks.py", "nothing")
    assert "difficulty 99 of knights must be from 2 to 12" in refuse("07_cot/tasks.py", "knights", "--difficulty", 99)
    assert "count 0 must be at least 1" in refuse("07_cot/tasks.py", "--show", 0)
