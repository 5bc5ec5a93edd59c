"""Builders from published schemas: books, PerLTQA, the Mem-alpha data, the four dimensions of MemoryAgentBench."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from row_shapes import built, by_split, dump, lines, parquet, remarks

from mnemon.tasks.rows.build import found_in
from mnemon.tasks.rows.build.books import summary_keywords
from mnemon.types import MnemonError

# ── books ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CHAPTER = "Then Mary walked to London with Mr Grey. " * 60
SUMMARY = "Mary goes to London. There she meets Mr Grey, who likes Mary's hat. Then Paris is named."


def test_keywords_are_names_of_both_texts() -> None:
    assert summary_keywords(SUMMARY, CHAPTER) == ("Mary", "London", "Mr Grey")
    assert summary_keywords("The people walked away.", "All people walked.") == ("people", "walked")
    assert summary_keywords("It is so.", "No.") == ()


def test_booksum_takes_chapters_of_five_to_twenty_chunks(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    records = [
        {"book_title": f"Book {i // 2}", "chapter_id": f"c{i}", "text": CHAPTER, "summary": [{"text": SUMMARY}]}
        for i in range(4)
    ]
    records += [
        {"book_title": "Short", "chapter_id": "s", "text": "Short.", "summary": [{"text": SUMMARY}]},
        {"book_title": "Long", "chapter_id": "l", "text": CHAPTER * 9, "summary": [{"text": SUMMARY}]},
    ]
    done = built("booksum", parquet(tmp_path / "chapters.parquet", records), chunk_tokens=80)
    assert sorted(remarks(done)) == [
        "1 chapter(s) longer than 5 to 20 chunks: left aside",
        "1 chapter(s) shorter than 5 to 20 chunks: left aside",
    ]
    assert len(done.rows) == 4
    row = done.rows[0]
    assert 5 <= len(row.chunks) <= 20
    assert "".join(s.text for s in row.segments).replace(" ", "") == CHAPTER.replace(" ", "")
    (probe,) = row.probes
    assert probe.question == f"Summarise what the user read from 2024-01-01 to {row.chunks[-1].time[:10]}."
    assert (probe.answers, probe.answer_type) == (("Mary", "London", "Mr Grey"), "keywords")
    assert probe.meta["summary"] == SUMMARY
    assert {row.documents[0]: row.split for row in done.rows}.keys() == {"Book 0", "Book 1"}
    train = built("booksum", lines(tmp_path / "train.jsonl", records[:4]), chunk_tokens=80)
    assert {row.split for row in train.rows} == {"train"}


def test_malformed_books(tmp_path: Path) -> None:
    good = {"book_title": "B", "chapter_id": "c", "text": CHAPTER, "summary": [{"text": ""}, {"text": SUMMARY}]}
    bad = [good | {"summary": []}, good | {"text": 3}]
    file = lines(tmp_path / "test.jsonl", [good, *bad])
    file.write_text(file.read_text() + "{\n")
    done = built("booksum", file, chunk_tokens=80, skip_bad=True)
    assert [fault.what[:30] for fault in done.faults if fault.bad] == [
        "has no text",
        "is 3, not text",
        "is not JSON (Expecting propert",
    ]
    assert len(done.rows) == 1


def test_infbench_sum(tmp_path: Path) -> None:
    record = {"id": 7, "context": CHAPTER * 2, "input": "Summarize", "answer": [SUMMARY], "options": []}
    plain = record | {"id": 8, "answer": "nothing in common"}
    done = built("infbench_sum", lines(tmp_path / "longbook_sum_eng.jsonl", [record, plain]), chunk_tokens=200)
    one, two = done.rows
    assert (one.id, one.split, one.dimension) == ("infbench_sum/7", "test", "long_range_understanding")
    assert one.probes[0].answers == ("Mary", "London", "Mr Grey")
    assert (two.probes[0].answer_type, two.probes[0].scorers) == ("summary", ("rouge_l",))
    bad = lines(tmp_path / "b.jsonl", [record | {"answer": []}])
    with pytest.raises(MnemonError, match="answer: is no summary"):
        built("infbench_sum", bad)


# ── PerLTQA ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def person(i: int) -> tuple[dict[str, Any], dict[str, Any]]:
    memory = {
        "profile": {"Protagonist": f"Ana {i}", "Age": 28},
        "profile_description": "A person.",
        "social_relationship": {
            f"{i}_0": {"Supporting Characters": "Ben", "Description": "Her brother.", "Relationship": "brother"}
        },
        "events": {
            f"{i}_0_0": {"content": "They saw a canyon.", "summary": "A trip", "Creation Time": "May 12, 2022"},
            f"{i}_0_1": {"content": "They bought a lamp.", "summary": "", "Creation Time": ""},
        },
        "dialogues": {
            f"{i}_0_0#0": {"contents": {"2022-06-01 10:00": ["Ben: It was: great", "I agree", "Ana: Yes"]}},
            f"{i}_0_0#1": {"contents": {"later": ["Ana: Again?"]}},
        },
    }

    def asked(answer: str, cited: str, *anchors: str) -> dict[str, Any]:
        told = [{anchor: [0, 1]} for anchor in anchors]
        return {"Question": f"What of {answer}?", "Answer": answer, "Reference Memory": cited, "Memory Anchors": told}

    questions = {
        "profile": [asked("She is 28.", "Age", "28")],
        "social_relationship": [{f"{i}_0": [asked("Ben is her brother.", f"['{i}_0']", "Ben", "Brother")]}],
        "events": [{f"{i}_0_0": [asked("A canyon and a river.", f"['{i}_0_0']", "a canyon", "the sea")]}],
        "dialogues": [asked("It was great.", f"{i}_0_0#0", "wonderful")],
    }
    return memory, questions


def test_perltqa(tmp_path: Path) -> None:
    people = {f"Ana {i}": person(i) for i in range(12)}
    memories = dump(tmp_path / "perltmem_en.json", {name: memory for name, (memory, _) in people.items()})
    asked = dump(tmp_path / "perltqa_en.json", [{name: held} for name, (_, held) in people.items()])
    done = built("perltqa", memories, asked)
    assert (len(by_split(done.rows, "train")), len(by_split(done.rows, "validation"))) == (10, 2)
    row = next(row for row in done.rows if row.id == "perltqa/Ana 3")
    assert [segment.id for segment in row.segments] == ["relations", "3_0_0", "3_0_0#0", "3_0_0#1", "3_0_1"]
    assert [chunk.segments for chunk in row.chunks] == [("relations",), ("3_0_0", "3_0_0#0", "3_0_0#1"), ("3_0_1",)]
    assert row.chunks[1].text == (
        "[Event of Ana 3, May 12, 2022] A trip.\nThey saw a canyon.\n\n"
        "[Dialogue at timestamp 2022-06-01 10:00]\nBen: It was: great\nBen: I agree\nAna: Yes\n\n"
        "[Dialogue at timestamp later]\nAna: Again?"
    )
    assert [(q.category, q.answers, q.answer_type, q.evidence) for q in row.probes] == [
        ("social_relationship", ("Ben; Brother",), "list", ("relations",)),
        ("events", ("a canyon",), "list", ("3_0_0",)),
        ("dialogues", ("It was great.",), "short", ("3_0_0#0",)),
    ]
    assert "1 question(s) about the profile: left aside" in remarks(done)
    with pytest.raises(MnemonError, match="give both files"):
        built("perltqa", memories)


# ── the Mem-alpha data ───────────────────────────────────────────────────────────────────────────────────────────────


def memalpha(source: str, answer: Any = "red", **changes: Any) -> dict[str, Any]:
    chunks = [f"[Dialogue between User and Assistant on 2024-01-0{i + 1} 00:00]\n<User> fact {i}" for i in range(3)]
    return {
        "instance_id": 1,
        "prompt": "p",
        "chunks": json.dumps(chunks),
        "questions_and_answers": json.dumps([{"question": "Which?", "answer": answer}]),
        "data_source": source,
        "metadata": "{}",
        "num_chunks": 3,
        "num_questions": 1,
    } | changes


def test_the_mem_alpha_data(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    records = [
        memalpha("squad"),
        memalpha("perltqa", "red; blue"),
        memalpha("pubmed-rct", "3"),
        memalpha("icl_nlu_8296shot_balance", "43"),
        memalpha("booksum", "Tom, Becky, "),
        memalpha("ruler_qa1_197K", json.dumps(["a", "b"])),
        memalpha("longmemeval_s*"),
    ]
    done = built("memalpha", parquet(tmp_path / "test.parquet", records))
    asked = {row.source: row.probes[0] for row in done.rows}
    assert asked["memalpha-squad"].scorers[0] == "sub_raw"
    assert asked["memalpha-perltqa"].scorers[0] == "list_hit"
    assert (asked["memalpha-pubmed-rct"].answer_type, asked["memalpha-pubmed-rct"].answers) == ("label", ("3",))
    assert asked["memalpha-booksum"].answers == ("Tom", "Becky")
    assert asked["memalpha-ruler_qa1_197k"].scorers[0] == "sub_squad"
    assert asked["memalpha-longmemeval_s*"].scorers[0] == "judge_lme"
    row = done.rows[3]
    assert (row.dimension, row.split, row.chunker.name if row.chunker else "") == (
        "test_time_learning",
        "test",
        "given",
    )
    assert [chunk.time for chunk in row.chunks] == ["2024-01-01T00:00", "2024-01-02T00:00", "2024-01-03T00:00"]
    assert row.chunks[0].text == row.segments[0].text
    unordered = memalpha("squad", chunks=json.dumps(["on 2024-02-01", "on 2024-01-01", "no date"]))
    done = built("memalpha", lines(tmp_path / "train.jsonl", [unordered]))
    assert [chunk.time for chunk in done.rows[0].chunks] == ["", "", ""]
    assert remarks(done) == ["their dates are not in order: dates kept in the texts only"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_chunks": 4}, "num_chunks: is 4, but there are 3"),
        ({"num_questions": 2}, "num_questions: is 2, but there are 1"),
        ({"chunks": "[1"}, "chunks: is not the JSON of a list"),
        ({"chunks": "[]", "num_chunks": 0}, "chunks: is empty"),
        ({"chunks": "[7]", "num_chunks": 1}, r"chunks[0]: is 7, not text"),
        ({"data_source": "poems"}, "data_source: 'poems' is unknown"),
        ({"instance_id": "one"}, "instance_id: is 'one', not a number"),
        (
            {"questions_and_answers": json.dumps([{"question": "q", "answer": "x"}] * 101), "num_questions": 101},
            "num_questions: is 101, more than 100",
        ),
        ({"questions_and_answers": '[{"question": "q", "answer": null}]'}, "answer: is None, not an answer"),
        (
            {"data_source": "trec", "questions_and_answers": '[{"question": "q", "answer": "x"}]'},
            "is not the number of",
        ),
    ],
)
def test_malformed_mem_alpha_data(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = lines(tmp_path / "train.jsonl", [memalpha("squad"), memalpha("squad") | change])
    with pytest.raises(MnemonError, match="malformed part") as error:
        built("memalpha", file)
    assert said in str(error.value)
    assert len(built("memalpha", file, skip_bad=True).rows) == 1


# ── MemoryAgentBench ─────────────────────────────────────────────────────────────────────────────────────────────────


def mab(source: str, context: str, asked: list[str], answers: list[list[str]], **more: Any) -> dict[str, Any]:
    keys = ("demo", "haystack_sessions", "keypoints", "previous_events", "qa_pair_ids")
    empty: dict[str, Any] = dict.fromkeys((*keys, "question_dates", "question_ids", "question_types"))
    return {"context": context, "questions": asked, "answers": answers, "metadata": empty | {"source": source} | more}


FILLER = "The rain fell on the town and nobody came. " * 60


def bench(tmp_path: Path, name: str, *records: dict[str, Any], **options: Any) -> Any:
    pytest.importorskip("pyarrow")
    return built("memoryagentbench", parquet(tmp_path / f"{name}-00000-of-00001.parquet", records), **options)


def test_accurate_retrieval(tmp_path: Path) -> None:
    documents = "".join(f"Document {i}:\nTown {i} is red.\n{FILLER[:400]}\n\n" for i in range(1, 9))
    turns = [{"role": "user", "content": "I have keys.", "has_answer": True}, {"role": "assistant", "content": "OK"}]
    sessions = ["Chat Time: 2022/12/28 (Wed) 16:10", turns, "Chat Time: 2022/11/17 (Thu) 12:04", turns[1:]]
    done = bench(
        tmp_path,
        "Accurate_Retrieval",
        mab("ruler_qa1_197K", documents, ["Which town?", "And?"], [["Red", "red", "Red"], ["x"]]),
        mab("eventqa_65536", FILLER * 3, ["What next? A or B"], [["Bob leaves"]]),
        mab(
            "longmemeval_s*",
            repr(sessions),
            ["What have I?", "Likes?"],
            [["keys"], ["Prefers keys"]],
            question_ids=["a", "b"],
            question_types=["single-session-user", "single-session-preference"],
            question_dates=["2023/01/30 (Mon) 23:40", "2023/01/30 (Mon) 23:40"],
        ),
        chunk_tokens=150,
    )
    ruler, event, lme = done.rows
    assert len(ruler.segments) == 8
    assert ruler.segments[0].text.startswith("Document 1:\nTown 1")
    assert [(q.category, q.answers) for q in ruler.probes] == [("single_doc", ("Red", "red")), ("single_doc", ("x",))]
    assert event.probes[0].scorers[0] == "event_recall"
    assert "".join(s.text for s in event.segments).replace(" ", "") == (FILLER * 3).replace(" ", "")
    assert [segment.time for segment in lme.segments] == ["2022-11-17T12:04", "2022-12-28T16:10"]
    assert [(q.id, q.answer_type, q.asked_at) for q in lme.probes] == [
        ("a", "short", "2023-01-30T23:40"),
        ("b", "rubric", "2023-01-30T23:40"),
    ]
    assert {row.dimension for row in done.rows} == {"accurate_retrieval"}
    assert sum("the benchmark leaves out fewer than 2000" in remark for remark in remarks(done)) == 1


def test_conflict_resolution_keeps_facts_whole_and_in_order(tmp_path: Path) -> None:
    facts = [f"{i}. The mayor of Town {i % 20} is Person {i}." for i in range(120)]
    context = "Here is a list of facts:\n" + "\n".join(facts)
    done = bench(
        tmp_path,
        "Conflict_Resolution",
        mab("factconsolidation_sh_6k", context, ["Who is the mayor of Town 3?"], [["Person 103"]]),
        mab("factconsolidation_mh_6k", context, ["Who succeeded?"], [["Person 7"]]),
        chunk_tokens=120,
    )
    single, multi = done.rows
    assert [line for segment in single.segments for line in segment.text.splitlines()] == facts
    serials = [segment.meta["serials"] for segment in single.segments]
    assert serials[0][0] == 0
    assert all(after[0] == before[1] + 1 for before, after in pairwise(serials))
    assert [(row.dimension, row.probes[0].category) for row in (single, multi)] == [
        ("conflict_resolution", "single_hop"),
        ("conflict_resolution", "multi_hop"),
    ]
    assert (single.probes[0].scorers[0], single.probes[0].meta["size"]) == ("sub_squad", "6k")
    for chunk in single.chunks:
        inside = chunk.text.split("\n")[2:-1]
        assert set(inside) <= set(facts)


def test_test_time_learning_keeps_examples_whole(tmp_path: Path) -> None:
    told = [f"what is number {i} ?\nlabel: {i % 7}" for i in range(100)]
    films = "".join(f"User: I like Heat {i}.\nAssistant: See Alien {i}!\n\n" for i in range(60))
    ids = dump(tmp_path / "entity2id.json", {"<http://dbpedia.org/resource/Heat_(1995_film)>": 5, "Alien": 6})
    records = [
        mab("icl_nlu_8296shot_balance", "\n".join(told), ["what is it ?", "and ?"], [["3"], ["label: 6"]]),
        mab("recsys_redial_full", films, ["Recommend me films", "More"], [["5", "6"], ["99"]]),
    ]
    file = lines(tmp_path / "Test_Time_Learning.jsonl", records)
    with pytest.raises(MnemonError, match=r"are numbers of films; give entity2id\.json"):
        built("memoryagentbench", file)
    done = built("memoryagentbench", file, ids, chunk_tokens=100, skip_bad=True)
    icl, redial = done.rows
    assert [turn.text for s in icl.segments for turn in s.turns] == [
        f"Sentence: what is number {i} ?\nLabel: {i % 7}" for i in range(100)
    ]
    assert [(q.answers, q.answer_type) for q in icl.probes] == [(("3",), "label"), (("6",), "label")]
    assert icl.probes[0].evidence == tuple(s.id for s in icl.segments if any(t.meta["label"] == "3" for t in s.turns))
    assert [(q.answers, q.scorers[0]) for q in redial.probes] == [(("Heat", "Alien"), "rank_recall@5")]
    assert {row.dimension for row in done.rows} == {"test_time_learning"}
    assert done.left_out == 1


def test_long_range_understanding(tmp_path: Path) -> None:
    done = bench(
        tmp_path,
        "Long_Range_Understanding",
        mab("infbench_sum_eng_shots2", CHAPTER * 2, ["Summarize"], [[SUMMARY]], keypoints=["Mary goes", "hat"]),
        mab("detective_qa", CHAPTER * 2, ["Who? A. Mary B. Ben"], [["A. Mary"]]),
        mab("infbench_sum_eng_shots2", CHAPTER * 2, ["Summarize"], [[SUMMARY]]),
        chunk_tokens=150,
    )
    book, detective, second = done.rows
    assert (book.probes[0].answers, book.probes[0].meta["keypoints"]) == (
        ("Mary", "London", "Mr Grey"),
        ["Mary goes", "hat"],
    )
    assert detective.probes[0].answers == ("A. Mary",)
    assert (book.id, second.id) == ("mab/infbench_sum_eng_shots2#0", "mab/infbench_sum_eng_shots2#1")
    assert {row.dimension for row in done.rows} == {"long_range_understanding"}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (mab("niah", FILLER, ["q"], [["a"]]), "metadata.source: 'niah' is unknown"),
        (mab("detective_qa", FILLER, ["q", "r"], [["a"]]), "questions: 2 questions and 1 answers"),
        (mab("detective_qa", FILLER, ["q"], [["  "]]), "answers[0]: is empty"),
        (mab("ruler_qa2_421K", FILLER, ["q"], [["a"]]), "context: has no line 'Document 1:'"),
        (mab("factconsolidation_sh_6k", FILLER, ["q"], [["a"]]), "has no line like '0. fact'"),
        (mab("icl_trec_fine_6400shot_balance", FILLER, ["q"], [["a"]]), "has no line like 'label: 3'"),
        (mab("longmemeval_s*", "__import__('os')", ["q"], [["a"]]), "is not a printed list of dates and sessions"),
        (mab("icl_nlu_x", "a\nlabel: 3\n" * 300, ["q"], [["three"]]), "'three' is not the number of a label"),
        ({"context": FILLER}, "metadata: is missing"),
    ],
)
def test_malformed_contexts(tmp_path: Path, record: dict[str, Any], said: str) -> None:
    good = mab("detective_qa", FILLER, ["q"], [["a"]])
    file = lines(tmp_path / "bench.jsonl", [record, good])
    with pytest.raises(MnemonError, match="malformed part") as error:
        built("memoryagentbench", file)
    assert said in str(error.value)
    assert len(built("memoryagentbench", file, skip_bad=True).rows) == 1


def test_what_lies_in_a_folder(tmp_path: Path) -> None:
    names = [
        "memoryagentbench/data/Test_Time_Learning-00000-of-00001.parquet",
        "memoryagentbench/entity2id.json",
        "memalpha/train.parquet",
        "memalpha-memoryagentbench/train.parquet",
        "perltqa/Dataset/en_v2/perltmem_en_v2.json",
        "perltqa/Dataset/en_v2/perltqa_en_v2.json",
        "pubmed_rct/train.txt",
        "pubmed_rct/LICENSE.txt",
        "squad/plain_text/train-00000-of-00001.parquet",
        "hotpotqa/hotpot_train_v1.1.json",
        "trec/TREC.train",
        "trec/TREC.train.all",
        "README.md",
    ]
    for name in names:
        dump(tmp_path / name, {})
    found = [(name, *(path.name for path in files)) for name, files in found_in(tmp_path)]
    assert found == [
        ("hotpotqa", "hotpot_train_v1.1.json"),
        ("memalpha", "train.parquet", "train.parquet"),
        ("memoryagentbench", "Test_Time_Learning-00000-of-00001.parquet", "entity2id.json"),
        ("perltqa", "perltmem_en_v2.json", "perltqa_en_v2.json"),
        ("pubmed_rct", "train.txt"),
        ("squad", "train-00000-of-00001.parquet"),
        ("trec_coarse", "TREC.train"),
        ("trec_fine", "TREC.train"),
    ]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    files = [lines(tmp_path / folder / "train.jsonl", [memalpha("squad")]) for folder in ("memalpha", "memalpha-full")]
    assert [row.id for row in built("memalpha", *files).rows] == [
        "memalpha/memalpha-train/0",
        "memalpha/memalpha-full-train/0",
    ]


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "test.parquet").write_text("no")
    with pytest.raises(MnemonError, match="is not a parquet file"):
        built("memoryagentbench", tmp_path / "test.parquet")
    with pytest.raises(MnemonError, match="is a JSON dict with keys a, not a list of MemoryAgentBench contexts"):
        built("memoryagentbench", dump(tmp_path / "x.json", {"a": 1}))
