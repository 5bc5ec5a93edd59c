"""Rows: merging on exact token prefixes, placement of credit, padding and micro-batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.algos.advantages import gae
from mnemon.algos.losses import weights
from mnemon.train.batch import (
    Row,
    mask_truncated,
    micro_batches,
    ordered_steps,
    pad,
    place_gae,
    place_steps,
    place_trajectory,
    rows_from_trajectory,
)
from mnemon.types import Answer, Completion, Message, MnemonError, Probe, Step, Task, Trajectory, Turn

MakeRow = Callable[..., Row]


def step(
    prompt: tuple[int, ...], sampled: tuple[int, ...], role: str = "writer", probe: str = "", version: int = 0
) -> Step:
    completion = Completion(
        message=Message("assistant", "…"),
        prompt_ids=prompt,
        token_ids=sampled,
        logprobs=tuple(-0.5 * i for i in range(1, len(sampled) + 1)),
        finish="stop",
        policy_version=version,
    )
    return Step(role=role, messages=(), tools=(), completion=completion, probe=probe)


def trajectory(*steps: Step, reader: tuple[Step, ...] = ()) -> Trajectory:
    answers = [Answer(Probe("q", "?", ("a",)), "a", Turn("a", (s,))) for s in reader]
    return Trajectory(Task("task", ()), member=3, steps=list(steps), answers=answers)


def test_a_grown_context_is_one_row() -> None:
    got = rows_from_trajectory(
        trajectory(step((1, 2), (3, 4), version=7), step((1, 2, 3, 4, 9), (5,), version=8)), {"writer"}, "print"
    )
    assert len(got) == 1
    (r,) = got
    assert r.input_ids.tolist() == [1, 2, 3, 4, 9, 5]
    assert r.loss_mask.tolist() == [0, 0, 1, 1, 0, 1]
    assert r.old_logprobs.tolist() == [0, 0, -0.5, -1.0, 0, -0.5]
    assert (r.step_indices, r.spans, r.policy_version) == ((0, 1), ((2, 4), (5, 6)), (7, 8))
    assert (r.task_id, r.trajectory_id, r.fingerprint, r.agent) == ("task", "task#3", "print", "writer")


@pytest.mark.parametrize(
    "later",
    [
        (1, 2, 3, 8, 9),  # a sampled token was changed
        (1, 7, 3, 4, 9),  # the prompt was edited
        (1, 2, 3),  # the context was cut
        (4, 9),
    ],
)
def test_an_edited_context_starts_a_row(later: tuple[int, ...]) -> None:
    got = rows_from_trajectory(trajectory(step((1, 2), (3, 4)), step(later, (5, 6))), ["writer"])
    assert [r.step_indices for r in got] == [(0,), (1,)]
    assert [r.context_index for r in got] == [0, 1]
    assert got[1].input_ids.tolist() == [*later, 5, 6]


def test_a_row_can_go_on_without_glue() -> None:
    (r,) = rows_from_trajectory(trajectory(step((1,), (2,)), step((1, 2), (3,))), ["writer"])
    assert r.spans == ((1, 2), (2, 3))


def test_frozen_roles_give_no_rows_and_indices_stay() -> None:
    steps = trajectory(
        step((1,), (2,), role="extractor"),
        step((1,), (3,)),
        step((5,), (6,), role="extractor"),
        step((1, 3), (4,)),
        reader=(step((7,), (8,), role="reader", probe="q"),),
    )
    (writer,) = rows_from_trajectory(steps, {"writer"})
    assert writer.step_indices == (1, 3)
    (reader,) = rows_from_trajectory(steps, {"reader"})
    assert (reader.step_indices, reader.probe) == ((4,), "q")
    assert len(rows_from_trajectory(steps, {"writer", "reader"})) == 2
    assert ordered_steps(steps)[4].role == "reader"


def test_probes_never_share_a_row() -> None:
    reader = (step((1,), (2,), "reader", "q1"), step((1, 2), (3,), "reader", "q2"))
    assert len(rows_from_trajectory(trajectory(reader=reader), {"reader"})) == 2


def test_a_completion_without_ids_cannot_be_trained_on() -> None:
    with pytest.raises(MnemonError, match="no token ids"):
        rows_from_trajectory(trajectory(step((), ())), ["writer"])
    bare = Completion(Message("assistant", ""), (1,), (2, 3), (-0.1,))
    with pytest.raises(MnemonError, match="log-probs"):
        rows_from_trajectory(trajectory(Step("writer", (), (), bare)), ["writer"])


def test_row_shapes_are_checked(row: MakeRow) -> None:
    with pytest.raises(MnemonError, match="loss_mask"):
        Row("t", "t#0", np.arange(3), np.ones(2, np.uint8), np.zeros(3, np.float32))
    with pytest.raises(MnemonError, match="prompt token"):
        Row("t", "t#0", np.arange(3), np.ones(3, np.uint8), np.zeros(3, np.float32))


def test_place_trajectory_and_steps(row: MakeRow) -> None:
    r = row("a#0", [0, 1, 1, 0, 1])
    place_trajectory([r], {"a#0": -2.0})
    assert r.advantages is not None
    assert r.advantages.tolist() == [0, -2, -2, 0, -2]
    place_steps([r], {"a#0": [0.5, 3.0]})
    assert r.advantages.tolist() == [0, 0.5, 0.5, 0, 3]


def test_gae_runs_across_contexts(row: MakeRow) -> None:
    first, second = row("a#0", [0, 1, 1, 0, 1]), row("a#0", [0, 0, 1, 1], context=1)
    second.step_indices = (2,)
    first.values = np.array([9, 0.1, 0.2, 9, 0.3], np.float32)
    second.values = np.array([9, 9, 0.4, 0.5], np.float32)
    place_gae([second, first], {0: 1.0, 2: -1.0}, terminal=2.0, gamma=0.9, lam=0.8)  # any order of rows
    advantages, returns = gae([0, 1, 0, 0, -1 + 2], [0.1, 0.2, 0.3, 0.4, 0.5], 0.9, 0.8)
    assert first.advantages is not None
    assert second.advantages is not None
    assert second.returns is not None
    assert first.advantages.tolist() == pytest.approx([0, *advantages[:2], 0, advantages[2]])
    assert second.advantages.tolist() == pytest.approx([0, 0, *advantages[3:]])
    assert second.returns.tolist() == pytest.approx([0, 0, *returns[3:]])


def test_gae_needs_values_of_one_trajectory(row: MakeRow) -> None:
    with pytest.raises(MnemonError, match="values"):
        place_gae([row("a#0", [0, 1])], {}, 1.0)
    with pytest.raises(MnemonError, match="one trajectory"):
        place_gae([row("a#0", [0, 1]), row("a#1", [0, 1])], {}, 1.0)


def test_truncation_masks_the_loss_only(row: MakeRow) -> None:
    r, other = row("a#0", [0, 1, 1, 0, 1]), row("a#1", [0, 1, 1])
    r.finishes = ("stop", "length")
    assert r.advantages is not None
    before = r.advantages.copy()
    r.weight, other.weight = weights([r, other])
    assert mask_truncated([r, other]) == 1
    np.testing.assert_array_equal(r.advantages, before)
    assert r.weight.tolist() == pytest.approx([0, 1 / 6, 1 / 6, 0, 0])  # the denominator is unchanged
    assert other.weight.tolist() == pytest.approx([0, 1 / 4, 1 / 4])
    r.weight = None
    with pytest.raises(MnemonError, match=r"row\.weight"):
        mask_truncated([r])


def test_pad_by_hand(row: MakeRow) -> None:
    a, b = row("a#0", [0, 0, 1]), row("b#0", [0, 1, 1, 0, 1], seed=1)
    batch = pad([a, b], [np.full(3, 0.5), np.arange(5)])
    assert batch.input_ids.tolist() == [[*a.input_ids, 0], b.input_ids[:4].tolist()]  # last tokens predict nothing
    assert batch.index.tolist() == [1, 4, 5, 7]
    assert batch.targets.tolist() == [a.input_ids[2], b.input_ids[1], b.input_ids[2], b.input_ids[4]]
    assert batch.columns["weight"].tolist() == [0.5, 1, 2, 4]
    assert "ref_logprobs" not in batch.columns
    a.ref_logprobs = np.zeros(3, np.float32)
    assert "ref_logprobs" not in pad([a, b]).columns  # one row lacks it


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 120))
def test_micro_batches_cover_all_rows_within_the_budget(lengths: list[int], budget: int) -> None:
    made = [
        Row(f"t{i}", f"t{i}#0", np.zeros(n, int), np.array([0] + [1] * (n - 1), np.uint8), np.zeros(n, np.float32))
        for i, n in enumerate(lengths)
    ]
    cuts = micro_batches(made, budget)
    assert sorted(i for cut in cuts for i in cut) == list(range(len(lengths)))
    for cut in cuts:
        assert len(cut) == 1 or len(cut) * max(lengths[i] for i in cut) <= budget
