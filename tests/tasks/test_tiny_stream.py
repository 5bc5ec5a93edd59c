"""The tiny stream: invariants of the world, reading as the inverse of writing, questions, scripted writers, judge."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemon.tasks.tiny_stream import make_task, make_tasks, sample_stream, words
from mnemon.tasks.tiny_stream.judge import triples, valid_edit
from mnemon.tasks.tiny_stream.questions import DIMENSIONS, Question, answer, read_question
from mnemon.tasks.tiny_stream.reader import answer_log
from mnemon.tasks.tiny_stream.reading import Reading, read_core, read_sentence, split_prompt, think
from mnemon.tasks.tiny_stream.scripted import right_call
from mnemon.tasks.tiny_stream.world import apply, entry_of, held_out, people_of, values_of
from mnemon.types import Message, MnemonError

SPLITS = ("train", "validation", "test")
streams = st.tuples(st.integers(0, 10**6), st.sampled_from((1, 6, 25)), st.sampled_from(SPLITS), st.booleans())


def sampled(given: tuple[int, int, str, bool]):  # type: ignore[no-untyped-def]
    seed, length, split, unseen = given
    return sample_stream(random.Random(seed), length, split, "unseen" if unseen else "seen")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(streams)
def test_a_stream_says_what_it_means(drawn: tuple[int, int, str, bool]) -> None:
    stream = sampled(drawn)
    assert len(stream.chunks) == drawn[1]
    facts: dict[tuple[str, str], list[str]] = {}
    for chunk in stream.chunks:
        assert 2 <= len(chunk.said) <= 4
        entries = [entry_of(said) for said in chunk.said if said.subject]
        assert len(entries) == len(set(entries))
        for said, row in zip(chunk.said, chunk.text.splitlines(), strict=True):
            reading = read_sentence(row.partition(" ")[2], chunk.day)
            assert reading.sense == ("noise" if not said.subject else "remove" if said.kind == "end" else "state")
            if said.subject:
                assert (reading.subject, reading.attribute, reading.value) == (
                    said.subject,
                    said.attribute,
                    said.value,
                )
                held = facts.get((said.subject, said.attribute), [])
                assert (said.kind == "restate") <= (said.value in held)
                assert (said.kind in ("new", "change", "trip")) <= (said.value not in held)
                assert (said.kind == "end") <= (held == [said.value])
            apply(facts, said, chunk.day)
    assert facts == stream.facts
    pets = [held[0] for (_, attribute), held in facts.items() if attribute == "pet" and held]
    assert len(pets) == len(set(pets))


@settings(max_examples=40, deadline=None)
@given(streams)
def test_splits_share_no_combination(drawn: tuple[int, int, str, bool]) -> None:
    split = drawn[2]
    for chunk in sampled(drawn).chunks:
        for said in chunk.said:
            if said.subject:
                split_up = said.subject != words.USER and split != "train"
                assert held_out(said.subject, said.attribute, said.value) == split_up
                assert said.value in values_of(split, said.subject, said.attribute)  # type: ignore[arg-type]
    assert not set(people_of("validation")) & set(people_of("test"))
    for topic in words.TOPICS:
        parts = [set(values_of(s, words.BOX, topic)) for s in SPLITS]  # type: ignore[arg-type]
        assert set.union(*parts) == set(words.LABELS)
        assert sum(map(len, parts)) == len(words.LABELS)


def test_templates_are_split() -> None:
    for kind in words.HELD_OUT:
        seen, unseen = words.cores(kind, "city", "seen"), words.cores(kind, "city", "unseen")
        assert not set(seen) & set(unseen)
        assert [*seen, *unseen] == words.cores(kind, "city", "all")
    vocabulary = words.vocabulary()
    assert len(vocabulary) == len(set(vocabulary)) < 1100


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from((6, 30)), st.sampled_from(SPLITS))
def test_questions_are_answered_by_the_raw_stream(seed: int, length: int, split: str) -> None:
    task = make_task(seed, length, split)  # type: ignore[arg-type]
    stream = task.meta["stream"]
    log = [(chunk.day, chunk.text) for chunk in stream.chunks]
    assert task.probes
    for probe in task.probes:
        question = read_question(probe.question)
        assert question.text == probe.question
        assert answer(stream.facts, question) == probe.answers[0] == answer_log(log, probe.question)
        assert probe.category in DIMENSIONS
        assert set(probe.evidence) <= {str(i) for i in range(length)}
        if question.ask == "box" and length == 6:
            assert all(question.subject not in chunk.text.split() or "not in" in chunk.text or
                       question.subject not in stream.shown for chunk in stream.chunks)  # fmt: skip


def test_a_task_is_reproducible_and_every_dimension_is_asked() -> None:
    first, again = make_task(7, 12, "test"), make_task(7, 12, "test")
    assert (first.probes, first.meta["caps"]) == (again.probes, again.meta["caps"])
    counts = dict.fromkeys(DIMENSIONS, 0)
    for task in make_tasks(60, 6, "test"):
        for probe in task.probes:
            counts[probe.category] += 1
    assert min(counts.values()) >= 20
    with pytest.raises(MnemonError, match="1 to 399"):
        make_task(0, 400)
    with pytest.raises(MnemonError, match="no question"):
        read_question("where is Ben")


def test_thoughts_recite_and_relate() -> None:
    text = (
        "core:\ncity Rome . job nurse .\nepisodic:\ntrips Ben Peru d3 Chile d7 1\nsemantic:\nbox birds red 2\n"
        "city Ben Oslo 3\ntime: d9\nchunk: a) Ben moved to Rome\nb) User quit the job as a nurse"
    )
    view = split_prompt([Message("user", text)])
    assert view.core == "city Rome . job nurse ."
    assert view.day == "d9"
    assert len(view.sentences) == 2
    assert read_core(view.core) == {"city": ("Rome",), "job": ("nurse",)}
    cases = {
        "Ben moved to Rome": ("city Ben Oslo 3 Ben Rome fresh", "update", "city Ben Rome"),
        "Ben moved to Oslo": ("city Ben Oslo 3 Ben Oslo 3 known", "", ""),
        "Ben left Oslo": ("ends city Ben Oslo 3 Ben Oslo 3 alone", "delete", ""),
        "Ben left Rome": ("ends city Ben Oslo 3 Ben Rome fresh", "", ""),
        "Ben became a pilot": ("job Ben none", "insert", "job Ben pilot"),
        "User moved to Rome": ("city User core: city Rome . job nurse . User city Rome . known", "", ""),
        "User became a pilot": (
            "job User core: city Rome . job nurse . User job pilot fresh", "update", "city Rome . job pilot ."
        ),
        "User quit the job as a nurse": (
            "ends job User core: city Rome . job nurse . User job nurse . rest", "update", "city Rome ."
        ),
        "User drives a Fiat": (
            "car User core: city Rome . job nurse . User car Fiat none", "update", "city Rome . job nurse . car Fiat ."
        ),
        "the raven goes into the blue box": ("box birds red 2 birds blue fresh", "update", "box birds blue"),
        "Ben flew to Kenya": (
            "trips Ben Peru d3 Chile d7 1 fresh", "update", "trips Ben Kenya d9 Peru d3 Chile d7"
        ),
        "how are you": ("nothing", "", ""),
    }  # fmt: skip
    for sentence, (thought, name, written) in cases.items():
        reading = read_sentence(sentence, view.day)
        call = right_call(view, reading)
        assert think(view, reading) == thought
        assert (call.name if call else "") == name
        assert (str(call.arguments.get("text", "")) if call else "") == written
    empty = split_prompt([Message("user", "core:\nepisodic:\nsemantic:\ntime: d9\nchunk: a) User moved to Rome")])
    reading = Reading("state", "User", "city", ("Rome",))
    assert think(empty, reading) == "city User core: empty"
    call = right_call(empty, reading)
    assert call is not None
    assert dict(call.arguments) == {"section": "core", "text": "city Rome ."}


CHUNK = (
    "a) Ben moved to Rome\nb) User quit the job as a nurse\nc) Ben flew to Kenya\nd) the raven goes into the blue box"
)
EDITS = [
    ("semantic", "city Ben Oslo", "city Ben Rome", (), True),
    ("semantic", "", "city Ben Rome", (), True),
    ("semantic", "", "city Ben Rome", ("city Ben Oslo",), False),
    ("semantic", "", "city Ben Oslo", (), False),
    ("episodic", "", "city Ben Rome", (), False),
    ("semantic", "city Ben Oslo", "", (), False),
    ("core", "city Rome . job nurse .", "city Rome .", (), True),
    ("core", "city Rome . job nurse .", "job nurse .", (), False),
    ("core", "job nurse .", "", (), True),
    ("episodic", "trips Ben Peru d3", "trips Ben Peru d3 Kenya d9", (), True),
    ("episodic", "trips Ben Peru d3", "trips Ben Kenya d9", (), False),
    ("episodic", "", "trips Ben Kenya d8", (), False),
    ("semantic", "", "box birds blue", (), True),
    ("semantic", "", "Ben moved to Rome", (), False),
    ("semantic", "city Ben Oslo", "city Cara Rome", (), False),
]


@pytest.mark.parametrize(("section", "before", "after", "beside", "right"), EDITS)
def test_the_judge(section: str, before: str, after: str, beside: tuple[str, ...], right: bool) -> None:
    assert valid_edit(section, before, after, beside, CHUNK, "d9") is right


def test_triples() -> None:
    assert triples("core", "city Rome . job nurse .") == {
        ("User", "city", ("Rome",)),
        ("User", "job", ("nurse",)),
    }
    assert triples("episodic", "trips Ben Peru d3 Kenya d9") == {
        ("Ben", "trips", ("Peru", "d3")),
        ("Ben", "trips", ("Kenya", "d9")),
    }
    assert triples("semantic", "hello") == triples("core", "") == set()
    assert Question("day", "Ben", "Peru").text == "day of Ben in Peru ?"
