"""Problems as they are drawn: splits that don't overlap, seeds, difficulties, and the family of a question."""

import numpy as np
import pytest
from family import problems, split_of
from flags import UserError
from tasks import FAMILIES, draw, family_of

SPLITS = ("train", "validation", "test")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_no_problem_is_in_two_splits(name):
    family, seen = FAMILIES[name], {}
    for split in SPLITS:
        found = draw(name, split, 150, seed=0) + draw(name, split, 150, seed=1)
        for problem in found:
            assert split_of(family, problem.question) == split
            assert seen.setdefault(family.normal(problem.question), split) == split
    assert {*seen.values()} == set(SPLITS)
    for split in SPLITS:
        found = draw(name, split, 150, seed=0)
        assert len({family.normal(problem.question) for problem in found}) == len(found) == 150, "all different"


def test_the_order_of_words_makes_no_other_problem_where_it_means_nothing():
    for name, one, other in (("countdown", "3 5 7=56?", "7 3 5=56?"), ("ordering", "A<B B<C 2?", "B<C A<B 2?"),
                             ("knights", "B: A lies. A: A,B differ. Who?", "A: A,B differ. B: A lies. Who?")):
        family = FAMILIES[name]
        assert family.normal(one) == family.normal(other) and split_of(family, one) == split_of(family, other)
        assert family.right(one, family.solve(other).answer)
    assert FAMILIES["arithmetic"].normal("1+2?") != FAMILIES["arithmetic"].normal("2+1?")


def test_a_tenth_is_held_out():
    family = FAMILIES["arithmetic"]
    random_questions = [family.ask(np.random.default_rng(i), 8) for i in range(4000)]
    splits = [split_of(family, question) for question in random_questions]
    for split, share in (("train", 0.9), ("validation", 0.05), ("test", 0.05)):
        assert abs(splits.count(split) / 4000 - share) < 0.015


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_problems(name):
    assert draw(name, "train", 20, seed=3) == draw(name, "train", 20, seed=3) != draw(name, "train", 20, seed=4)


@pytest.mark.parametrize("name", FAMILIES)
def test_difficulty_has_limits_and_makes_chains_longer(name):
    family = FAMILIES[name]
    lengths = [np.mean([len(problem.chain) for problem in problems(family, "train", 20, 0, difficulty)])
               for difficulty in (family.easiest, family.difficulty, family.hardest)]
    assert lengths[0] < lengths[1] < lengths[2]
    for wrong in (family.easiest - 1, family.hardest + 1):
        with pytest.raises(UserError, match=f"must be from {family.easiest} to {family.hardest}"):
            draw(name, "train", 1, 0, wrong)


def test_a_family_with_few_problems_gives_what_it_has():
    found = draw("arithmetic", "validation", 10_000, seed=0, difficulty=1)
    assert 5 < len(found) < 40 and len({problem.question for problem in found}) == len(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_question_tells_its_family(name):
    for problem in draw(name, "test", 40, seed=0):
        assert family_of(problem.question) == name


def test_a_question_of_no_family():
    with pytest.raises(UserError, match="no family knows what to do with 'How are you"):
        family_of("How are you?")
