"""What every framework adapter must keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from flpoc.errors import FlpocError
from flpoc.models.header import ITEM_BYTES
from flpoc.models.tensors import dtype_name, numpy_dtype
from flpoc.training import Framework

Arrays = dict[str, Any]


class FrameworkSuite:
    """Tests of a framework adapter; a subclass gives the fixtures ``framework`` and ``params``.

    Attributes:
        dtypes: The dtypes that the framework has numbers of, as safetensors names them.
        most_dimensions: How many dimensions its tensors can have.
        shares_memory: Whether parameters made of arrays that may be written to look into the same memory.
    """

    dtypes: ClassVar[tuple[str, ...]] = tuple(ITEM_BYTES)
    most_dimensions: ClassVar[int] = 8
    shares_memory: ClassVar[bool] = True

    @pytest.fixture
    def framework(self) -> Framework:
        raise NotImplementedError("a subclass of FrameworkSuite gives the fixture `framework`")

    @pytest.fixture
    def params(self) -> Any:
        """Parameters as a script of the framework has them; anything that the adapter knows."""
        raise NotImplementedError("a subclass of FrameworkSuite gives the fixture `params`")

    def test_parameters_become_named_arrays_of_numbers(self, framework: Framework, params: Any) -> None:
        """Whatever a script has becomes what a model file can hold."""
        found = framework.to_arrays(params)
        assert isinstance(found, Mapping)
        assert found, "there is nothing in it"
        for name, array in found.items():
            assert isinstance(name, str)
            assert isinstance(array, np.ndarray), f"{name} is {type(array).__name__}"
            assert dtype_name(array.dtype), f"{name} is an array of {array.dtype}"

    def test_parameters_come_back_bit_by_bit(self, framework: Framework, params: Any) -> None:
        """There and back again nothing is lost or renamed."""
        found = framework.to_arrays(params)
        _check_same(_seen(framework.to_arrays(framework.from_arrays(found))), _seen(found))

    def test_parameters_are_left_as_they_are(self, framework: Framework, params: Any) -> None:
        """A script goes on training with what it has sent."""
        before = _seen(framework.to_arrays(params))
        framework.from_arrays(framework.to_arrays(params))
        _check_same(_seen(framework.to_arrays(params)), before)

    @pytest.mark.parametrize("dtype", ITEM_BYTES)
    def test_numbers_come_back_with_every_bit_or_are_refused(self, framework: Framework, dtype: str) -> None:
        """NaN, infinities, -0.0 and the largest numbers, too; what the framework does not have is refused by name."""
        array = _every_bit(dtype)
        if dtype in self.dtypes:
            found = framework.to_arrays(framework.from_arrays({"layer.weight": array}))
            _check_same(_seen(found), _seen({"layer.weight": array}))
            return
        with pytest.raises(FlpocError) as refusal:
            framework.from_arrays({"layer.weight": array})
        assert "layer.weight" in refusal.value.message, "the array is not named"

    @pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 3), (2, 3), (3, 1, 2, 2)], ids=str)
    def test_shapes_are_kept(self, framework: Framework, shape: tuple[int, ...]) -> None:
        """Scalars, empty arrays and dimensions of one are what models have, too."""
        if len(shape) > self.most_dimensions or (not shape and self.most_dimensions == 1):
            pytest.skip("its tensors have another number of dimensions")
        array = np.arange(np.prod(shape, dtype=int), dtype=self._dtype()).reshape(shape)
        _check_same(_seen(framework.to_arrays(framework.from_arrays({"w": array}))), _seen({"w": array}))

    @pytest.mark.parametrize("how", ["reversed", "every second", "transposed", "big-endian"])
    def test_arrays_may_lie_in_memory_as_they_like(self, framework: Framework, how: str) -> None:
        """The numbers count, not how they lie."""
        whole = np.arange(12, dtype=self._dtype())
        if self.most_dimensions > 1:
            whole = whole.reshape(3, 4)
        ways = {"reversed": whole[::-1], "every second": whole[::2], "transposed": whole.T}
        array = ways.get(how, whole.astype(whole.dtype.newbyteorder(">")))
        found = framework.to_arrays(framework.from_arrays({"w": array}))["w"]
        assert np.array_equal(found, array)
        assert found.dtype == whole.dtype

    def test_names_and_their_order_are_kept(self, framework: Framework) -> None:
        """Names are the framework's own, with dots or without."""
        arrays = {name: np.zeros(1, self._dtype()) for name in ("z.0.weight", "a", "block/1:0", "\u03b2")}
        assert list(framework.to_arrays(framework.from_arrays(arrays))) == list(arrays)

    def test_memory_is_shared_with_arrays_that_may_be_written_to(self, framework: Framework) -> None:
        """A model of gigabytes is not copied on its way into the script."""
        if not self.shares_memory:
            pytest.skip("copies")
        array = np.arange(1024, dtype=self._dtype())
        assert np.shares_memory(framework.to_arrays(framework.from_arrays({"w": array}))["w"], array)

    def test_arrays_that_must_not_be_written_to_are_not(self, framework: Framework) -> None:
        """They look into a file that others read: writing to one would end the process."""
        array = np.arange(16, dtype=self._dtype())
        array.setflags(write=False)
        found = framework.to_arrays(framework.from_arrays({"w": array}))["w"]
        assert not (found.flags.writeable and np.shares_memory(found, array))

    @pytest.mark.parametrize("odd", [object(), "some text", {"nested": 1}, None], ids=lambda one: type(one).__name__)
    def test_what_is_no_array_of_numbers_is_refused_by_name(self, framework: Framework, params: Any, odd: Any) -> None:
        """The author of a script must read which of a thousand parameters it is."""
        known = framework.from_arrays(framework.to_arrays(params))
        if not isinstance(known, Mapping):
            pytest.skip("its parameters are no dict")
        with pytest.raises(FlpocError) as refusal:
            framework.to_arrays({**known, "layer.odd": odd})
        assert "layer.odd" in refusal.value.message, "the parameter is not named"

    def test_a_checkpoint_has_what_was_written(self, framework: Framework, params: Any, tmp_path: Path) -> None:
        """A model that was downloaded as a file of the framework is the model."""
        arrays = framework.to_arrays(params)
        for suffix in self._checkpoints(framework):
            framework.write_checkpoint(arrays, tmp_path / f"model{suffix}")
            _check_same(_seen(framework.read_checkpoint(tmp_path / f"model{suffix}")), _seen(arrays), f"{suffix}: ")

    def test_a_checkpoint_runs_nothing(self, framework: Framework, tmp_path: Path) -> None:
        """Checkpoints come from anywhere: one that would run code is refused, and has not run it."""
        for suffix in self._checkpoints(framework):
            bad, proof = tmp_path / f"bad{suffix}", tmp_path / f"it ran {suffix}"
            # what Python's serialiser reads as: call os.mkdir with this path
            bad.write_bytes(b"cposix\nmkdir\n(V" + str(proof).encode("raw_unicode_escape") + b"\ntR.")
            with pytest.raises(FlpocError) as refusal:
                framework.read_checkpoint(bad)
            assert not proof.exists(), "what the file holds was run"
            assert bad.name in refusal.value.message, "the file is not named"

    def _checkpoints(self, framework: Framework) -> tuple[str, ...]:
        if not framework.checkpoints:
            pytest.skip("reads no files")
        return framework.checkpoints

    def _dtype(self) -> np.dtype[Any]:
        """A dtype that it has and NumPy can calculate with."""
        return numpy_dtype(next(one for one in ("F32", "F64", "I32", "I64") if one in self.dtypes))


def _every_bit(dtype: str) -> Any:
    """Numbers of all bits that there are, or of many."""
    if dtype == "BOOL":
        return np.array([True, False, True])
    size = ITEM_BYTES[dtype]
    some = np.random.default_rng(5).integers(0, 256, 64 * size, dtype=np.uint8)
    ends = np.array([0, 255, 127, 128], dtype=np.uint8).repeat(size)
    both = np.concatenate([ends, some])
    if size <= 2:
        both = np.arange(1 << (8 * size), dtype=f"<u{size}").view(np.uint8)
    return both.view(numpy_dtype(dtype))


#: Of each array by name: its dtype, its shape, its bytes.
_Seen = dict[str, tuple[str, tuple[int, ...], bytes]]


def _seen(arrays: Mapping[str, Any]) -> _Seen:
    return {name: (dtype_name(one.dtype), one.shape, one.tobytes()) for name, one in arrays.items()}


def _check_same(found: _Seen, wanted: _Seen, where: str = "") -> None:
    """Fail with the first difference; to show all differences of two models would take minutes."""
    assert found.keys() == wanted.keys(), f"{where}other names"
    for name, (dtype, shape, content) in wanted.items():
        assert found[name][:2] == (dtype, shape), f"{where}{name}"
        pairs = enumerate(zip(found[name][2], content, strict=True))
        first = next((at for at, (one, other) in pairs if one != other), None)
        assert first is None, f"{where}{name}: other numbers from byte {first} of {len(content)}"
