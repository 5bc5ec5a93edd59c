"""Credit: hand-computed values, a brute-force GAE, and the invariants of group statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.algos.advantages import (
    centered,
    gae,
    grpo,
    is_dead,
    leave_one_out,
    pooled_steps,
    positional_steps,
    scored,
    separate_steps,
    whiten,
)

rewards = st.lists(st.floats(-10, 10, allow_nan=False, width=32), min_size=1, max_size=10)


def test_grpo_by_hand() -> None:
    # one success of eight: mean 1/8, sample variance (49/64 + 7/64)/7 = 1/8
    advantages = grpo([1, 0, 0, 0, 0, 0, 0, 0], ddof=1, eps=0.0)
    assert advantages == pytest.approx([2.474874] + [-0.353553] * 7, abs=1e-6)


@pytest.mark.parametrize(("ddof", "size"), [(1, math.sqrt(0.5)), (0, 1.0)])
def test_grpo_two_members(ddof: int, size: float) -> None:
    assert grpo([1.0, 0.0], ddof=ddof, eps=0.0) == pytest.approx([size, -size])


def test_grpo_agemem_example() -> None:
    # arXiv 2601.01885: sample standard deviation 0.278014
    assert grpo([0.8, 0.7, 0.2, 0.75], eps=1e-6) == pytest.approx([0.6744, 0.3147, -1.4837, 0.4946], abs=1e-4)


def test_eps_is_added_to_the_standard_deviation() -> None:
    assert grpo([1.0, 0.0], ddof=0, eps=0.5) == pytest.approx([0.5, -0.5])


def test_centering_only() -> None:
    assert centered([1.0, 0.0, 0.5, 0.5]) == pytest.approx([0.5, -0.5, 0.0, 0.0])


def test_leave_one_out() -> None:
    # baseline of the first: (0 + 1)/2; of the second: (3 + 1)/2; of the third: (3 + 0)/2
    assert leave_one_out([3.0, 0.0, 1.0]) == pytest.approx([2.5, -2.0, -0.5])
    assert leave_one_out([3.0]) == pytest.approx([0.0])


def test_statistics_are_over_trajectories() -> None:
    # A has one row and reward 1, B three rows and reward 0: the baseline is 1/2, not 1/4
    assert centered([1.0, 0.0]) == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize("group", [[0.7], [0.1, 0.1, 0.1], [None, 2.0], [None, None], []])
def test_groups_that_teach_nothing(group: list[float | None]) -> None:
    assert is_dead(group)
    assert grpo(group, eps=0.0).tolist() == [0.0] * len(group)


def test_unscorable_members_leave_statistics_and_are_flagged() -> None:
    group = [1.0, None, 0.0, math.nan]
    assert grpo(group, eps=0.0) == pytest.approx([math.sqrt(0.5), 0.0, -math.sqrt(0.5), 0.0])
    assert scored(group).tolist() == [True, False, True, False]


@given(rewards, st.floats(-5, 5, width=32), st.booleans(), st.sampled_from([0, 1]))
def test_sum_and_shift(group: list[float], shift: float, scale: bool, ddof: int) -> None:
    advantages = grpo(group, ddof=ddof, scale=scale)
    assert abs(advantages.sum()) < 1e-6
    if max(group) - min(group) > 1e-3:
        moved = grpo([r + shift for r in group], ddof=ddof, scale=scale)
        np.testing.assert_allclose(moved, advantages, atol=1e-4)


@given(rewards, st.randoms())
def test_order_of_members_does_not_matter(group: list[float], random: object) -> None:
    order = np.random.default_rng(random.randint(0, 99)).permutation(len(group))  # type: ignore[attr-defined]
    np.testing.assert_allclose(grpo([group[i] for i in order]), grpo(group)[order], atol=1e-9)


def test_ddof_is_checked() -> None:
    with pytest.raises(ValueError, match="ddof"):
        grpo([1.0, 0.0], ddof=2)


def test_pooled_steps_by_hand() -> None:
    # values 1, 3 | 2, 2, 2: mean 2, sum of squares 2, sample variance 2/4
    first, second = pooled_steps([[1.0, 3.0], [2.0, 2.0, 2.0]], eps=0.0)
    assert first == pytest.approx([-math.sqrt(2), math.sqrt(2)])
    assert second == pytest.approx([0.0, 0.0, 0.0])


def test_pooled_steps_of_one_value() -> None:
    assert pooled_steps([[3.0]])[0] == pytest.approx([0.0])
    assert pooled_steps([[3.0]], singleton_raw=True)[0] == pytest.approx([3.0 / (1 + 1e-6)])
    assert pooled_steps([]) == []


def test_positional_steps_by_hand() -> None:
    first, second = positional_steps([[1.0, 5.0], [0.0]], ddof=0, eps=0.0)
    assert first == pytest.approx([1.0, 0.0])  # nobody else reached the second step
    assert second == pytest.approx([-1.0])


def brute_force_gae(r: list[float], v: list[float], gamma: float, lam: float) -> list[float]:
    n = len(r)
    delta = [r[t] + gamma * (v[t + 1] if t + 1 < n else 0.0) - v[t] for t in range(n)]
    return [sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)]


@given(
    st.lists(st.tuples(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32)), min_size=1, max_size=12),
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
)
def test_gae_is_the_double_sum(pairs: list[tuple[float, float]], gamma: float, lam: float) -> None:
    r, v = [p[0] for p in pairs], [p[1] for p in pairs]
    advantages, returns = gae(r, v, gamma, lam)
    np.testing.assert_allclose(advantages, brute_force_gae(r, v, gamma, lam), atol=1e-9)
    np.testing.assert_allclose(returns, advantages + np.array(v), atol=1e-9)


def test_gae_with_gamma_and_lambda_one_is_reward_to_go() -> None:
    advantages, returns = gae([0.0, 1.0, 2.0], [0.5, 0.25, 1.0])
    assert returns == pytest.approx([3.0, 3.0, 2.0])
    assert advantages == pytest.approx([2.5, 2.75, 1.0])


def test_gae_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="one sequence each"):
        gae([1.0], [1.0, 2.0])


def test_whiten() -> None:
    assert whiten([1.0, 3.0], eps=0.0) == pytest.approx([-1.0, 1.0])
    assert whiten([]).size == 0


def test_trajectory_and_step_terms_are_normalised_apart_and_added() -> None:
    """R (1, 0) ±.7071; place "x": means (2, 0) ±.7071, "y": (5) alone, adds 0; "z": equal, adds 0."""
    steps = [[1.0, 3.0, 5.0, 7.0], [0.0, 7.0]]
    found = separate_steps([1.0, 0.0], steps, [["x", "x", "y", "z"], ["x", "z"]], eps=0.0)
    half = 2**-0.5
    assert found[0] == pytest.approx([2 * half, 2 * half, half, half])
    assert found[1] == pytest.approx([-2 * half, -half])


def test_separate_steps_without_places_is_the_sum_of_its_parts() -> None:
    steps = [[1.0, 0.0], [0.0, 0.5], [0.5]]
    trajectory, by_step = grpo([0.2, 0.4, 0.9], eps=1e-6), positional_steps(steps)
    for i, values in enumerate(separate_steps([0.2, 0.4, 0.9], steps)):
        assert values == pytest.approx(trajectory[i] + by_step[i])
