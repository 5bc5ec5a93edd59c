"""Test-time learning: coverage, nothing both shown and asked, labels of one split only, numbers drawn per row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from row_shapes import built, by_split, dump, lines, parquet, remarks

from mnemon.tasks.rows import Row, leaks
from mnemon.types import MnemonError


def clinc(path: Path, labels: int = 40, shown: int = 8, asked: int = 4, **more: Any) -> Path:
    def pool(kind: str, n: int) -> list[list[str]]:
        return [[f"{kind} words {i} about topic {k}", f"topic_{k:02d}"] for k in range(labels) for i in range(n)]

    data = {"train": pool("shown", shown), "val": pool("valid", 2), "test": pool("asked", asked)}
    data |= {"oos_train": [["what", "oos"]], "oos_test": [["who", "oos"]]}
    return dump(path / "data_full.json", data | more)


def shown_in(row: Row) -> Iterator[tuple[str, str, str]]:
    """(sentence, label, number) of every example as it is told."""
    for segment in row.segments:
        for turn in segment.turns:
            sentence, _, label = turn.text.partition("\nLabel: ")
            yield sentence.removeprefix("Sentence: "), str(turn.meta["label"]), label


def check(rows: tuple[Row, ...]) -> None:
    """What every row of labelled sentences keeps."""
    for row in rows:
        names = row.metadata["labels"]
        told = list(shown_in(row))
        assert {number for _, _, number in told} == set(names) == {str(i) for i in range(len(names))}
        assert all(names[number] == label for _, label, number in told)
        assert not {text.lower() for text, _, _ in told} & {q.question.lower() for q in row.probes}
        for question in row.probes:
            assert question.answers[0] in names
            assert question.scorers[0] == "label"
            blocks = {
                segment.id
                for segment in row.segments
                for turn in segment.turns
                if turn.meta["label"] == names[question.answers[0]]
            }
            assert set(question.evidence) == blocks
    assert leaks(rows) == []


def test_every_label_is_shown_and_belongs_to_one_row(tmp_path: Path) -> None:
    done = built("clinc150", clinc(tmp_path), chunk_tokens=120)
    check(done.rows)
    assert [(row.id, len(row.metadata["labels"])) for row in done.rows] == [
        *((f"clinc150/train#{n}", size) for n, size in enumerate([11, 11, 10])),
        ("clinc150/validation#0", 4),
        ("clinc150/test#0", 4),
    ]
    labels = [label for row in done.rows for label in row.metadata["labels"].values()]
    assert len(labels) == len(set(labels)) == 40
    assert all(len(row.chunks) == 10 for row in done.rows)
    assert [len(row.probes) for row in done.rows] == [22, 22, 20, 8, 16]
    for row in done.rows:  # the test file's sentences are asked in the test row only
        assert all(probe.question.startswith("asked") == (row.split == "test") for probe in row.probes)
        assert not any(text.startswith("asked") for text, _, _ in shown_in(row))


def test_numbers_are_drawn_anew(tmp_path: Path) -> None:
    file = clinc(tmp_path)
    done = built("clinc150", file, label_rounds=3, split="test")
    check(done.rows)
    assert [row.id for row in done.rows] == ["clinc150/test#0", "clinc150/test#0.1", "clinc150/test#0.2"]
    orders = {tuple(row.metadata["labels"].values()) for row in done.rows}
    assert {frozenset(order) for order in orders} == {frozenset(next(iter(orders)))}
    assert len(orders) > 1
    other = built("clinc150", file, seed=7, split="test").rows[0]
    assert set(other.metadata["labels"].values()) == set(next(iter(orders)))


def test_the_budget_of_examples(tmp_path: Path) -> None:
    small = built("clinc150", clinc(tmp_path, labels=20), chunk_tokens=48, row_chunks=2).rows
    check(small)
    assert all(len(list(shown_in(row))) >= len(row.metadata["labels"]) for row in small)
    assert all(row.tokens < len(row.chunks) * 48 for row in small)
    large = built("clinc150", clinc(tmp_path, labels=20), chunk_tokens=4096).rows
    assert [len(list(shown_in(row))) for row in large] == [64, 64, 16, 20]
    long = dump(tmp_path / "data_full.json", {"train": [["a " * 90, "x"], ["b", "y"]], "test": [["c", "x"]]})
    with pytest.raises(MnemonError, match="an example has 93 words tokens, and a chunk of 64 holds"):
        built("clinc150", long, chunk_tokens=64)


def test_all_labels_in_one_row(tmp_path: Path) -> None:
    (row,) = built("clinc150", clinc(tmp_path), all_labels=True, chunk_tokens=300).rows
    check((row,))
    assert (row.split, len(row.metadata["labels"]), len(list(shown_in(row)))) == ("test", 40, 400)
    assert len(row.probes) == 100
    assert all(chunk.tokens <= 300 for chunk in row.chunks)


def test_what_is_shown_is_never_asked(tmp_path: Path) -> None:
    more = [["Asked words 0 about TOPIC 3!", "topic_03"], ["unclear", "topic_01"], ["unclear", "topic_02"]]
    data = {"train": more + [[f"s {k} {i}", f"topic_{k:02d}"] for k in range(5) for i in range(2)]}
    data["test"] = [[f"asked words 0 about topic {k}", f"topic_{k:02d}"] for k in range(5)] + [["new", "unseen"]]
    done = built("clinc150", dump(tmp_path / "data_full.json", data))
    check(done.rows)
    assert remarks(done) == ["4 sentence(s) repeated, asked and shown, under two labels, or never shown: left aside"]


def test_without_a_held_out_file_a_fifth_is_asked(tmp_path: Path) -> None:
    rows = [f"text {i} of label {i % 4},label {i % 4}" for i in range(100)]
    (tmp_path / "train.csv").write_text("text,category\r\n" + "\r\n".join(rows))
    done = built("banking77", tmp_path / "train.csv")
    check(done.rows)
    assert sum(len(row.probes) for row in done.rows) == 20


def test_banking77_keeps_line_breaks_and_names_the_line(tmp_path: Path) -> None:
    text = 'text,category\r\n"two\r\nlines ",a\r\nplain,b\r\nthird,c\r\n,a\r\n'
    (tmp_path / "train.csv").write_bytes(text.encode())
    (tmp_path / "test.csv").write_text("text,category\nask a,a\nask b,b\nask c,c\n")
    done = built("banking77", tmp_path / "train.csv", tmp_path / "test.csv", skip_bad=True)
    check(done.rows)
    assert {told[0] for row in done.rows for told in shown_in(row)} == {"two lines", "plain", "third"}
    assert [str(fault) for fault in done.faults] == ["train.csv, line 6: has no text: sentence left out"]
    (tmp_path / "test.csv").write_text("question,category\n")
    with pytest.raises(MnemonError, match="there is no text"):
        built("banking77", tmp_path / "test.csv")


def test_trec_is_not_utf8(tmp_path: Path) -> None:
    kinds = ["DESC:manner", "DESC:def", "HUM:ind", "LOC:city", "NUM:date", "NUM:count"]
    told = [f"{kind} How is {i} sister\xf0city of {k} ?" for i, kind in enumerate(kinds) for k in range(3)]
    (tmp_path / "TREC.train").write_bytes("\n".join(told).encode("latin-1"))
    (tmp_path / "TREC.test").write_text("\n".join(f"{kind} What is {kind} ?" for kind in kinds))
    files = (tmp_path / "TREC.train", tmp_path / "TREC.test")
    coarse = built("trec_coarse", *files)
    check(coarse.rows)
    assert {label for row in coarse.rows for label in row.metadata["labels"].values()} == {"DESC", "HUM", "LOC", "NUM"}
    fine = built("trec_fine", *files)
    check(fine.rows)
    assert sorted(label for row in fine.rows for label in row.metadata["labels"].values()) == sorted(kinds)
    assert [leak for leak in leaks([*coarse.rows, *fine.rows]) if leak.what != "chunk"] == []
    (tmp_path / "TREC.test").write_text("0 What is it ?\n" + told[0])
    with pytest.raises(MnemonError, match="'0' is not like 'DESC:manner'"):
        built("trec_fine", *files)


def test_nlu_reads_a_fold(tmp_path: Path) -> None:
    head = "answerid;scenario;intent;answer_annotation;answer_from_anno;answer_from_user\n"
    for part, folder in (("shown", "trainset"), ("asked", "testset/csv")):
        for k in range(4):
            file = tmp_path / "KFold_1" / folder / f"play_{k}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(head + "".join(f'1;play;{k};"[a : b]";"{part} {k} {i}";"X"\n' for i in range(3)))
    done = built("nlu", tmp_path / "KFold_1")
    check(done.rows)
    assert sorted(label for row in done.rows for label in row.metadata["labels"].values()) == [
        f"play_{k}" for k in range(4)
    ]
    assert all(q.question.startswith("asked") == (row.split == "test") for row in done.rows for q in row.probes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MnemonError, match="no CSV file"):
        built("nlu", tmp_path / "empty")


def test_malformed_clinc(tmp_path: Path) -> None:
    file = clinc(tmp_path, labels=4, train=[["a", "topic_00"], ["b"], [7, "x"]], extra=[])
    with pytest.raises(MnemonError, match=r"train\[1\]: is \['b'\], not \[text, intent\]"):
        built("clinc150", file)
    assert built("clinc150", file, skip_bad=True).left_out == 2
    with pytest.raises(MnemonError, match="is not a CLINC150 file"):
        built("clinc150", dump(tmp_path / "x.json", {"train": []}))


# ── PubMed-RCT ───────────────────────────────────────────────────────────────────────────────────────────────────────

ROLES = ("BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS")
NUMBERS = {"BACKGROUND": 0, "CONCLUSIONS": 1, "METHODS": 2, "OBJECTIVE": 3, "RESULTS": 4}


def test_pubmed_rct_in_both_forms(tmp_path: Path) -> None:
    abstracts = [[(role, f"abstract {i} says {role.lower()} here .") for role in ROLES] for i in range(60)]
    text = "\n\n".join(f"###{i}\n" + "\n".join(f"{role}\t{said}" for role, said in a) for i, a in enumerate(abstracts))
    (tmp_path / "train.txt").write_text(text + "\n")
    records = [{"labels": NUMBERS[role], "text": said, "uid": i} for i, a in enumerate(abstracts) for role, said in a]
    options: dict[str, Any] = {"chunk_tokens": 80, "row_chunks": 3, "questions": 10}
    done = built("pubmed_rct", tmp_path / "train.txt", **options)
    assert done.rows == built("pubmed_rct", lines(tmp_path / "train.jsonl", records), **options).rows
    pytest.importorskip("pyarrow")
    assert done.rows == built("pubmed_rct", parquet(tmp_path / "train.parquet", records), **options).rows
    assert len(done.rows) > 3
    check(done.rows)
    assert {row.split for row in done.rows} == {"train"}
    used = [name for row in done.rows for name in row.documents]
    assert len(used) == len(set(used))
    for row in done.rows:
        assert sorted(row.metadata["labels"].values()) == sorted(ROLES)
        shown = {text.split()[1] for text, _, _ in shown_in(row)}
        asked = {q.question.split()[1] for q in row.probes}
        assert not shown & asked
        assert shown | asked <= set(row.documents)
    assert len({tuple(row.metadata["labels"].items()) for row in done.rows}) > 1


def test_malformed_pubmed(tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text(
        "###1\nAIM\tx\nMETHODS y\n" + "".join(f"###{i}\nRESULTS\tsaid {i}\n" for i in range(9))
    )
    with pytest.raises(MnemonError, match=r"line 2: 'AIM\\tx' is not a label of BACKGROUND"):
        built("pubmed_rct", tmp_path / "dev.txt")
    done = built("pubmed_rct", tmp_path / "dev.txt", skip_bad=True)
    assert (done.left_out, by_split(done.rows, "validation") != []) == (2, True)
    bad = lines(tmp_path / "test.jsonl", [{"labels": 9, "text": "x", "uid": 1}, {"labels": 1, "text": "x", "uid": 1}])
    with pytest.raises(MnemonError, match="9 is not 0 to 4"):
        built("pubmed_rct", bad)
