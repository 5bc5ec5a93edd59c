"""Builders from paragraphs, dialogues and sessions, on small files in the published shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from row_shapes import built, by_split, dump, lines, parquet, remarks

from mnemon.tasks.rows import leaks
from mnemon.types import MnemonError

# ── SQuAD ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def squad_article(i: int, qas: list[Any]) -> dict[str, Any]:
    return {"title": f"T{i}", "paragraphs": [{"context": f" Fact {i} is known. " * 9, "qas": qas}]}


def qa(name: str, *answers: str, **more: Any) -> dict[str, Any]:
    told = [{"text": text, "answer_start": 0} for text in answers]
    return {"id": name, "question": f"What is {name}?", "answers": told, **more}


def test_squad_keeps_every_distinct_answer(tmp_path: Path) -> None:
    data = [squad_article(0, [qa("a", "one", "one", "the one")]), squad_article(1, [qa("b", is_impossible=True)])]
    done = built("squad", dump(tmp_path / "dev-v2.0.json", {"version": "v2.0", "data": data}))
    (row,) = done.rows
    assert [(q.id, q.answers, q.evidence) for q in row.probes] == [("a", ("one", "the one"), ("p0.0",))]
    assert (row.split, row.documents, row.source) == ("test", ("T0", "T1"), "squad")
    assert "1 question(s) without an answer: left aside" in remarks(done)


def test_the_hubs_squad_gives_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    data = [squad_article(i, [qa(f"{i}", f"one {i}"), qa(f"{i}b", "two", "2")]) for i in range(6)]
    flat = [
        {
            "title": article["title"],
            "context": paragraph["context"],
            "id": item["id"],
            "question": item["question"],
            "answers": {
                "text": [answer["text"] for answer in item["answers"]],
                "answer_start": [answer["answer_start"] for answer in item["answers"]],
            },
        }
        for article in data
        for paragraph in article["paragraphs"]
        for item in paragraph["qas"]
    ]
    rows = built("squad", dump(tmp_path / "a" / "dev.json", {"version": "1.1", "data": data})).rows
    assert rows == built("squad", parquet(tmp_path / "b" / "dev.parquet", flat)).rows
    assert rows == built("squad", lines(tmp_path / "c" / "dev.jsonl", flat)).rows


def test_squad_rows_have_so_many_chunks_and_split_by_article(tmp_path: Path) -> None:
    data = [squad_article(i, [qa(f"q{i}", "x")]) for i in range(60)]
    file = dump(tmp_path / "train-v1.1.json", {"version": "1.1", "data": data})
    done = built("squad", file, chunk_tokens=100, row_chunks=3)
    assert len(by_split(done.rows, "train")) > 3
    assert sum(len(row.segments) for row in by_split(done.rows, "validation")) == 6
    assert sum(len(row.probes) for row in done.rows) == 60
    assert all(len(row.chunks) <= 6 for row in done.rows)
    assert leaks(done.rows) == []
    assert done.rows == built("squad", file, chunk_tokens=100, row_chunks=3).rows
    assert done.rows != built("squad", file, chunk_tokens=100, row_chunks=3, seed=1).rows


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([{"paragraphs": []}], "data[0], title: is missing: article left out"),
        ([{"title": "T", "paragraphs": [{"qas": []}]}], "paragraphs[0].context: is missing: paragraph left out"),
        ([squad_article(0, [qa("a", "x"), qa("a", "x")])], "'a' is used twice: question left out"),
        ([squad_article(0, [qa("a")])], "qas[0].answers: is empty: question left out"),
    ],
)
def test_malformed_squad(tmp_path: Path, data: Any, said: str) -> None:
    file = dump(tmp_path / "dev-v1.1.json", {"version": "1.1", "data": [*data, squad_article(9, [qa("good", "x")])]})
    with pytest.raises(MnemonError, match="1 malformed part") as error:
        built("squad", file)
    assert said in str(error.value)
    done = built("squad", file, skip_bad=True)
    assert (done.left_out, "good" in {q.id for row in done.rows for q in row.probes}) == (1, True)


# ── HotpotQA ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def hotpot(i: int, titles: list[str], facts: list[tuple[str, int]], hub: bool = False) -> dict[str, Any]:
    sentences = [[f"{title} is old.", f" It is  number {i}."] for title in titles]
    item: dict[str, Any] = {"question": f"Which {i}?", "answer": f"a {i}", "type": "bridge", "level": "hard"}
    if hub:
        item |= {"id": f"h{i}", "context": {"title": titles, "sentences": sentences}}
        item["supporting_facts"] = {"title": [t for t, _ in facts], "sent_id": [n for _, n in facts]}
    else:
        item |= {"_id": f"h{i}", "context": [list(pair) for pair in zip(titles, sentences, strict=True)]}
        item["supporting_facts"] = [list(fact) for fact in facts]
    return item


def pair(i: int, hub: bool = False) -> dict[str, Any]:
    titles = [f"A{i}", f"B{i}", f"C{i % 5}"]
    return hotpot(i, titles, [(f"A{i}", 0), (f"B{i}", 1), (f"A{i}", 1)], hub)


def test_both_layouts_give_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    release = dump(tmp_path / "x" / "dev.json", [pair(i) for i in range(12)])
    hub = [pair(i, hub=True) for i in range(12)]
    rows = built("hotpotqa", release).rows
    assert rows == built("hotpotqa", lines(tmp_path / "y" / "dev.jsonl", hub)).rows
    assert rows == built("hotpotqa", parquet(tmp_path / "z" / "dev.parquet", hub)).rows
    (row,) = rows
    first = row.probes[0]
    assert [row.segments[int(name[1:])].text for name in first.evidence] == [
        "A0 is old. It is number 0.",
        "B0 is old. It is number 0.",
    ]
    assert first.meta["sentences"] == [["p0", 0], ["p1", 1], ["p0", 1]]
    assert row.split == "test"
    assert "A0\nA0 is old." in row.chunks[0].text
    assert len(row.segments) == 12 * 2 + 5


def test_training_and_validation_share_no_paragraph(tmp_path: Path) -> None:
    items = [pair(i) for i in range(40)] + [
        hotpot(99, ["A0", "A1", "A2", *(f"A{i}" for i in range(3, 40))], [("A7", 0)])
    ]
    done = built("hotpotqa", dump(tmp_path / "train.json", items), chunk_tokens=100)
    train, validation = by_split(done.rows, "train"), by_split(done.rows, "validation")
    assert train
    assert validation
    assert leaks(done.rows) == []
    asked = sum(len(row.probes) for row in done.rows)
    lost = [fault.what for fault in done.faults]
    assert asked == 41 or lost == [f"{41 - asked} question(s) need a paragraph of the validation set"]


def test_malformed_hotpotqa(tmp_path: Path) -> None:
    bad = [hotpot(1, ["A"], [("Z", 0)]), pair(2) | {"context": ["A"]}, {"_id": "h3"}, pair(0), "text"]
    done = built("hotpotqa", dump(tmp_path / "dev.json", [pair(0), *bad]), skip_bad=True)
    assert [fault.what for fault in done.faults] == [
        "there is no paragraph 'Z'",
        "is not a pair that begins with a title",
        "is missing",
        "'h0' is used twice",
        "is 'text', not an object",
    ]
    assert len(done.rows[0].probes) == 1


# ── MSC ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_msc(tmp_path: Path) -> None:
    record = {
        "previous_dialogs": [
            {"dialog": [{"text": "Hi"}, {"text": "Hello"}], "time_back": "2 days 8 hours ago"},
            {"dialog": [{"text": "Back"}], "time_back": " 1 hour ago"},
        ],
        "dialog": [{"text": "I won", "id": "56601"}, {"text": "Great", "id": "Speaker 2"}],
        "self_instruct": {"B": "What did I do?", "A": "You won"},
        "metadata": {"initial_data_id": "valid_1"},
    }
    broken = record | {"previous_dialogs": [{"dialog": [{"text": "Hi"}], "time_back": "long ago"}]}
    done = built("msc", lines(tmp_path / "msc.jsonl", [record, broken]), skip_bad=True)
    (row,) = done.rows
    assert [(s.time, s.time_text) for s in row.segments] == [
        ("2023-12-29T16:00", "2 days 8 hours ago"),
        ("2023-12-31T23:00", "1 hour ago"),
        ("2024-01-01T00:00", "now"),
    ]
    assert [turn.speaker for turn in row.segments[0].turns] == ["Speaker 1", "Speaker 2"]
    assert row.segments[2].turns[0].speaker == "Speaker 1"
    assert (row.probes[0].question, row.probes[0].answers) == ("What did I do?", ("You won",))
    assert row.chunks[0].text.startswith("[Dialogue at timestamp 2 days 8 hours ago]\nSpeaker 1: Hi\nSpeaker 2: Hello")
    assert remarks(done) == [
        "'56601' is no speaker: read as Speaker 1",
        "'long ago' is not like '7 days 8 hours ago': record left out",
    ]


# ── LongMemEval ──────────────────────────────────────────────────────────────────────────────────────────────────────


def chat(*texts: str, mark: int | None = None) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = [
        {"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)
    ]
    if mark is not None:
        turns[mark]["has_answer"] = True
    return turns


def lme(name: str, kind: str = "multi-session", **changes: Any) -> dict[str, Any]:
    return {
        "question_id": name,
        "question_type": kind,
        "question": "How many?",
        "answer": 3,
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_session_ids": ["s_b", "s_a"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/01 (Mon) 10:00"],
        "haystack_sessions": [chat("I have three.", "Nice.", mark=0), chat("Hi", "", "Yes?")],
        "answer_session_ids": ["s_b"],
    } | changes


def test_the_official_layout(tmp_path: Path) -> None:
    items = [
        lme("q1"),
        lme("q2_abs", answer="It was never said."),
        lme("q3", "single-session-preference", answer="Likes threes."),
        lme("q4", haystack_sessions=[chat("a", "b"), chat("c")]),
    ]
    done = built("longmemeval", dump(tmp_path / "longmemeval_s.json", items))
    one, two, three, four = (row.probes[0] for row in done.rows)
    assert (one.answers, one.evidence, one.evidence_level, one.asked_at) == (
        ("3",),
        ("s_b:0",),
        "turn",
        "2023-05-30T23:40",
    )
    assert (two.answer_type, two.answers, two.rubric) == ("abstain", (), "It was never said.")
    assert (three.answer_type, three.rubric, three.scorers) == ("rubric", "Likes threes.", ("judge_lme",))
    assert (four.evidence, four.evidence_level) == (("s_b",), "segment")
    row = done.rows[0]
    assert [segment.id for segment in row.segments] == ["s_a", "s_b"]
    assert [turn.text for turn in row.segments[0].turns] == ["Hi", "Yes?"]
    assert row.chunks[0].text.startswith(
        "[Dialogue at timestamp 2023/05/01 (Mon) 10:00]\n<User> Hi\n<User> Yes?\n\n[Dial"
    )
    assert (row.split, row.documents) == ("test", ("s_a", "s_b"))
    assert remarks(done) == ["are not in order: sorted by date"] * 4


def test_evidence_turns_without_ids(tmp_path: Path) -> None:
    item = {key: value for key, value in lme("q1").items() if "_ids" not in key}
    item["haystack_sessions"] = [chat("I have three."), chat("Hi")]
    empty = item | {"question_id": "q2_abs", "haystack_sessions": [], "haystack_dates": []}
    done = built("longmemeval", dump(tmp_path / "evidence.json", [item, empty]))
    (row,) = done.rows
    assert [segment.id for segment in row.segments] == ["s1", "s0"]
    assert row.probes[0].evidence_level == "none"
    assert row.documents == ("q1/s1", "q1/s0")
    assert "1 item(s) without any history: left aside" in remarks(done)


def test_many_questions_over_one_haystack(tmp_path: Path) -> None:
    item = lme("q1")
    del item["question"], item["answer"]
    item |= {"questions": ["One?", "Two?"], "answers": ["a", "b"], "answer_session_ids": [["s_a"], ["s_b", "s_a"]]}
    (row,) = built("longmemeval", dump(tmp_path / "many.json", [item])).rows
    assert [(q.id, q.evidence) for q in row.probes] == [("q1.0", ("s_a",)), ("q1.1", ("s_b", "s_a"))]
    item["answers"] = ["a"]
    with pytest.raises(MnemonError, match="2 questions, 1 answers, 2 lists of evidence"):
        built("longmemeval", dump(tmp_path / "bad.json", [item]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"haystack_dates": ["2023/05/20 (Sat) 02:21"]},
            "do not fit together: 2 sessions, 1 dates, 2 ids: item left out",
        ),
        ({"question_date": "May"}, "'May' is not like '2023/05/30 (Tue) 23:40'"),
        ({"answer": None}, "answer: is None, not an answer"),
        ({"question": " "}, "is ' ', not a question"),
        ({"question_id": ""}, "question_id: is blank"),
        ({"haystack_sessions": [chat("a"), [{"role": "bot", "content": "x"}]]}, "'bot' is not one of user, assistant"),
    ],
)
def test_malformed_longmemeval(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = dump(tmp_path / "longmemeval_s.json", [lme("q1") | change, lme("q2")])
    with pytest.raises(MnemonError, match="1 malformed part") as error:
        built("longmemeval", file)
    assert said in str(error.value)
    assert "q2" in {q.id for row in built("longmemeval", file, skip_bad=True).rows for q in row.probes}


# ── training rows in LongMemEval's form ──────────────────────────────────────────────────────────────────────────────


def own(sessions: int = 40, questions: int = 20) -> list[dict[str, Any]]:
    said = [
        {
            "session_id": f"s{i}",
            "date": f"2023/05/{i % 28 + 1:02d} (Mon) 10:00",
            "turns": chat(f"Fact {i}. " * 20, "I see."),
        }
        for i in range(sessions)
    ]
    asked = [
        {"question_id": f"q{i}", "question": f"Fact {i}?", "answer": i, "question_type": "own", "evidence": [f"s{i}"]}
        for i in range(questions)
    ]
    return said + asked


def test_own_sessions_become_training_rows(tmp_path: Path) -> None:
    done = built("lme_train", lines(tmp_path / "own.jsonl", own()), chunk_tokens=100, row_chunks=6)
    train, validation = by_split(done.rows, "train"), by_split(done.rows, "validation")
    assert [len(row.probes) for row in train] == [4, 4, 4, 4, 2]
    assert sum(len(row.probes) for row in validation) == 2
    assert leaks(done.rows) == []
    for row in done.rows:
        assert [s.time for s in row.segments] == sorted(s.time for s in row.segments)
        assert all(q.asked_at >= row.segments[-1].time for q in row.probes)
        assert {name for q in row.probes for name in q.evidence} < {s.id for s in row.segments}
        assert row.tokens <= 6 * 100 * 1.5
    assert len({q.id for row in done.rows for q in row.probes}) == 20


def test_official_items_are_sessions_and_questions(tmp_path: Path) -> None:
    items = [lme(f"q{i}", haystack_session_ids=[f"b{i}", "shared"], answer_session_ids=[f"b{i}"]) for i in range(10)]
    done = built("lme_train", dump(tmp_path / "items.json", items))
    assert sum(len(row.probes) for row in done.rows) == 10
    assert leaks(done.rows, near=1.0) == [
        leak for leak in leaks(done.rows, near=1.0) if leak.what in ("question", "chunk")
    ]


def test_own_questions_need_their_sessions(tmp_path: Path) -> None:
    records = own(6, 5)
    records[-1]["evidence"] = ["nowhere"]
    records[-2]["evidence"] = []
    done = built("lme_train", lines(tmp_path / "own.jsonl", records), skip_bad=True)
    assert remarks(done) == ["is empty: record left out", "there is no session 'nowhere': question left out"]
    with pytest.raises(MnemonError, match="lme_train: no question"):
        built("lme_train", lines(tmp_path / "none.jsonl", own(3, 0)))
