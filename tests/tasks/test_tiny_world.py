"""The tiny world: sampling, splits, reading by rule, scripted policies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemon.policy.base import Scripted, run_sync
from mnemon.tasks.tiny import make_task, make_tasks, sample_episode, words
from mnemon.tasks.tiny import scripted as rules
from mnemon.tasks.tiny.world import KNOWN, apply, blurred, held_out, kinds_in, people_of, sentence, values_of
from mnemon.types import Message, MnemonError, ToolCall


def test_vocabulary_has_every_word_once_and_no_value_means_two_things() -> None:
    vocabulary = words.vocabulary()
    assert len(vocabulary) == len(set(vocabulary))
    assert len(words.ATTRIBUTE_OF) == sum(len(words.values(a)) for a in words.ATTRIBUTES)
    spoken = {w for a in words.ATTRIBUTES for c in (*words.STATE[a], *words.REMOVE[a]) for w in c.split()}
    spoken |= {w for c in (*words.DISTRACT, *words.CHAT, *words.LEADS, *words.TAILS) for w in c.split()}
    assert not spoken & (set(words.ATTRIBUTE_OF) | set(words.PEOPLE))
    assert spoken - {"{p}", "{v}"} <= set(vocabulary)


def test_held_out_templates_use_only_words_that_training_knows() -> None:
    def said(split: str) -> set[str]:
        cores = [c for a in words.ATTRIBUTES for k in ("state", "remove") for c in words.cores(k, a, split)]
        cores += [c for k in ("distract", "chat") for c in words.cores(k, "", split)]
        return {w for c in cores for w in c.split()}

    trained = said("seen") | {w for text in (*words.LEADS, *words.TAILS) for w in text.split()}
    assert said("unseen") <= trained
    for attribute in words.ATTRIBUTES:
        assert not set(words.cores("state", attribute, "seen")) & set(words.cores("state", attribute, "unseen"))


def test_splits_share_no_fact_and_validation_shares_nobody_with_test() -> None:
    assert not set(people_of("validation")) & set(people_of("test"))
    assert set(people_of("validation")) | set(people_of("test")) == set(KNOWN)
    assert not set(people_of("unseen_people")) & set(KNOWN)
    share = []
    for person in words.PEOPLE:
        for attribute in words.ATTRIBUTES:
            trained, tested = values_of("train", person, attribute), values_of("test", person, attribute)
            assert not set(trained) & set(tested)
            assert all(held_out(person, attribute, v) for v in tested)
            assert len(tested) >= 4
            share.append(len(tested) / (len(tested) + len(trained)))
    assert 0.28 < sum(share) / len(share) < 1 / 3


@pytest.mark.parametrize("split", ["train", "validation", "test", "unseen_people"])
def test_the_same_arguments_give_the_same_task(split: str) -> None:
    one, again = make_task(7, 12, split), make_task(7, 12, split)  # type: ignore[arg-type]
    assert one.meta == again.meta
    assert one.probes == again.probes
    assert one.meta["events"] != make_task(8, 12, split).meta["events"]  # type: ignore[arg-type]


def test_an_episode_keeps_its_own_books() -> None:
    for seed in range(200):
        episode = sample_episode(random.Random(seed), 20, "train")
        facts: dict[tuple[str, str], list[str]] = {}
        peak = 0
        for event in episode.events:
            held = list(facts.get((event.person, event.attribute), []))
            if event.kind == "new":
                assert not held
            elif event.kind in ("change", "more"):
                assert held
                assert event.value not in held
            elif event.kind in ("drop", "end", "restate"):
                assert event.value in held
                assert event.kind != "drop" or len(held) > 1
            apply(facts, event)
            peak = max(peak, sum(1 for values in facts.values() if values))
        assert facts == episode.facts
        assert peak == episode.peak


def test_questions_are_about_facts_and_empty_ones_are_few() -> None:
    tasks = make_tasks(300, 6, "test")
    answers = [probe.answers[0] for task in tasks for probe in task.probes]
    assert all(task.probes for task in tasks)
    assert 0.01 < sum(a == "none" for a in answers) / len(answers) < 0.2
    for task in tasks[:50]:
        for probe in task.probes:
            assert rules.answer_question([e.text for e in task.meta["events"]], probe.question) in (
                probe.answers[0],
                " ".join(sorted(probe.answers[0].split())),
            ) or sorted(rules.answer_question([e.text for e in task.meta["events"]], probe.question).split()) == sorted(
                probe.answers[0].split()
            )
            linked = {task.meta["events"][int(i)].attribute for i in probe.evidence}
            assert linked == {probe.question.split()[0]}


def test_every_sentence_of_the_world_is_read_back() -> None:
    rng = random.Random(0)
    for attribute in words.ATTRIBUTES:
        for kind, sense in (("state", "state"), ("remove", "remove"), ("distract", "distract")):
            for core in words.cores(kind, attribute, "all"):
                for _ in range(8):
                    value = rng.choice(words.values(attribute))
                    reading = rules.read_sentence(sentence(rng, core, "Anna", value))
                    assert reading == rules.Reading(sense, "Anna", attribute, value)
    for core in words.CHAT:
        assert rules.read_sentence(sentence(rng, core)).sense == "chat"


def test_a_raw_log_is_read_perfectly() -> None:
    right = total = 0
    for task in make_tasks(100, 30, "test"):
        log = [event.text for event in task.meta["events"]]
        for probe in task.probes:
            total += 1
            right += sorted(rules.answer_question(log, probe.question).split()) == sorted(probe.answers[0].split())
    assert right / total >= 0.99


@settings(max_examples=100)
@given(st.integers(0, 10**6))
def test_blurring_keeps_person_and_value(seed: int) -> None:
    rng = random.Random(seed)
    text = blurred(rng, "Anna moved to Paris", words.fillers())
    assert "Anna" in text.split()
    assert "Paris" in text.split()
    assert not set(words.fillers()) & words.CUES


def lines(*texts: str) -> list[rules.Line]:
    return [rules.read_line(str(i), text) for i, text in enumerate(texts, 1)]


@pytest.mark.parametrize(
    ("text", "view", "call", "thought"),
    [
        ("Anna moved to Rome", [], ToolCall("add", {"text": "Anna city Rome"}), "Anna city none"),
        (
            "Anna moved to Rome",
            ["Ben city Rome", "Anna city Oslo"],
            ToolCall("update", {"id": "2", "text": "Anna city Rome"}),
            "Anna city 1 Ben Anna 2 Anna Anna city Oslo fresh",
        ),
        (
            "Anna adopted Luna",
            ["Anna pets Rex"],
            ToolCall("update", {"id": "1", "text": "Anna pets Rex Luna"}),
            "Anna pets 1 Anna Anna pets Rex fresh",
        ),
        ("Anna adopted Rex", ["Anna pets Rex"], ToolCall("noop"), "Anna pets 1 Anna Anna pets Rex match known"),
        (
            "Anna gave Rex away",
            ["Anna pets Rex Luna"],
            ToolCall("update", {"id": "1", "text": "Anna pets Luna"}),
            "Anna pets ends 1 Anna Anna pets Rex match Luna rest",
        ),
        (
            "Anna gave Rex away",
            ["Anna job nurse", "Anna pets Rex"],
            ToolCall("delete", {"id": "2"}),
            "Anna pets ends 1 Anna Anna job 2 Anna Anna pets Rex match alone",
        ),
        ("Anna asked about Rex", ["Anna pets Luna"], ToolCall("noop"), "Anna pets 1 Anna Anna pets Luna fresh"),
        ("how are you", ["Anna pets Luna"], ToolCall("noop"), "nothing"),
    ],
)
def test_the_right_operation_and_the_scan(text: str, view: list[str], call: ToolCall, thought: str) -> None:
    reading = rules.read_sentence(text)
    assert rules.right_call(lines(*view), reading) == call
    assert rules.think(lines(*view), reading) == thought


def test_scripted_policies_rank_as_they_should() -> None:
    from mnemon.recipes.memory_r1.tiny import accuracy, play

    tasks = make_tasks(120, 6, "test")
    means = {}
    for name, decide in rules.POLICIES.items():
        scores = accuracy(run_sync(play(Scripted(rules.writer_reply(decide)), tasks)))
        means[name] = sum(scores) / len(scores)
    assert means["oracle"] == 1.0
    assert means["never write"] < 0.2
    assert means["always add"] < 0.3
    assert means["demonstrator"] < 0.4
    assert means["demonstrator"] < means["update, never merge"] < means["oracle"]
    assert means["demonstrator"] < means["upsert, never delete"] < means["oracle"]


def test_prompts_are_read_back() -> None:
    message = Message("user", "memories:\n1 Anna pets Rex\n2 Ben city Oslo\nevent: Anna adopted Luna")
    assert rules.split_prompt([message]) == ([("1", "Anna pets Rex"), ("2", "Ben city Oslo")], "Anna adopted Luna")
    empty = Message("user", "memories:\n\nevent: how are you")
    assert rules.split_prompt([empty]) == ([], "how are you")


def test_questions_of_every_kind_have_a_rule() -> None:
    log = ["Anna pets Rex Luna", "Ben city Oslo"]
    assert rules.answer_question(log, "pets of Anna ?") == "Rex Luna"
    assert rules.answer_question(log, "how many pets has Anna ?") == "2"
    assert rules.answer_question(log, "who has city Oslo ?") == "Ben"
    assert rules.answer_question(log, "has Anna pets Rex ?") == "yes"
    assert rules.answer_question(log, "has Anna pets Milo ?") == "no"
    assert rules.answer_question(log, "has Ben pets Milo ?") == "unknown"
    assert rules.answer_question(log, "job of Ben ?") == "none"


def test_kinds_are_counted_and_lengths_checked() -> None:
    assert sum(kinds_in(make_tasks(10, 6)).values()) == 60
    with pytest.raises(MnemonError, match="at least one event"):
        sample_episode(random.Random(0), 0)
