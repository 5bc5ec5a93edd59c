"""Scripted readers and the scores of a selection."""

from __future__ import annotations

from mnemon.agent import rollouts
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.memory.retrieve import InOrder
from mnemon.policy.base import Scripted, run_sync
from mnemon.tasks.tiny.questions import Question, bank_state, bank_task, kept_tasks, read_memory
from mnemon.tasks.tiny.reading import (
    answer_from,
    scripted_reader,
    select_first,
    select_right,
    selected,
    selection_scores,
    useful,
)
from mnemon.types import Answer


def lines(*texts: str):
    return [read_memory(str(i), text) for i, text in enumerate(texts, 1)]


STORED = lines(
    "Anna city Rome",
    "Ben pets Rex",
    "Anna pets Luna",
    "Anna city Oslo",
    "how are you",
    "Cara adopted Rex",
    "Ben pets Milo",
)
CITY, PETS = Question("value", "city", "Anna"), Question("list", "pets", "Ben")


def test_the_right_selection_takes_the_newest_line_and_all_items_of_a_list_that_was_never_merged() -> None:
    assert select_right(STORED, CITY) == [3]
    assert select_right(STORED, PETS) == [1, 6]
    assert select_right(lines("Ben pets Rex", "Ben pets Rex Milo"), PETS) == [1]
    assert select_right(STORED, Question("value", "job", "Anna")) == []


def test_whose_takes_the_persons_whose_newest_line_has_the_value() -> None:
    whose = Question("whose", "pets", value="Rex")
    assert select_right(STORED, whose) == [5]  # Ben's newest line says Milo; Cara's is a sentence
    assert answer_from([STORED[5]], whose) == "Cara"
    assert select_first(STORED, whose) == [1]


def test_the_first_memory_of_the_person() -> None:
    assert select_first(STORED, CITY) == [0]
    assert select_first(STORED, Question("value", "city", "Dan")) == []


def test_answers_from_lines() -> None:
    assert answer_from([STORED[0], STORED[3]], CITY) == "Oslo"
    assert answer_from([STORED[1], STORED[6]], PETS) == "Rex Milo"
    assert answer_from([STORED[1], STORED[1]], Question("count", "pets", "Ben")) == "1"
    assert answer_from([STORED[1]], Question("yesno", "pets", "Ben", "Rex")) == "yes"
    assert answer_from([STORED[0], STORED[3]], Question("yesno", "city", "Anna", "Rome")) == "no"
    assert answer_from([], CITY) == "none"
    assert answer_from([STORED[4]], Question("count", "pets", "Ben")) == "unknown"


def test_useful_lines_support_the_truth_and_are_few() -> None:
    bank = lines("Ben pets Rex", "Ben pets Rex Milo", "Ben pets Milo", "Ben pets Rex Milo Luna")
    assert useful(bank, PETS, ("Rex", "Milo")) == [1]
    assert useful(bank, PETS, ("Milo",)) == [2]
    assert useful(bank, PETS, ("Rex",)) == [0]
    assert useful(bank, PETS, ()) == []
    assert useful(lines("Ben pets Rex", "Ben pets Milo"), PETS, ("Milo", "Rex")) == [0, 1]
    assert useful(STORED, Question("whose", "pets", value="Rex"), ("Ben", "Cara")) == [1, 5]


def test_numbers_are_read_before_the_marker_and_outside_the_think() -> None:
    assert selected("3 7 3 **Answer:** 2") == ["3", "7"]
    assert selected("12 **Answer:** none") == ["12"]
    assert selected("**Answer:** 4") == []


def ask(task, reply, k: int = 8) -> Answer:
    reader = (answerer(k=k, style="tiny", retriever=InOrder()), Scripted(reply))
    writer = manager(extract="raw", style="tiny")
    [[trajectory]] = run_sync(rollouts(writer, [task], reader[1], reader=reader, start=bank_state))
    return trajectory.answers[0]


def test_selection_scores_by_hand() -> None:
    texts = ["Anna city Rome", "Ben job nurse", "Anna city Oslo"]
    task = bank_task("t", texts, CITY, {("Anna", "city"): ["Oslo"]})
    given = [ask(task, lambda m, t, reply=reply: reply) for reply in ("1 3 **Answer:** Oslo", "2 **Answer:** Oslo")]
    assert [a.text for a in given] == ["Oslo", "Oslo"]
    assert selection_scores(given) == {"precision": 1 / 3, "recall": 1 / 2, "questions": 2.0}


def test_the_oracle_selection_is_perfect_on_a_perfect_memory_and_the_first_memory_is_not() -> None:
    tasks = kept_tasks(60, "validation", 1.0)
    for select, low, high in ((select_right, 1.0, 1.0), (select_first, 0.3, 0.8)):
        answers = [ask(task, scripted_reader(select), 16) for task in tasks]
        right = sum(sorted(a.text.split()) == sorted(a.probe.answers[0].split()) for a in answers) / len(answers)
        assert low <= right <= high
        assert low <= selection_scores(answers)["precision"] <= high
