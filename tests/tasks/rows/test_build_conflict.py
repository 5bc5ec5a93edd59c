"""Facts that correct each other, and large JSON lists."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_shapes import built, by_split, dump, lines, remarks

from mnemon.tasks.rows import Row, leaks
from mnemon.tasks.rows.build.common import Source, read_records
from mnemon.types import MnemonError


def facts(people: int = 60) -> list[dict[str, Any]]:
    """Everybody's employer (another one of them) and city."""
    form = {"statement": "{subject} works for {object}.", "question": "Whom does {subject} work for?"}
    employer = [
        {"subject": f"P{i}", "relation": "employer", "object": f"P{(i * 7 + 1) % people}"} | form for i in range(people)
    ]
    return employer + [{"subject": f"P{i}", "relation": "city", "object": f"C{i % 9}"} for i in range(people)]


def held(row: Row) -> dict[tuple[str, str], list[str]]:
    """What a row tells, oldest first: (subject, relation) -> objects. Read back from the text."""
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    serials = []
    for line in (line for chunk in row.chunks for line in chunk.text.splitlines()[2:-1]):
        number, _, text = line.partition(". ")
        serials.append(int(number))
        if " works for " in text:
            subject, _, name = text.rstrip(".").partition(" works for ")
            told[subject, "employer"].append(name)
        else:
            subject, _, name = text.removeprefix("The city of ").rstrip(".").partition(" is ")
            told[subject, "city"].append(name)
    assert serials == list(range(len(serials)))
    return told


def test_the_newest_fact_is_the_answer(tmp_path: Path) -> None:
    done = built("conflict", lines(tmp_path / "facts.jsonl", facts()), chunk_tokens=80, row_chunks=8)
    assert by_split(done.rows, "validation")
    hops: set[str] = set()
    corrected = 0
    for row in done.rows:
        told = held(row)
        assert all(len(objects) in (1, 2) and len(set(objects)) == len(objects) for objects in told.values())
        corrected += sum(len(objects) == 2 for objects in told.values())
        for probe in row.probes:
            hops.add(probe.category)
            if probe.category == "single_hop" and probe.question.startswith("Whom does P"):
                subject = probe.question.split()[2]
                assert probe.answers == (told[subject, "employer"][-1],)
                assert probe.meta["corrected"] == (len(told[subject, "employer"]) == 2)
            elif probe.category == "multi_hop" and probe.question.startswith("What is the city of the employer of "):
                subject = probe.question.removesuffix("?").split()[-1]
                assert probe.answers == (told[told[subject, "employer"][-1], "city"][-1],)
            inside = " ".join(s.text for s in row.segments if s.id in probe.evidence)
            assert probe.answers[0] in inside
    assert hops == {"single_hop", "multi_hop"}
    assert 30 < corrected < 90  # half of 120
    assert {row.dimension for row in done.rows} == {"conflict_resolution"}
    assert [leak for leak in leaks(done.rows) if leak.what == "document"] == []
    assert done.rows == built("conflict", dump(tmp_path / "facts.json", facts()), chunk_tokens=80, row_chunks=8).rows


def test_malformed_facts(tmp_path: Path) -> None:
    good = facts(4)
    bad = [good[0], good[1] | {"subject": ""}, good[1] | {"relation": "x", "statement": "{object} only"}, "text"]
    done = built("conflict", lines(tmp_path / "facts.jsonl", good + bad), skip_bad=True)
    assert remarks(done) == [
        "the employer of P0 is given twice: fact left out",
        "is blank: fact left out",
        "has no {subject}: fact left out",
        "is 'text', not an object: fact left out",
    ]


def test_a_fact_is_never_cut(tmp_path: Path) -> None:
    long = {"subject": "A", "relation": "story", "object": "very " * 80}
    with pytest.raises(MnemonError, match="a fact has 86 tokens"):
        built("conflict", dump(tmp_path / "facts.json", [long]), chunk_tokens=60)


# ── large lists ──────────────────────────────────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=40)
@given(st.lists(json_values, max_size=4), st.sampled_from([None, 1]))
def test_a_list_is_read_element_by_element(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], indent: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / "list.json"
    file.write_text("\ufeff \n" * (indent or 0) + json.dumps(values, indent=indent) + "\n", encoding="utf-8")
    assert [value for _, value in read_records(Source((file,)), file, "values")] == values


@pytest.mark.parametrize("text", ["[1, 2", "[1 2]", "[1,]", "[1] x", "", "[", "[1}"])
def test_a_list_that_is_cut_short(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(MnemonError, match="is not a JSON file"):
        list(read_records(Source((tmp_path / "list.json",)), tmp_path / "list.json", "values"))
