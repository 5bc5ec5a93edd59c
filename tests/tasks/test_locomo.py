"""The LoCoMo loader on a small invented file with every malformation, and pinned figures on the real one."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnemon.metrics import SCORERS, words_squad
from mnemon.tasks.locomo import (
    CATEGORIES,
    Conversation,
    Locomo,
    Question,
    asked,
    linked_turns,
    load,
    parse_time,
    render_summary,
    session_inputs,
    split,
    summary,
    tasks,
)
from mnemon.types import Input, MnemonError

Row = dict[str, Any]


def message(session: int, n: int, speaker: str, text: str, **more: Any) -> Row:
    return {"speaker": speaker, "dia_id": f"D{session}:{n}", "text": text, **more}


def ask(question: str, category: int, evidence: list[str], answer: Any = "yes") -> Row:
    return {"question": question, "answer": answer, "evidence": evidence, "category": category}


def row(name: str = "conv-26") -> Row:
    """A well-formed conversation: sessions 1, 2 and 10, five turns, five questions."""
    return {
        "sample_id": name,
        "conversation": {
            "speaker_a": "Ana",
            "speaker_b": "Ben",
            "session_10_date_time": "12:05 am on 1 January, 2024",
            "session_10": [message(10, 1, "Ana", "Happy new year!")],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                message(1, 1, "Ana", "I joined a choir yesterday."),
                message(1, 2, "Ben", "Look!", blip_caption="a dog on a beach", query="dog beach", img_url=["u"]),
                message(1, 3, "Ana", "Lovely.", blip_caption="a smile"),
            ],
            "session_2_date_time": "12:00 pm on 9 May, 2023",
            "session_2": [message(2, 1, "Ben", "His name is Rex.")],
        },
        "observation": {"session_1_observation": {"Ana": [["Ana joined a choir.", "D1:1"]]}},
        "session_summary": {"session_1_summary": "They talk."},
        "qa": [
            ask("When did Ana join a choir?", 2, ["D1:1"], "7 May 2023"),
            ask("Who is Rex?", 1, ["D1:2", "D2:1"], "a dog"),
            ask("Would Ana like opera?", 3, ["D1:1"], "Likely yes; she sings"),
            ask("What is the dog called?", 4, ["D2:1"], "Rex"),
            {"question": "When did Ben join?", "category": 5, "evidence": ["D1:1"], "adversarial_answer": "7 May"},
        ],
    }


def save(folder: Path, content: Any) -> Path:
    path = folder / "locomo10.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def load_rows(folder: Path, *rows: Row, skip_bad: bool = False) -> Locomo:
    return load(save(folder, list(rows)), skip_bad=skip_bad)


# ── a clean file ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_clean(tmp_path: Path) -> None:
    locomo = load_rows(tmp_path, row())
    (conversation,) = locomo.conversations
    assert [session.number for session in conversation.sessions] == [1, 2, 10]
    assert [session.time for session in conversation.sessions] == [
        "2023-05-08T13:56",
        "2023-05-09T12:00",
        "2024-01-01T00:05",
    ]
    assert [turn.id for turn in conversation.turns] == ["D1:1", "D1:2", "D1:3", "D2:1", "D10:1"]
    assert conversation.turns[1].render() == "Ben: Look! [shares a photo: a dog on a beach]"
    assert conversation.turns[1].render(captions=False) == "Ben: Look!"
    assert [turn.image for turn in conversation.turns] == [False, True, False, False, False]
    assert conversation.sessions[0].facts[0].source == ("D1:1",)
    assert conversation.sessions[0].summary == "They talk."
    assert conversation.questions[4].answer == ""
    assert conversation.questions[4].wrong_answer == "7 May"
    assert [str(p) for p in locomo.problems] == [
        "row 0 (conv-26), qa: 1 adversarial question(s) without an answer: adversarial_answer kept as the wrong answer"
    ]
    assert not locomo.official
    assert load(tmp_path).conversations == locomo.conversations  # a folder will do
    assert locomo["conv-26"] is conversation
    with pytest.raises(MnemonError, match="no conversation 'x'; it has conv-26"):
        locomo["x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:56 pm on 8 May, 2023", "2023-05-08T13:56"),
        ("12:01 am on 31 December, 2022", "2022-12-31T00:01"),
        ("12:59 pm on 1 January, 2024", "2024-01-01T12:59"),
        ("13:00 pm on 8 May, 2023", None),
        ("1:56 pm on 8 Mai, 2023", None),
        ("1:56 pm on 32 May, 2023", None),
        ("8 May, 2023", None),
    ],
)
def test_parse_time(text: str, expected: str | None) -> None:
    assert parse_time(text) == expected


# ── known mistakes ───────────────────────────────────────────────────────────────────────────────────────────────────

REPAIRS: list[tuple[list[str], tuple[str, ...], str]] = [
    (["D1:1; D2:1"], ("D1:1", "D2:1"), "qa[3].evidence[0]: 'D1:1; D2:1' is not one turn id: read as D1:1, D2:1"),
    (["D1:1 D1:3 D2:1"], ("D1:1", "D1:3", "D2:1"), "read as D1:1, D1:3, D2:1"),
    (["D:10:1"], ("D10:1",), "'D:10:1' is not one turn id: read as D10:1"),
    (["D10:01"], ("D10:1",), "'D10:01' is not one turn id: read as D10:1"),
    (["D", "D1:3"], ("D1:3",), "qa[3].evidence[0]: 'D' names no turn: dropped"),
    (["D1:3", "D2:16"], ("D1:3",), "'D2:16' names no existing turn (session 2 has 1 turns): D2:16 dropped"),
    (["D7:1"], (), "session 7 has 0 turns"),
    (["D1:1", "D1:1"], ("D1:1",), "qa[3].evidence[1]: D1:1 is named twice: kept once"),
    ([], (), "qa[3].evidence: is empty: question kept without evidence"),
]


@pytest.mark.parametrize(("cited", "expected", "report"), REPAIRS)
def test_evidence_is_repaired_and_reported(
    tmp_path: Path, cited: list[str], expected: tuple[str, ...], report: str
) -> None:
    bad = row()
    bad["qa"][3]["evidence"] = cited
    locomo = load_rows(tmp_path, bad)
    question = locomo.conversations[0].questions[3]
    assert question.evidence == expected
    assert question.evidence_raw == tuple(cited)
    reports = [str(p) for p in locomo.problems if p.field.startswith("qa[3]")]
    assert len(reports) == 1
    assert report in reports[0]
    assert not locomo.skipped


def test_other_known_mistakes(tmp_path: Path) -> None:
    bad = row()
    bad["qa"][0]["answer"] = 2022
    bad["qa"][4]["answer"] = "No"
    for n in (11, 12, 13):
        bad["conversation"][f"session_{n}_date_time"] = "1:00 pm on 2 January, 2024"
    bad["observation"]["session_2_observation"] = {"Ben": [["Ben has a dog.", ["D1:2", "D2:1"]]]}
    locomo = load_rows(tmp_path, bad)
    assert [str(p) for p in locomo.problems] == [
        "row 0 (conv-26), conversation: 6 dates for 3 sessions: 3 without a session ignored "
        "(session_11_date_time to session_13_date_time)",
        "row 0 (conv-26), observation.session_2_observation.Ben[0]: cites 2 turns in a list: all of them kept",
        "row 0 (conv-26), qa[0].answer: is the number 2022: read as text",
    ]
    conversation = locomo.conversations[0]
    assert conversation.questions[0].answer == "2022"
    assert conversation.questions[4].answer == "No"
    assert conversation.sessions[1].facts[0].source == ("D1:2", "D2:1")


# ── everything else is an error ──────────────────────────────────────────────────────────────────────────────────────


def put(*path: Any, value: Any) -> Callable[[Row], None]:
    def change(target: Any) -> None:
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[Row], None]:
    def change(target: Any) -> None:
        for key in path[:-1]:
            target = target[key]
        del target[path[-1]]

    return change


C = "conversation"
MALFORMED: list[tuple[Callable[[Row], None], str, str]] = [
    (put("sample_id", value=3), "sample_id: is 3, not a str", "conversation"),
    (drop("sample_id"), "sample_id: is missing", "conversation"),
    (drop(C, "speaker_b"), "conversation.speaker_b: is missing", "conversation"),
    (put(C, value=[]), "conversation: is [], not a dict", "conversation"),
    (put("qa", value={}), "qa: is {}, not a list", "conversation"),
    (drop(C, "session_2_date_time"), "conversation.session_2_date_time: is missing", "session"),
    (put(C, "session_2_date_time", value="9 May"), "'9 May' is not like '1:56 pm on 8 May, 2023'", "session"),
    (put(C, "session_2_date_time", value="1:00 pm on 7 May, 2023"), "is earlier than the session before", "session"),
    (put(C, "session_2", value="hello"), "conversation.session_2: is 'hello', not a list", "session"),
    (put(C, "session_2", value=[]), "conversation.session_2: has no usable turn", "session"),
    (put(C, "session_1", 1, "text", value=None), "session_1[1].text: is None, not a str", "turn"),
    (put(C, "session_1", 1, "text", value=" "), "session_1[1].text: is blank", "turn"),
    (drop(C, "session_1", 1, "speaker"), "session_1[1].speaker: is missing", "turn"),
    (put(C, "session_1", 1, "speaker", value="Cy"), "'Cy' is neither 'Ana' nor 'Ben'", "turn"),
    (put(C, "session_1", 1, "dia_id", value="D2:2"), "'D2:2' is not like 'D1:1'", "turn"),
    (put(C, "session_1", 1, "dia_id", value="D1:1"), "session_1[1].dia_id: 'D1:1' is used twice", "turn"),
    (put(C, "session_1", 1, "blip_caption", value=["x"]), "blip_caption: is ['x'], not a str", "turn"),
    (put(C, "session_1", 1, value="hi"), "session_1[1]: is 'hi', not an object", "turn"),
    (
        put("observation", "session_1_observation", value=" "),
        "session_1_observation: is ' ', not an object",
        "observations",
    ),
    (put("observation", "session_1_observation", "Ana", value=[["x"]]), "Ana[0]: is ['x'], not [text", "observation"),
    (drop("qa", 1, "question"), "qa[1].question: is missing", "question"),
    (put("qa", 1, "category", value="1"), "qa[1].category: is '1', not a int", "question"),
    (put("qa", 1, "category", value=True), "qa[1].category: is True, not a int", "question"),
    (put("qa", 1, "category", value=6), "qa[1].category: is 6, not 1 to 5", "question"),
    (drop("qa", 1, "answer"), "qa[1].answer: is missing", "question"),
    (put("qa", 1, "answer", value=1.5), "qa[1].answer: is 1.5, not a str", "question"),
    (put("qa", 1, "answer", value=""), "qa[1].answer: is blank", "question"),
    (put("qa", 1, "evidence", value="D1:1"), "qa[1].evidence: is 'D1:1', not a list", "question"),
    (put("qa", 1, "evidence", value=[11]), "qa[1].evidence: is [11], not a list of str", "question"),
    (drop("qa", 4, "adversarial_answer"), "qa[4].adversarial_answer: is missing", "question"),
]


@pytest.mark.parametrize(("change", "message", "part"), MALFORMED, ids=[m[1][:40] for m in MALFORMED])
def test_malformed_is_an_error_or_left_out(
    tmp_path: Path, change: Callable[[Row], None], message: str, part: str
) -> None:
    bad = row()
    change(bad)
    with pytest.raises(MnemonError) as error:
        load_rows(tmp_path, row("conv-30"), bad)
    assert "has 1 malformed part(s)" in str(error.value)
    assert message in str(error.value)
    assert "row 1" in str(error.value)
    assert "skip_bad=True (--skip-bad)" in str(error.value)

    whole = load_rows(tmp_path, row("conv-30"), row())
    rest = load_rows(tmp_path, row("conv-30"), bad, skip_bad=True)
    assert [p.done for p in rest.skipped] == [f"{part} left out"]

    def sizes(locomo: Locomo) -> Counter[str]:
        found = Counter(conversation=len(locomo.conversations))
        for conversation in locomo.conversations:
            found["session"] += len(conversation.sessions)
            found["turn"] += len(conversation.turns)
            found["question"] += len(conversation.questions)
        return found

    missing = sizes(whole) - sizes(rest)
    expected = {
        "conversation": Counter(conversation=1, session=3, turn=5, question=5),
        "session": Counter(session=1, turn=1),
        "turn": Counter(turn=1),
        "question": Counter(question=1),
    }.get(part, Counter())
    assert missing == expected


def test_a_conversation_given_twice(tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match="'conv-26' is used twice"):
        load_rows(tmp_path, row(), row())
    assert len(load_rows(tmp_path, row(), row(), skip_bad=True).conversations) == 1


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    bad = row()
    bad["qa"] += [{"question": "?"}] * 25
    with pytest.raises(MnemonError, match=r"25 malformed part\(s\)(.|\n)*qa\[5\].category(.|\n)*and 5 more"):
        load_rows(tmp_path, bad)


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match="no usable conversation"):
        load_rows(tmp_path, row() | {"sample_id": ""}, skip_bad=True)


WRONG_FILES: list[tuple[Any, str]] = [
    ("[{", "is not a JSON file"),
    ({"a": 1, "b": 2}, "is a JSON object with keys a, b; expected a list"),
    (row(), "holds one conversation, not a list"),
    ([], "is an empty list"),
    (3, "is a JSON int"),
    ([{"question_id": "x", "haystack_sessions": []}], "is a LongMemEval file"),
    ([{"_id": "x", "supporting_facts": []}], "is a HotpotQA file"),
    ([{"session_1": [], "qa": []}], "older layout"),
    ([{"x": 1}], "the first row of .* has keys x; expected"),
]


@pytest.mark.parametrize(("content", "message"), WRONG_FILES)
def test_wrong_files_say_what_they_are(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(MnemonError, match=message):
        load(save(tmp_path, content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match=r"cannot read .*snap-research/LoCoMo"):
        load(tmp_path / "none.json")
    with pytest.raises(MnemonError, match="cannot read"):
        load(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    with pytest.raises(MnemonError, match="is not a JSON file"):
        load(tmp_path / "latin.json")


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_splits(tmp_path: Path) -> None:
    locomo = load_rows(tmp_path, row("conv-41"), row("conv-26"), row("conv-30"), row("my-own"))
    ids = {name: [c.id for c in split(locomo, name)] for name in ("train", "validation", "test", "all")}  # type: ignore[arg-type]
    assert ids["train"] == ["conv-26"]
    assert ids["validation"] == ["conv-30"]
    assert ids["test"] == ["conv-41", "my-own"]
    assert ids["all"] == ["conv-41", "conv-26", "conv-30", "my-own"]
    with pytest.raises(MnemonError, match="unknown split 'dev'"):
        split(locomo, "dev")  # type: ignore[arg-type]
    with pytest.raises(MnemonError, match="no conversation of the split 'validation'"):
        split(load_rows(tmp_path, row()), "validation")


def test_inputs(tmp_path: Path) -> None:
    session = load_rows(tmp_path, row()).conversations[0].sessions[0]
    assert session_inputs(session, turns=1)[1] == Input(
        text="Ben: Look! [shares a photo: a dog on a beach]",
        time="1:56 pm on 8 May, 2023",
        source=("D1:2",),
        speaker="Ben",
    )
    pair, rest = session_inputs(session, turns=2, captions=False)
    assert pair.text == "Ana: I joined a choir yesterday.\nBen: Look!"
    assert (pair.source, pair.speaker) == (("D1:1", "D1:2"), "")
    assert (rest.source, rest.speaker) == (("D1:3",), "Ana")
    with pytest.raises(MnemonError, match="turns=0"):
        session_inputs(session, turns=0)


async def play(stage: Any) -> list[Input]:
    environment = stage.environment()
    seen, done = [], False
    current = await environment.reset()
    while not done:
        seen.append(current)
        current, done, score = await environment.step("ignored")
        assert score is None
    return seen


def test_tasks(tmp_path: Path) -> None:
    locomo = load_rows(tmp_path, row(), row("conv-30"))
    (task,) = tasks(locomo, "train", turns=1)
    assert task.id == "locomo/conv-26"
    assert [stage.name for stage in task.stages] == ["session_1", "session_2", "session_10"]
    seen = [input for stage in task.stages for input in asyncio.run(play(stage))]
    assert [input.source for input in seen] == [("D1:1",), ("D1:2",), ("D1:3",), ("D2:1",), ("D10:1",)]
    assert [probe.id for probe in task.probes] == [f"conv-26/q{i}" for i in range(4)]
    assert [probe.category for probe in task.probes] == ["2", "1", "3", "4"]
    assert task.probes[1].answers == ("a dog",)
    assert task.probes[1].evidence == ("D1:2", "D2:1")
    assert set(task.probes[0].scorers) <= set(SCORERS)
    adversarial = tasks(locomo, conversations=["conv-30"], adversarial=True)[0].probes[4]
    assert adversarial.id == "conv-30/q4"
    assert adversarial.answers == ()
    assert adversarial.meta["wrong_answer"] == "7 May"
    score = SCORERS[adversarial.scorers[0]]
    assert score("It is not mentioned.", adversarial.answers, adversarial.category) == 1


def test_linked_turns(tmp_path: Path) -> None:
    conversation = load_rows(tmp_path, row()).conversations[0]
    found = [(t.turn, t.context, t.questions) for t in linked_turns(conversation, context=2)]
    assert found == [
        ("D1:1", (), ("conv-26/q0", "conv-26/q2")),
        ("D1:2", ("D1:1",), ("conv-26/q1",)),
        ("D2:1", ("D1:2", "D1:3"), ("conv-26/q1", "conv-26/q3")),
    ]
    assert linked_turns(conversation, context=0, adversarial=True)[0].questions[-1] == "conv-26/q4"
    with pytest.raises(MnemonError, match="context=-1"):
        linked_turns(conversation, context=-1)


def test_summary(tmp_path: Path) -> None:
    bad = row("conv-41")
    bad["qa"][3]["evidence"] = ["D1:1 D1:2"]
    bad["qa"].append({})
    locomo = load_rows(tmp_path, row(), bad, skip_bad=True)
    facts = summary(locomo)
    assert (facts.total.sessions, facts.total.turns, facts.total.images, facts.total.captions) == (6, 10, 2, 4)
    assert facts.total.words == 2 * (5 + 1 + 1 + 4 + 3)
    assert facts.total.questions == {"1": 2, "2": 2, "3": 2, "4": 2, "5": 2}
    assert facts.total.answerable == 8
    assert [(s.name, s.turns) for s in facts.splits] == [("train", 5), ("validation", 0), ("test", 5)]
    page = render_summary(locomo)
    assert "CC BY-NC 4.0" in page
    assert "NOT the released" in page
    assert "1 malformed part(s) were left out" in page
    assert "row 1 (conv-41), qa[3].evidence[0]: 'D1:1 D1:2' is not one turn id: read as D1:1, D1:2" in page
    assert "row 1 (conv-41), qa[5].question: is missing: question left out" in page
    for official, mem0 in CATEGORIES.values():
        assert official in page
        assert mem0 in page
    assert "… and 3 more" in render_summary(locomo, problems=1)


# ── the released file ────────────────────────────────────────────────────────────────────────────────────────────────

real = pytest.mark.skipif("MNEMON_DATA" not in os.environ, reason="MNEMON_DATA is not set: no LoCoMo file to read")


@pytest.fixture(scope="module")
def released() -> Locomo:
    return load(os.environ["MNEMON_DATA"])


@real
def test_released_sizes(released: Locomo) -> None:
    assert released.official
    total = summary(released).total
    assert (total.sessions, total.turns, total.words, total.images, total.captions) == (272, 5882, 133_772, 910, 1226)
    assert total.questions == {"1": 282, "2": 321, "3": 96, "4": 841, "5": 446}
    assert total.answerable == 1540
    assert [(r.name, r.sessions, r.turns, r.words, r.images, r.answerable) for r in summary(released).rows] == [
        ("conv-26", 19, 419, 10_428, 77, 152),
        ("conv-30", 19, 369, 8_019, 30, 81),
        ("conv-41", 32, 663, 16_165, 77, 152),
        ("conv-42", 29, 629, 13_310, 80, 199),
        ("conv-43", 29, 680, 15_788, 123, 178),
        ("conv-44", 28, 675, 15_295, 149, 123),
        ("conv-47", 31, 689, 14_907, 81, 150),
        ("conv-48", 30, 681, 13_573, 108, 191),
        ("conv-49", 25, 509, 11_450, 86, 156),
        ("conv-50", 30, 568, 14_837, 99, 158),
    ]


@real
def test_released_splits(released: Locomo) -> None:
    sizes = {}
    for name in ("train", "validation", "test"):
        probes = [p for task in tasks(released, name) for p in task.probes]  # type: ignore[arg-type]
        sizes[name] = (len(probes), [Counter(p.category for p in probes)[c] for c in "1234"])
    assert sizes == {
        "train": (152, [32, 37, 13, 70]),
        "validation": (81, [11, 26, 0, 44]),
        "test": (1307, [239, 258, 83, 727]),
    }
    adversarial = [p for t in tasks(released, "test", adversarial=True) for p in t.probes if p.category == "5"]
    assert len(adversarial) == 375
    assert [session.number for session in released["conv-26"].sessions] == list(range(1, 20))


@real
def test_released_times(released: Locomo) -> None:
    times = [[session.time for session in c.sessions] for c in released.conversations]
    assert sum(map(len, times)) == 272
    assert all(t == sorted(t) for t in times)
    assert times[0][0] == "2023-05-08T13:56"
    assert (min(map(min, times))[:10], max(map(max, times))[:10]) == ("2022-01-21", "2024-01-12")


@real
def test_released_repairs(released: Locomo) -> None:
    assert not released.skipped
    by_field = {(p.row.split("(")[1][:-1], p.field): p for p in released.problems}

    def evidence(conversation: str, index: int) -> tuple[str, ...]:
        return released[conversation].questions[index].evidence

    assert evidence("conv-26", 37)[:2] == ("D8:6", "D9:17")
    assert evidence("conv-49", 31) == ("D9:1", "D4:4", "D4:6")
    assert [len(evidence("conv-49", i)) for i in (31, 38, 46)] == [3, 4, 4]
    assert "D11:26" in evidence("conv-43", 18)
    assert evidence("conv-50", 69) == ("D30:5",)
    assert evidence("conv-42", 88) == ("D1:18", "D1:20")
    assert "D10:19" not in evidence("conv-42", 58)
    assert "D4:36" not in evidence("conv-47", 38)
    assert by_field["conv-50", "qa[5].evidence[1]"].done == "kept once"
    empty = {key for key, p in by_field.items() if p.what == "is empty"}
    assert empty == {("conv-26", f"qa[{i}].evidence") for i in (30, 46)} | {
        ("conv-50", f"qa[{i}].evidence") for i in (39, 42)
    }
    numbers = {key: p.what for key, p in by_field.items() if p.what.startswith("is the number")}
    assert {field for _, field in numbers} == {f"qa[{i}].answer" for i in (1, 26, 49, 72, 40, 75)}
    assert {conversation for conversation, _ in numbers} == {"conv-26"}
    assert "35 dates for 19 sessions" in by_field["conv-26", "conversation"].what
    unanswered = [p for p in released.problems if "adversarial" in p.what]
    assert sum(int(p.what.split()[0]) for p in unanswered) == 444
    assert sum("in a list" in p.what for p in released.problems) == 10
    facts = [fact for c in released.conversations for session in c.sessions for fact in session.facts]
    assert len(facts) == 2541

    questions = [q for c in released.conversations for q in asked(c)]
    assert sum(len(q.evidence_raw) for q in questions) == 2355
    duplicates = sum(p.done == "kept once" for p in released.problems)
    valid = sum(len(q.evidence) for q in questions)
    dropped = sum(p.what.count("no existing turn") for p in released.problems)
    assert (valid + duplicates + dropped, valid + duplicates) == (2363, 2361)
    assert sum(bool(q.evidence) for q in questions) == 1536
    assert sum(bool(q.evidence) for c in split(released, "test") for q in asked(c)) == 1305
    everything = [q for c in released.conversations for q in c.questions]
    assert sum(len(q.evidence) for q in everything) + dropped == 2822


@real
def test_released_linked_turns(released: Locomo) -> None:
    for name, turns, pairs in (("conv-26", 133, 203), ("conv-30", 74, 106)):
        linked = linked_turns(released[name])
        assert (len(linked), sum(len(t.questions) for t in linked)) == (turns, pairs)
        assert max(len(t.context) for t in linked) == 50


Row4 = list[tuple[Conversation, Question]]


def mean(rows: Row4, name: str, predict: Callable[[Conversation, Question], str], category: int = 0) -> float:
    """100 x the mean score over the questions (of one category)."""
    kept = [(c, q) for c, q in rows if category in (0, q.category)]
    return 100 * sum(SCORERS[name](predict(c, q), [q.answer], str(q.category)) for c, q in kept) / len(kept)


def rows_of(locomo: Locomo, name: str) -> Row4:
    return [(c, q) for c in split(locomo, name) for q in asked(c)]  # type: ignore[arg-type]


@real
def test_released_gold_as_prediction(released: Locomo) -> None:
    def gold(conversation: Conversation, question: Question) -> str:
        return question.answer

    expected = {"train": (98.01, 76.72), "validation": (100, None), "test": (99.70, 95.25), "all": (99.55, 92.74)}
    for name, (official, third) in expected.items():
        rows = rows_of(released, name)
        assert mean(rows, "f1_mem0", gold) == mean(rows, "em_squad", gold) == 100
        assert mean(rows, "f1_locomo", gold) == pytest.approx(official, abs=0.01)
        if third is not None:
            assert mean(rows, "f1_locomo", gold, 3) == pytest.approx(third, abs=0.01)
    assert all(words_squad(q.answer) for _, q in rows_of(released, "all"))


@real
def test_released_evidence_turn_as_prediction(released: Locomo) -> None:
    texts = {(c.id, turn.id): turn.text for c in released.conversations for turn in c.turns}

    def first_turn(conversation: Conversation, question: Question) -> str:
        return texts[conversation.id, question.evidence[0]] if question.evidence else ""

    rows = rows_of(released, "test")
    mem0 = [mean(rows, "f1_mem0", first_turn, c) for c in range(5)]
    official = [mean(rows, "f1_locomo", first_turn, c) for c in range(5)]
    assert mem0 == pytest.approx([15.82, 9.23, 4.19, 4.87, 23.36], abs=0.01)
    assert official == pytest.approx([15.03, 9.27, 4.09, 3.95, 22.07], abs=0.01)


@real
def test_released_session_date_as_prediction(released: Locomo) -> None:
    dates = {
        (c.id, turn.id): session.time_text.split(" on ")[1]
        for c in released.conversations
        for session in c.sessions
        for turn in session.turns
    }

    def date(conversation: Conversation, question: Question) -> str:
        return dates[conversation.id, question.evidence[0]] if question.evidence else ""

    rows = rows_of(released, "test")
    mem0 = [mean(rows, "f1_mem0", date, c) for c in range(5)]
    official = [mean(rows, "f1_locomo", date, c) for c in range(5)]
    assert mem0 == pytest.approx([7.30, 0.78, 36.12, 0.00, 0.06], abs=0.01)
    assert official == pytest.approx([7.43, 0.79, 36.77, 0.00, 0.06], abs=0.01)
    assert mean(rows_of(released, "validation"), "f1_mem0", date, 2) == pytest.approx(73.59, abs=0.01)
