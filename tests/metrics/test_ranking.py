"""Ranking scores: the pinned table and hand-computed cases."""

import pytest

from mnemon.metrics import (
    clean_title,
    edit_distance,
    entity_title,
    evidence_precision,
    evidence_recall,
    infbench_f1,
    joint_f1,
    listed_titles,
    ndcg,
    ndcg_lme,
    nearest_title,
    rank_recall,
    retr_all,
    retr_any,
    retr_frac,
    sp_f1,
)


@pytest.mark.parametrize(
    ("ranking", "k", "expected"),
    [
        ("AXBYZ", 1, (1, 0, 0.5, 1.0, 1.0)),
        ("AXBYZ", 2, (1, 0, 0.5, 0.5, 0.613)),
        ("AXBYZ", 3, (1, 1, 1.0, 0.815, 0.920)),
        ("XABYZ", 3, (1, 1, 1.0, 0.815, 0.693)),
        ("XYZAB", 3, (0, 0, 0.0, 0.0, 0.0)),
        ("XYZAB", 5, (1, 1, 1.0, 0.465, 0.501)),
        ("AAXB", 3, (1, 1, 1.0, 0.815, 0.920)),  # repeated units count once
    ],
)
def test_pinned(ranking: str, k: int, expected: tuple[float, ...]) -> None:
    found = [score(ranking, {"A", "B"}, k) for score in (retr_any, retr_all, retr_frac, ndcg_lme, ndcg)]
    assert found == pytest.approx(list(expected), abs=6e-4)


def test_evidence() -> None:
    assert evidence_recall(["D1:3", "D2:4"], ["D1:3", "D5:1"]) == 0.5
    assert evidence_recall(["D1:3"], []) is None
    assert evidence_precision(["D1:3", "D2:4", "D2:4"], ["D1:3"]) == 0.5
    assert evidence_precision([], ["D1:3"]) == 0
    assert evidence_precision(["D1:3"], []) is None


def test_titles() -> None:
    predicted = ["Heat", "Jaws", "Up", "Alien", "Her", "Big"]
    assert [rank_recall(predicted, {"Heat", "Alien"}, k) for k in (1, 5, 10)] == [0.5, 1, 1]
    assert [clean_title(t) for t in ("Heat (1995)", "2) Alien", "4. 12 Angry Men")] == ["Heat", "Alien", "12 Angry Men"]
    assert listed_titles("Top 11. picks:\n1. Heat (1995)\n\n2. Up") == ["picks:", "Heat", "Up"]
    assert listed_titles("Sure!\n1. Heat\n2) Up") == ["Heat", "Up"]
    entities = ["http://x/Heat_(1995_film)", "http://x/Spider-Man_2", "http://x/Face/Off"]
    assert [entity_title(e) for e in entities] == ["Heat", "Spider Man 2", "Off"]


def test_titles_are_mapped_to_the_nearest_known() -> None:
    assert [edit_distance(a, b) for a, b in (("", "abc"), ("kitten", "sitting"), ("heat", "heat"))] == [3, 3, 0]
    assert nearest_title("the Godfater", ["Heat", "The Godfather", "Alien"]) == "The Godfather"
    assert nearest_title("x", ["ab", "cd"]) == "ab"


def test_hotpot_and_infbench() -> None:
    assert sp_f1({("A", 0), ("B", 1)}, {("A", 0), ("B", 2)}) == 0.5
    assert joint_f1((0.5, 1.0), (0.5, 0.5)) == pytest.approx(1 / 3)
    assert sp_f1(set(), {("A", 0)}) == 0
    for fluency, recall, precision, expected in [
        (1, 4 / 7, 5 / 8, 0.597),
        (0, 4 / 7, 5 / 8, 0),
        (1, 2 / 19, 5 / 15, 0.160),
        (1, 3 / 10, 6 / 12, 0.375),
    ]:
        assert infbench_f1(fluency, recall, precision) == pytest.approx(expected, abs=6e-4)
