"""Aggregators that a few sites cannot lead astray, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flpoc.aggregating import Aggregator
from flpoc.errors import ConfigError, IntegrityError
from flpoc.models.tensors import narrow, widen
from flpoc.plugins import Plugins

Aggregated = Callable[..., dict[str, Any]]


def made(name: str, **settings: Any) -> Aggregator:
    found = Plugins.load().create("aggregators", name, settings)
    assert isinstance(found, Aggregator)
    return found


def sites(count: int, dtype: str = "<f4", size: int = 300) -> list[dict[str, Any]]:
    rng = np.random.default_rng(count)
    numbers = rng.standard_normal((count, size)) * 100
    return [{"w": row.astype(dtype)} for row in numbers]


def plainly_trimmed(rows: list[list[float]], cut: int) -> list[float]:
    """Element by element: sort, cut both ends, add up, divide."""
    found = []
    for column in zip(*rows, strict=True):
        kept = sorted(column)[cut : len(column) - cut]
        found.append(math.fsum(kept) / len(kept))
    return found


def rows_of(models: list[dict[str, Any]]) -> list[list[float]]:
    return [[float(number) for number in one["w"]] for one in models]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_the_median_is_that_of_a_plain_loop(aggregated: Aggregated, count: int, dtype: str) -> None:
    models = sites(count, dtype)
    expected = np.array(plainly_trimmed(rows_of(models), (count - 1) // 2)).astype(dtype)
    assert np.array_equal(aggregated(made("median"), models)["w"], expected)
    assert np.array_equal(expected, np.median([one["w"].astype(float) for one in models], axis=0).astype(dtype))


@pytest.mark.parametrize(("count", "trim", "cut"), [(5, 0.2, 1), (10, 0.1, 1), (10, 0.3, 3), (4, 0.2, 0), (7, 0.49, 3)])
def test_the_trimmed_mean_is_that_of_a_plain_loop(aggregated: Aggregated, count: int, trim: float, cut: int) -> None:
    models = sites(count)
    expected = plainly_trimmed(rows_of(models), cut)
    assert aggregated(made("trimmed_mean", trim=trim), models)["w"] == pytest.approx(expected, rel=1e-6)


def plainly_chosen(rows: list[list[float]], byzantine: int, select: int) -> list[int]:
    """Algorithm of Blanchard et al., with a loop over all pairs."""
    scores = []
    for i, mine in enumerate(rows):
        apart = [sum((a - b) ** 2 for a, b in zip(mine, other, strict=True)) for j, other in enumerate(rows) if j != i]
        scores.append(sum(sorted(apart)[: len(rows) - byzantine - 2]))
    return sorted(sorted(range(len(rows)), key=lambda i: scores[i])[:select])


@pytest.mark.parametrize(("count", "byzantine"), [(3, 0), (5, 1), (7, 2), (9, 1)])
def test_krum_chooses_what_a_plain_loop_chooses(aggregated: Aggregated, count: int, byzantine: int) -> None:
    models = sites(count, size=40)
    [chosen] = plainly_chosen(rows_of(models), byzantine, 1)
    found = aggregated(made("krum", byzantine=byzantine), models, weights=[float(n + 1) for n in range(count)])
    assert found["w"].tobytes() == models[chosen]["w"].tobytes()


@pytest.mark.parametrize(("count", "byzantine", "select"), [(5, 1, 3), (7, 2, 5), (9, 1, 2)])
def test_multi_krum_is_the_mean_of_the_best(aggregated: Aggregated, count: int, byzantine: int, select: int) -> None:
    models = sites(count, size=40)
    chosen = plainly_chosen(rows_of(models), byzantine, select)
    expected = np.mean([models[place]["w"].astype(float) for place in chosen], axis=0)
    weights = [float(n + 1) for n in range(count)]
    found = aggregated(made("krum", byzantine=byzantine, select=select), models, weights=weights)
    assert found["w"] == pytest.approx(expected, rel=1e-6)


def test_distances_are_of_all_tensors_together_but_counters_have_no_say(aggregated: Aggregated) -> None:
    near = [{"a": np.float32([n, 0]), "b": np.float32([0]), "seen": np.int64([0])} for n in (0.0, 0.1, 0.2, 0.3)]
    near[1]["seen"] = np.int64([10**9])
    far = {"a": np.float32([0.1, 0]), "b": np.float32([50]), "seen": np.int64([0])}
    found = aggregated(made("krum", byzantine=1), [far, *near])
    assert found["seen"].tolist() == [10**9]
    assert found["a"].tolist() == pytest.approx([0.1, 0])


ROBUST: list[tuple[str, dict[str, Any]]] = [
    ("median", {}),
    ("trimmed_mean", {"trim": 0.2}),
    ("krum", {"byzantine": 1}),
    ("krum", {"byzantine": 1, "select": 3}),
]


@pytest.mark.parametrize("kind", ["FULL", "DIFF"])
@pytest.mark.parametrize("evil", [1e6, -1e30, 3.0])
def test_one_byzantine_site_moves_the_mean_and_not_the_robust_ones(
    aggregated: Aggregated, kind: str, evil: float
) -> None:
    rng = np.random.default_rng(5)
    honest = [{"w": (1 + 0.01 * rng.standard_normal(50)).astype("<f4")} for _ in range(4)]
    models = [honest[0], {"w": np.full(50, evil, "<f4")}, *honest[1:]]
    base = {"w": np.full(50, 2, "<f4")} if kind == "DIFF" else None
    right = 3 if kind == "DIFF" else 1
    weights = [1.0, 1000.0, 1.0, 1.0, 1.0]  # it claims a large weight, too
    moved = aggregated(made("mean"), models, weights=weights, base=base, kind=kind)["w"]
    assert (np.abs(moved - right) > 1).all()
    for name, settings in ROBUST:
        held = aggregated(made(name, **settings), models, weights=weights, base=base, kind=kind)["w"]
        assert (np.abs(held - right) < 0.05).all(), name


@pytest.mark.parametrize(("name", "settings"), ROBUST)
def test_changes_are_added_to_what_the_sites_received(
    aggregated: Aggregated, name: str, settings: dict[str, Any]
) -> None:
    changes, base = sites(5), sites(1)[0]
    change = aggregated(made(name, **settings), changes)["w"]
    found = aggregated(made(name, **settings), changes, base=base, kind="DIFF")["w"]
    assert found == pytest.approx(change.astype(float) + base["w"], rel=1e-5, abs=1e-5)


def test_every_dtype_has_a_sensible_median(aggregated: Aggregated) -> None:
    def model(number: int, *, mask: bool) -> dict[str, Any]:
        return {
            "half": narrow(np.float32([number / 8])),
            "count": np.int32([number]),
            "small": np.uint8([number + 200]),
            "large": np.int64([(1 << 60) + number]),
            "mask": np.array([mask]),
        }

    odd = [model(3, mask=True), model(1, mask=False), model(5, mask=False)]
    found = aggregated(made("median"), odd)
    assert found["half"].tolist() == [3 / 8]
    assert (found["count"], found["small"], found["large"]) == ([3], [203], [(1 << 60) + 3])
    assert found["mask"].tolist() == [True]
    even = aggregated(made("median"), [*odd, model(4, mask=False)])
    assert even["count"].tolist() == [4]  # 3.5, ties to even
    assert even["half"].tolist() == widen(narrow(np.float32([3.5 / 8]))).tolist()


def test_krum_says_how_many_sites_it_takes(aggregated: Aggregated) -> None:
    with pytest.raises(IntegrityError, match="4 updates; with byzantine = 1 it takes 5"):
        aggregated(made("krum", byzantine=1), sites(4))
    with pytest.raises(IntegrityError, match="select = 5 of 5 updates, of which 1 may be wrong"):
        aggregated(made("krum", byzantine=1, select=5), sites(5))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("trimmed_mean", {"trim": 0.5}, "trim: 0.5 is not between 0 and 0.5"),
        ("krum", {"byzantine": -1}, "byzantine must be between 0"),
        ("krum", {"select": 0}, "select must be between 1"),
        ("median", {"trim": 0.1}, "aggregator.median.trim: no such setting"),
    ],
)
def test_wrong_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(name, **settings)
