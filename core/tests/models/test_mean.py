"""Laws of the weighted mean."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.aggregating import Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import BFLOAT16, TensorFile, narrow, widen, write_tensors
from flpoc.workflows.mean import BLOCK, WeightedMean

RNG_SEED = 11


def mean_of(
    folder: Path,
    arrays: Sequence[Any],
    weights: Sequence[float] | None = None,
    *,
    base: Any = None,
    kinds: Sequence[str] = (),
) -> Any:
    """The mean of one tensor from several sites."""
    with contextlib.ExitStack() as stack:
        updates = []
        for place, array in enumerate(arrays):
            write_tensors(folder / f"{place}", {"w": array})
            model = stack.enter_context(TensorFile.open(folder / f"{place}"))
            weight = weights[place] if weights else 1.0
            updates.append(Update(f"site-{place + 1}", weight, model, kinds[place] if kinds else "FULL"))
        if base is not None:
            write_tensors(folder / "base", {"w": base})
            base = stack.enter_context(TensorFile.open(folder / "base"))
        try:
            WeightedMean().aggregate(updates, base, folder / "result")
            with TensorFile.open(folder / "result") as result:
                return np.array(result["w"])
        finally:
            for path in folder.iterdir():
                path.unlink()


def normal(seed: int, dtype: str = "<f4", size: int = 1000) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) * np.exp(rng.uniform(-20, 20, size))).astype(dtype)


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_it_is_the_exact_mean_rounded_once(tmp_path: Path, dtype: str) -> None:
    arrays = [np.random.default_rng(seed).standard_normal(300).astype(dtype) for seed in range(5)]
    weights = [3.0, 17.0, 0.25, 100.0, 1.0]
    found = mean_of(tmp_path, arrays, weights)
    total = sum(map(Fraction, weights))
    for place in range(300):
        terms = zip(weights, arrays, strict=True)
        exact = sum(Fraction(w) * Fraction(float(array[place])) for w, array in terms) / total
        ulp = Fraction(float(np.spacing(np.abs(found[place]))))
        assert abs(Fraction(float(found[place])) - exact) <= ulp * Fraction(501, 1000)


def test_doubles_are_near_the_exact_mean(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(seed).random(300) for seed in range(5)]
    weights = [3.0, 17.0, 0.25, 100.0, 1.0]
    found = mean_of(tmp_path, arrays, weights)
    for place in range(300):
        terms = zip(weights, arrays, strict=True)
        exact = sum(Fraction(w) * Fraction(float(array[place])) for w, array in terms) / sum(map(Fraction, weights))
        assert abs(Fraction(float(found[place])) / exact - 1) < Fraction(8, 1 << 53)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<i4", "<i8", "<u8", "?"])
@pytest.mark.parametrize("weight", [1.0, 3.0, 0.1, 123456789.0])
def test_one_update_comes_out_bit_by_bit(tmp_path: Path, dtype: str, weight: float) -> None:
    array = np.random.default_rng(3).standard_normal(2000).astype(dtype)
    if dtype == "<f4":
        array = np.random.default_rng(3).integers(0, 1 << 32, 2000, dtype="<u4").view("<f4")
        array = np.where(np.isfinite(array), array, np.float32(-0.0)).astype("<f4")
    assert mean_of(tmp_path, [array], [weight]).tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<i4", "<i8", "?"])
def test_equal_updates_give_that_update(tmp_path: Path, dtype: str) -> None:
    array = (np.random.default_rng(3).standard_normal(2000) * 100).astype(dtype)
    assert mean_of(tmp_path, [array] * 3, [3.0, 0.7, 11.0]).tobytes() == array.tobytes()


def test_whole_numbers_beyond_doubles_survive_when_sites_agree(tmp_path: Path) -> None:
    array = np.array([(1 << 53) + 1, -(1 << 63), (1 << 63) - 1, 7], dtype="<i8")
    assert mean_of(tmp_path, [array, array], [1.0, 2.0]).tolist() == array.tolist()


def test_the_order_of_equal_weights_hardly_matters(tmp_path: Path) -> None:
    arrays = [normal(seed) for seed in range(4)]
    results = [mean_of(tmp_path, order) for order in itertools.permutations(arrays)]
    for result in results:
        scale = np.maximum.reduce([np.abs(array) for array in arrays])
        assert (np.abs(result - results[0]) <= scale * 1e-6).all()


def test_weights_count_only_relative_to_each_other(tmp_path: Path) -> None:
    arrays = [normal(seed) for seed in range(3)]
    once = mean_of(tmp_path, arrays, [1.0, 2.0, 5.0])
    assert mean_of(tmp_path, arrays, [4.0, 8.0, 20.0]).tobytes() == once.tobytes()


def test_a_site_with_twice_the_weight_counts_as_two(tmp_path: Path) -> None:
    one, two = np.float32([1, 2, 3]), np.float32([4, 8, 6])
    assert mean_of(tmp_path, [one, two], [1.0, 2.0]).tolist() == [3, 6, 5]
    assert mean_of(tmp_path, [one, two, two]).tolist() == [3, 6, 5]


def test_the_sum_is_taken_in_double_precision(tmp_path: Path) -> None:
    arrays = [np.float32([2**25]), *(np.float32([1.0]) for _ in range(7))]
    assert mean_of(tmp_path, arrays).tolist() == [np.float32((2**25 + 7) / 8)]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_blocks_do_not_show(tmp_path: Path, size: int) -> None:
    arrays = [np.random.default_rng(seed).standard_normal(size, dtype=np.float32) for seed in range(2)]
    expected = ((arrays[0].astype("f8") * 3.0 + arrays[1].astype("f8") * 5.0) / 8.0).astype("f4")
    assert mean_of(tmp_path, arrays, [3.0, 5.0]).tobytes() == expected.tobytes()


def test_bfloat16_is_averaged_wide_and_rounded_once(tmp_path: Path) -> None:
    arrays = [narrow(np.random.default_rng(seed).standard_normal(500).astype("<f4")) for seed in range(3)]
    expected = narrow((sum(widen(array).astype("f8") for array in arrays) / 3).astype("<f4"))
    found = mean_of(tmp_path, arrays)
    assert found.dtype == BFLOAT16
    assert found.tobytes() == expected.tobytes()


def test_whole_numbers_are_the_rounded_mean(tmp_path: Path) -> None:
    arrays = [np.int64([1, 1, 0, -3, 10]), np.int64([2, 2, 1, -4, 20]), np.int64([2, 6, 0, -4, 40])]
    assert mean_of(tmp_path, arrays).tolist() == [2, 3, 0, -4, 23]


def test_whole_numbers_never_wrap_around(tmp_path: Path) -> None:
    top = np.iinfo("<i8").max
    assert mean_of(tmp_path, [np.int64([top, top]), np.int64([top - 1, top])]).min() > top - 2048
    assert mean_of(tmp_path, [np.uint8([255, 0])] * 2, base=np.uint8([255, 7]), kinds=["DIFF"] * 2).tolist() == [255, 7]


def test_truth_values_are_those_of_the_first_site(tmp_path: Path) -> None:
    assert mean_of(tmp_path, [np.array([True, False]), np.array([False, False])]).tolist() == [True, False]


def test_changes_are_added_to_the_received_model(tmp_path: Path) -> None:
    changes = [np.float32([1, 2]), np.float32([3, -6])]
    found = mean_of(tmp_path, changes, [1.0, 3.0], base=np.float32([10, 20]), kinds=["DIFF", "DIFF"])
    assert found.tolist() == [12.5, 16.0]


def test_a_change_of_truth_values_is_what_differs(tmp_path: Path) -> None:
    base, change = np.array([True, True, False]), np.array([False, True, True])
    assert mean_of(tmp_path, [change], base=base, kinds=["DIFF"]).tolist() == [True, False, True]


def test_a_model_given_whole_does_not_depend_on_the_received_one(tmp_path: Path) -> None:
    arrays = [normal(1), normal(2)]
    assert mean_of(tmp_path, arrays, base=normal(3)).tobytes() == mean_of(tmp_path, arrays).tobytes()


@pytest.mark.row("J6")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
def test_the_site_the_tensor_and_the_element_of_a_nan_are_named(tmp_path: Path, value: float, place: int) -> None:
    arrays = [np.zeros(2 * BLOCK + 9, dtype="<f4") for _ in range(3)]
    arrays[1][place] = value
    with pytest.raises(IntegrityError, match=rf"site-2: tensor 'w' .*element {place} of") as refusal:
        mean_of(tmp_path, arrays)
    assert refusal.value.data == {"site": "site-2", "tensor": "w"}


def test_infinities_that_cancel_out_are_found(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="site-1"):
        mean_of(tmp_path, [np.float32([np.inf]), np.float32([-np.inf])])


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_a_sum_that_is_too_large_for_the_dtype_is_refused(tmp_path: Path, dtype: str) -> None:
    largest = np.array([np.finfo(dtype).max], dtype=dtype)
    with pytest.raises(IntegrityError, match="too large for"):
        mean_of(tmp_path, [largest], base=largest, kinds=["DIFF"])


def test_large_values_do_not_overflow_on_the_way(tmp_path: Path) -> None:
    largest = np.array([np.finfo("<f4").max], dtype="<f4")
    assert mean_of(tmp_path, [largest] * 5, [1e30] * 5).tolist() == largest.tolist()


def test_models_and_changes_in_one_round_are_refused_naming_the_sites(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"\(DIFF\): site-2; .*\(FULL\): site-1, site-3"):
        mean_of(tmp_path, [np.float32([1])] * 3, base=np.float32([1]), kinds=["FULL", "DIFF", "FULL"])


def test_a_change_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"site-1: .*no model"):
        mean_of(tmp_path, [np.float32([1])], kinds=["DIFF"])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_weight_that_is_none_is_refused_naming_the_site(tmp_path: Path, weight: float) -> None:
    with pytest.raises(IntegrityError, match="site-2: weight"):
        mean_of(tmp_path, [np.float32([1])] * 2, [1.0, weight])


@pytest.mark.row("J6")
def test_other_tensors_are_refused_naming_site_and_tensor(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"site-2: .*'w': shape"):
        mean_of(tmp_path, [np.float32([1]), np.float32([1, 2])])
    with pytest.raises(IntegrityError, match=r"site-1: .*'w': dtype"):
        mean_of(tmp_path, [np.float32([1])], base=np.float64([1]), kinds=["DIFF"])


def test_no_updates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no updates"):
        WeightedMean().aggregate([], None, tmp_path / "result")


def test_a_model_of_40_mb_takes_a_few_megabytes(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        updates = []
        for site in ("a", "b", "c"):
            write_tensors(tmp_path / site, {"w": np.full(10_000_000, 1.5, dtype="<f4")})
            updates.append(Update(site, 1.0, stack.enter_context(TensorFile.open(tmp_path / site))))
        before = _anonymous_bytes()
        tracemalloc.start()
        try:
            WeightedMean().aggregate(updates, None, tmp_path / "result")
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
        assert _anonymous_bytes() - before < 8 << 20


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    pytest.skip("this kernel does not tell anonymous memory")
