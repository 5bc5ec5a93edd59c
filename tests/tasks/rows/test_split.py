"""Splits by document and by label; leaks between splits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.tasks.rows import Chunk, Chunker, Question, Row, Said, Segment, leaks, split_documents, split_labels
from mnemon.tasks.rows.build.common import divide
from mnemon.tasks.rows.split import deal_documents


@pytest.mark.parametrize(("n", "train"), [(294, 264), (2185, 1966), (31, 27), (1542, 1387), (1, 1), (2, 1)])
def test_nine_tenths_rounded_down_are_train(n: int, train: int) -> None:
    split = split_documents(str(i) for i in range(n))
    assert len(split) == n
    assert sum(value == "train" for value in split.values()) == train


def test_a_split_knows_no_order_of_the_file() -> None:
    names = [f"article {i}" for i in range(50)]
    assert split_documents(names) == split_documents(reversed(names)) == split_documents(names * 2)
    assert split_documents(names) != split_documents(names, seed=1)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(150, (120, 15, 15)), (77, (63, 7, 7)), (64, (52, 6, 6)), (50, (40, 5, 5)), (6, (4, 0, 2)), (3, (0, 0, 3))],
)
def test_labels_belong_to_one_split(n: int, sizes: tuple[int, int, int]) -> None:
    dealt = split_labels(str(i) for i in range(n))
    assert tuple(len(dealt[name]) for name in ("train", "validation", "test")) == sizes  # type: ignore[index]
    assert len({label for labels in dealt.values() for label in labels}) == n


@given(
    st.dictionaries(st.text("ab", max_size=6), st.lists(st.sampled_from("vwxyz"), max_size=3), min_size=1, max_size=20),
    st.sets(st.sampled_from("nopq")),
)
def test_divided_questions_share_no_document(evidence: dict[str, list[str]], others: set[str]) -> None:
    kept, owners = divide(evidence, others)
    for question, split in kept.items():
        assert all(owners[name] == split for name in evidence[question])
    assert all(split == "train" for q, split in split_documents(evidence).items() if q not in kept)
    assert others <= set(owners)


# ── leaks ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TEXT = "It was a bright cold day in April and all the clocks of the town were striking when she left the house. "


def row(name: str, split: str, text: str, **changes: Any) -> Row:
    segment = Segment("s", "text", text)
    made = Row(
        id=name,
        source="ours",
        dimension="accurate_retrieval",
        split=split,
        license="ours",
        segments=(segment,),
        probes=(Question("q", f"What of {name}?", ("x",)),),
        chunks=(Chunk("c0", f"[Head {name}]\n{text}", ("s",), tokens=1),),
        chunker=Chunker("given", "words"),
        metadata={"documents": [f"doc {name}"]},
    )
    return replace(made, **changes)


def said(rows: list[Row], near: float = 0.8) -> list[str]:
    return [str(leak) for leak in leaks(rows, near)]


def other_text(seed: int) -> str:
    return " ".join(f"word{seed}x{i}" for i in range(40))


def test_nothing_shared_is_no_leak() -> None:
    rows = [row("a", "train", other_text(1)), row("b", "test", other_text(2)), row("c", "test", other_text(3))]
    assert said(rows) == []


def test_the_same_split_may_share() -> None:
    assert said([row("a", "train", TEXT), row("b", "train", TEXT, metadata={"documents": ["doc a"]})]) == []


@pytest.mark.parametrize(("n", "sizes"), [(3, (1, 1, 1)), (10, (8, 1, 1)), (48, (43, 2, 3)), (100, (90, 5, 5))])
def test_documents_dealt_to_three_splits(n: int, sizes: tuple[int, int, int]) -> None:
    dealt = deal_documents([f"d{i}" for i in range(n)] * 2)
    assert tuple(list(dealt.values()).count(split) for split in ("train", "validation", "test")) == sizes
    assert dealt == deal_documents([f"d{i}" for i in reversed(range(n))])
    assert n < 10 or dealt != deal_documents(dealt, seed=1)


def test_a_document_in_two_splits() -> None:
    rows = [row("b", "test", other_text(2), metadata={"documents": ["doc a"]}), row("a", "train", other_text(1))]
    assert said(rows) == ["document 'doc a' is in train (row a) and test (row b)"]
    assert said([replace(rows[0], source="theirs"), rows[1]]) == []


def test_a_question_in_two_splits() -> None:
    asked = Question("q", "Where was it?", ("Rome",))
    rows = [row("a", "train", other_text(1), probes=(asked,)), row("b", "test", other_text(2))]
    again = replace(asked, question="where was it", scorers=("f1_squad",))
    assert said([rows[0], replace(rows[1], probes=(again,), source="theirs")]) == [
        "question 'Where was it?' is in train (row a) and test (row b)"
    ]
    assert said([rows[0], replace(rows[1], probes=(replace(again, answers=("Oslo",)),))]) == []


def test_a_sentence_shown_in_one_split_and_asked_in_another() -> None:
    turns = (Said("e0", "example", "other", "Sentence: Play jazz!\nLabel: 1", {"text": "Play jazz!"}),)
    shown = row("a", "train", "", segments=(Segment("s", "examples", turns=turns),), chunks=())
    asked = Question("q", "play jazz", ("1",), "label", scorers=("label",))
    (found,) = leaks([shown, row("b", "test", other_text(1), probes=(asked,))])
    assert (found.what, found.rows) == ("question", ("a", "b"))
    assert said([shown, row("b", "test", "", segments=shown.segments, chunks=())]) == []


def test_a_label_in_two_splits() -> None:
    rows = [row("a", "train", other_text(1)), row("b", "validation", other_text(2))]
    rows = [replace(r, metadata={**r.metadata, "labels": {str(i): "play_music"}}) for i, r in enumerate(rows)]
    assert said(rows) == ["labels 'play_music' is in train (row a) and validation (row b)"]
    assert said([replace(r, metadata={**r.metadata, "labels_shared": True}) for r in rows]) == []


def test_nearly_the_same_text() -> None:
    long = " ".join(f"{TEXT} number {i}" for i in range(20))
    rows = [row("a", "train", long), row("b", "test", long.replace("number 7", "number eight"))]
    assert said(rows) == ["chunk 'a/c0' is in train (row a) and test (row b)"]
    assert said([rows[0], row("b", "test", long[: len(long) // 3])]) == []
    assert said([rows[0], row("b", "test", long[: len(long) // 3])], near=0.25) != []
