"""What every aggregator must keep, whatever it computes."""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from flpoc.aggregating import Aggregator, Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import BFLOAT16, TensorFile, checksum_file, narrow, widen, write_tensors

Arrays = dict[str, Any]

_MIB = 1 << 20


class AggregatorSuite:
    """Tests of an aggregator; a subclass gives the fixture ``aggregator``.

    Attributes:
        fewest: The smallest number of updates that it works with.
        takes_changes: Whether it takes changes (``params_type`` DIFF), too.
        growth: Bytes of memory by which 16 sites may cost more than ``fewest`` do; the model has 8 MiB.
    """

    fewest: ClassVar[int] = 1
    takes_changes: ClassVar[bool] = True
    growth: ClassVar[int] = 16 * _MIB

    @pytest.fixture
    def aggregator(self) -> Aggregator:
        raise NotImplementedError("a subclass of AggregatorSuite gives the fixture `aggregator`")

    def test_writes_a_file_with_the_same_tensors(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """The result is a sound file; names, shapes and dtypes are those of the updates."""
        with _round(tmp_path, _models(max(self.fewest, 3))) as (updates, base):
            aggregator.aggregate(updates, base, tmp_path / "result")
            with TensorFile.open(tmp_path / "result") as result:
                assert updates[0].model.header.same_layout(result.header) == ""
                for name in result.names:
                    assert bool(np.isfinite(_numbers(result[name])).all()), f"{name} is not finite"

    def test_works_with_the_fewest_updates(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """A small quorum is a round like any other."""
        with _round(tmp_path, _models(self.fewest)) as (updates, base):
            aggregator.aggregate(updates, base, tmp_path / "result")
            with TensorFile.open(tmp_path / "result") as result:
                assert updates[0].model.header.same_layout(result.header) == ""

    def test_works_in_a_first_round_without_a_model(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """Without an initial model the sites start from their own."""
        with _round(tmp_path, _models(max(self.fewest, 2))) as (updates, _):
            aggregator.aggregate(updates, None, tmp_path / "result")
            assert (tmp_path / "result").is_file()

    def test_leaves_its_inputs_as_they_are(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """Others read the same updates: files, mapped arrays, metrics and meta stay."""
        with _round(tmp_path, _models(max(self.fewest, 3))) as (updates, base):
            inputs = [base, *(update.model for update in updates)]
            files = sorted(tmp_path.glob("*.safetensors"))
            before = _seen(inputs), [checksum_file(file) for file in files], _words(updates)
            aggregator.aggregate(updates, base, tmp_path / "result")
            assert before == (_seen(inputs), [checksum_file(file) for file in files], _words(updates))

    def test_gives_the_same_bits_again(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """The same updates in the same order give the same file, byte by byte."""
        again = copy.deepcopy(aggregator)
        with _round(tmp_path, _models(max(self.fewest, 3))) as (updates, base):
            aggregator.aggregate(updates, base, tmp_path / "first")
            again.aggregate(updates, base, tmp_path / "second")
        assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()

    @pytest.mark.parametrize("dtype", ["F32", "BF16"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_refuses_what_cannot_be_averaged(
        self, aggregator: Aggregator, tmp_path: Path, value: float, dtype: str
    ) -> None:
        """NaN or infinity anywhere is refused, the site and the tensor are named, and no file is left."""
        models = _models(max(self.fewest, 3))
        name = "layer.weight" if dtype == "F32" else "half.weight"
        _spoil(models[1], name, value)
        with _round(tmp_path, models) as (updates, base), pytest.raises(IntegrityError) as refusal:
            aggregator.aggregate(updates, base, tmp_path / "result")
        assert "site-2" in refusal.value.message, "the site is not named"
        assert name in refusal.value.message, "the tensor is not named"
        assert not (tmp_path / "result").exists(), "a refused round leaves a file"

    def test_no_change_leaves_the_model_as_it_was(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """Changes (DIFF) that are all zero give the received model."""
        if not self.takes_changes:
            pytest.skip("takes models only")
        zeros = [{name: np.zeros_like(value) for name, value in _model(9).items()} for _ in range(max(self.fewest, 2))]
        with _round(tmp_path, zeros, params_type="DIFF") as (updates, base):
            aggregator.aggregate(updates, base, tmp_path / "result")
            with TensorFile.open(tmp_path / "result") as result:
                for name in result.names:
                    near = np.allclose(_numbers(result[name]), _numbers(base[name]), rtol=1e-6, atol=1e-6)
                    assert near, f"{name} has changed"

    def test_memory_does_not_grow_with_the_number_of_sites(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """Sixteen sites take about as much memory as the fewest."""
        again = copy.deepcopy(aggregator)
        model = {"layer.weight": np.random.default_rng(7).standard_normal((1024, 2048), dtype=np.float32)}
        with _round(tmp_path, [model]) as (updates, base):
            few = _peak(aggregator, _repeated(updates[0], self.fewest), base, tmp_path / "few")
            many = _peak(again, _repeated(updates[0], 16), base, tmp_path / "many")
        assert many - few <= self.growth, f"16 sites take {(many - few) / _MIB:.0f} MiB more than {self.fewest}"

    def test_goes_on_from_its_state_after_a_restart(self, aggregator: Aggregator, tmp_path: Path) -> None:
        """A new one that takes up the state gives the same next round."""
        restarted = copy.deepcopy(aggregator)
        with _round(tmp_path, _models(max(self.fewest, 2))) as (updates, base):
            aggregator.aggregate(updates, base, tmp_path / "first")
            state = aggregator.state()
            assert isinstance(state, bytes)
            if (file := aggregator.state_file()) is not None:
                file.rename(tmp_path / "committed")  # a commit takes it away
            with TensorFile.open(tmp_path / "first") as model:
                aggregator.aggregate(updates, model, tmp_path / "second")
                restarted.restore(state)
                if file is not None:
                    restarted.restore_file(TensorFile.open(tmp_path / "committed"))
                assert restarted.state() == state
                restarted.aggregate(updates, model, tmp_path / "second again")
        assert (tmp_path / "second").read_bytes() == (tmp_path / "second again").read_bytes()


def _model(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "layer.weight": rng.standard_normal((37, 23), dtype=np.float32),
        "layer.bias": rng.standard_normal(5),
        "half.weight": narrow(rng.standard_normal((4, 6), dtype=np.float32)),
        "small.weight": rng.standard_normal(7).astype(np.float16),
        "batches": np.array(seed * 10, dtype=np.int64),
        "mask": rng.random(9) < 0.5,
        "nothing": np.zeros((0, 3), dtype=np.float32),
    }


def _models(count: int) -> list[Arrays]:
    return [_model(seed) for seed in range(1, count + 1)]


@contextlib.contextmanager
def _round(
    folder: Path, models: Sequence[Arrays], params_type: str = "FULL"
) -> Iterator[tuple[list[Update], TensorFile]]:
    """Updates of site-1, site-2, ... and the model that they received."""
    with contextlib.ExitStack() as stack:
        updates = []
        for number, arrays in enumerate(models, start=1):
            path = folder / f"site-{number}.safetensors"
            write_tensors(path, arrays)
            model = stack.enter_context(TensorFile.open(path))
            metrics, meta = {"loss": 1.0 / number}, {"NUM_STEPS_CURRENT_ROUND": number * 10}
            updates.append(Update(f"site-{number}", number * 10.0, model, params_type, metrics, meta))
        write_tensors(folder / "base.safetensors", _model(99) if "mask" in models[0] else models[0])
        yield updates, stack.enter_context(TensorFile.open(folder / "base.safetensors"))


def _repeated(update: Update, count: int) -> list[Update]:
    return [Update(f"site-{number}", float(number), update.model) for number in range(1, count + 1)]


def _peak(aggregator: Aggregator, updates: Sequence[Update], base: TensorFile, into: Path) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        aggregator.aggregate(updates, base, into)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _spoil(model: Arrays, name: str, value: float) -> None:
    spoilt = widen(model[name]) if model[name].dtype == BFLOAT16 else model[name].copy()
    spoilt.flat[3] = value
    model[name] = narrow(spoilt) if model[name].dtype == BFLOAT16 else spoilt


def _numbers(array: Any) -> Any:
    return (widen(array) if array.dtype == BFLOAT16 else array).astype(np.float64)


def _seen(models: Sequence[TensorFile]) -> list[bytes]:
    """What readers of the files see, also through arrays that may be changed in place."""
    views = [model.arrays(writable) for model in models for writable in (True, False)]
    return [array.tobytes() for view in views for array in view.values()]


def _words(updates: Sequence[Update]) -> str:
    return repr([(u.site, u.weight, u.params_type, sorted(u.metrics.items()), sorted(u.meta.items())) for u in updates])
