"""A sound adapter passes the suite, and the suite notices when one is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.errors import PluginError, UsageError
from flpoc.models.tensors import TensorFile, dtype_name, numpy_dtype, write_tensors
from flpoc.plugins import Plugins
from flpoc.testing import FrameworkSuite
from flpoc.training import Framework, framework_for_file


class Boxed:
    """A parameter of a framework that exists only here."""

    def __init__(self, array: Any) -> None:
        self.array = array


class Boxes(Framework):
    """As an adapter must be."""

    checkpoints = (".box",)

    def to_arrays(self, params: Any) -> Mapping[str, Any]:
        return {name: self.array(name, one) for name, one in params.items()}

    def array(self, name: str, one: Any) -> Any:
        if not isinstance(one, Boxed):
            raise UsageError(f"{name!r} is no box")
        return one.array

    def from_arrays(self, arrays: Mapping[str, Any]) -> Any:
        return {name: Boxed(self.native(name, one)) for name, one in arrays.items()}

    def native(self, name: str, array: Any) -> Any:
        return array if array.dtype.byteorder != ">" else array.astype(array.dtype.newbyteorder("<"))

    def read_checkpoint(self, path: Path) -> Mapping[str, Any]:
        with TensorFile.open(path) as found:
            return found.arrays()

    def write_checkpoint(self, arrays: Mapping[str, Any], path: Path) -> None:
        write_tensors(path, arrays)


class TestBoxes(FrameworkSuite):
    @pytest.fixture
    def framework(self) -> Framework:
        return Boxes()

    @pytest.fixture
    def params(self) -> Any:
        return {"w": Boxed(np.ones((2, 3), np.float32)), "steps": Boxed(np.array(4))}


class GivesLists(Boxes):
    def array(self, name: str, one: Any) -> Any:
        return super().array(name, one).tolist()


class GivesObjects(Boxes):
    def array(self, name: str, one: Any) -> Any:
        return super().array(name, one).astype(object)


class ForgetsScalars(Boxes):
    def from_arrays(self, arrays: Mapping[str, Any]) -> Any:
        return super().from_arrays({name: one for name, one in arrays.items() if one.ndim})


class CountsWhatItSends(Boxes):
    def array(self, name: str, one: Any) -> Any:
        one.array = one.array + 1
        return one.array


class RoundsToSingle(Boxes):
    def native(self, name: str, array: Any) -> Any:
        with np.errstate(over="ignore"):
            return array.astype(np.float32).astype(array.dtype) if array.dtype.kind in "fi" else array


class CleansNaN(Boxes):
    def native(self, name: str, array: Any) -> Any:
        return np.nan_to_num(array) if array.dtype == np.float16 else super().native(name, array)


class WidensQuietly(Boxes):
    def native(self, name: str, array: Any) -> Any:
        return array.astype(np.float32) if array.dtype == np.float16 else super().native(name, array)


class WidensQuietlyWhatItHasNot(WidensQuietly):
    dtypes = ("F32", "F64")


class NamesNoArray(Boxes):
    dtypes = ("F32", "F64")

    def native(self, name: str, array: Any) -> Any:
        if array.dtype == np.float16:
            raise UsageError("half precision is not known")
        return super().native(name, array)


class MakesScalarsRows(Boxes):
    def native(self, name: str, array: Any) -> Any:
        return np.atleast_1d(super().native(name, array))


class ReadsFromTheStart(Boxes):
    def native(self, name: str, array: Any) -> Any:
        whole = array if array.base is None else array.base
        return super().native(name, np.frombuffer(whole.tobytes(), array.dtype)[: array.size].reshape(array.shape))


class TakesBytesAsTheyAre(Boxes):
    def native(self, name: str, array: Any) -> Any:
        return array.view(array.dtype.newbyteorder("<")) if dtype_name(array.dtype) == "F32" else array


class SortsNames(Boxes):
    def from_arrays(self, arrays: Mapping[str, Any]) -> Any:
        return super().from_arrays(dict(sorted(arrays.items())))


class Copies(Boxes):
    def native(self, name: str, array: Any) -> Any:
        return super().native(name, array).copy()


class WritesWhereItMustNot(Boxes):
    def native(self, name: str, array: Any) -> Any:
        found = super().native(name, array)
        if not found.flags.writeable:
            found = np.lib.stride_tricks.as_strided(_unlocked(found), found.shape, found.strides)
        return found


class SendsAnything(Boxes):
    def array(self, name: str, one: Any) -> Any:
        return one.array if isinstance(one, Boxed) else np.zeros(1)


class NamesNobody(Boxes):
    def array(self, name: str, one: Any) -> Any:
        return super().array("a parameter", one)


class ForgetsWhenItWrites(Boxes):
    def write_checkpoint(self, arrays: Mapping[str, Any], path: Path) -> None:
        write_tensors(path, dict(list(arrays.items())[:1]))


class RunsFiles(Boxes):
    def read_checkpoint(self, path: Path) -> Mapping[str, Any]:
        import pickle

        pickle.loads(path.read_bytes())
        raise UsageError(f"{path} has no parameters")


class NamesNoFile(Boxes):
    def read_checkpoint(self, path: Path) -> Mapping[str, Any]:
        raise UsageError("this is no checkpoint")


def _unlocked(array: Any) -> Any:
    """The same memory, to be written to: what C code does that does not ask."""
    import ctypes

    size = array.nbytes
    return np.frombuffer((ctypes.c_char * size).from_address(array.ctypes.data), array.dtype)


_PARAMS = {"w": Boxed(np.ones((2, 3), np.float32)), "steps": Boxed(np.array(4))}
_NAMED, _BITS = "test_parameters_become_named_arrays_of_numbers", "test_numbers_come_back_with_every_bit_or_are_refused"
_ANY, _LIES = "test_what_is_no_array_of_numbers_is_refused_by_name", "test_arrays_may_lie_in_memory_as_they_like"
_RUNS = "test_a_checkpoint_runs_nothing"
_CAUGHT: list[tuple[type[Framework], str, dict[str, Any]]] = [
    (GivesLists, _NAMED, {"params": _PARAMS}),
    (GivesObjects, _NAMED, {"params": _PARAMS}),
    (ForgetsScalars, "test_parameters_come_back_bit_by_bit", {"params": _PARAMS}),
    (CountsWhatItSends, "test_parameters_are_left_as_they_are", {"params": _PARAMS}),
    (RoundsToSingle, _BITS, {"dtype": "F64"}),
    (RoundsToSingle, _BITS, {"dtype": "I64"}),
    (CleansNaN, _BITS, {"dtype": "F16"}),
    (WidensQuietly, _BITS, {"dtype": "F16"}),
    (WidensQuietlyWhatItHasNot, _BITS, {"dtype": "F16"}),
    (NamesNoArray, _BITS, {"dtype": "F16"}),
    (MakesScalarsRows, "test_shapes_are_kept", {"shape": ()}),
    (ReadsFromTheStart, _LIES, {"how": "reversed"}),
    (ReadsFromTheStart, _LIES, {"how": "every second"}),
    (ReadsFromTheStart, _LIES, {"how": "transposed"}),
    (TakesBytesAsTheyAre, _LIES, {"how": "big-endian"}),
    (SortsNames, "test_names_and_their_order_are_kept", {}),
    (Copies, "test_memory_is_shared_with_arrays_that_may_be_written_to", {}),
    (WritesWhereItMustNot, "test_arrays_that_must_not_be_written_to_are_not", {}),
    (SendsAnything, _ANY, {"params": _PARAMS, "odd": object()}),
    (NamesNobody, _ANY, {"params": _PARAMS, "odd": "some text"}),
    (ForgetsWhenItWrites, "test_a_checkpoint_has_what_was_written", {"params": _PARAMS, "tmp_path": Path}),
    (RunsFiles, _RUNS, {"tmp_path": Path}),
    (NamesNoFile, _RUNS, {"tmp_path": Path}),
]


@pytest.mark.parametrize(("wrong", "promise", "arguments"), _CAUGHT, ids=lambda one: getattr(one, "__name__", None))
def test_the_suite_catches_a_wrong_adapter(
    wrong: type[Framework], promise: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    declared = {"dtypes": wrong.dtypes} if hasattr(wrong, "dtypes") else {}
    suite = type("Suite", (FrameworkSuite,), declared)()
    given = {name: tmp_path if one is Path else one for name, one in arguments.items()}
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(suite, promise)(wrong(), **given)


@pytest.mark.parametrize("dtype", ["F64", "BF16"])
def test_the_bits_that_are_tried_are_different_ones(dtype: str) -> None:
    class Counts(Boxes):
        def native(self, name: str, array: Any) -> Any:
            assert len(np.unique(array.view(f"u{array.itemsize}"))) > 60
            assert array.dtype == numpy_dtype(dtype)
            return array

    FrameworkSuite().test_numbers_come_back_with_every_bit_or_are_refused(Counts(), dtype)


# -- files of frameworks, found by their suffix

PLUGIN = """
    from flpoc import Component, hookimpl
    from flpoc.errors import PluginError
    from flpoc.training import Framework

    FLPOC_API = 1

    class Boxes(Framework):
        checkpoints = (".box",)
        to_arrays = from_arrays = None

    def missing(settings):
        raise PluginError("crates cannot be had", hint="install crates")

    @hookimpl
    def flpoc_frameworks():
        yield Component("boxes", "Boxes", lambda settings: type("B", (Boxes,), {"to_arrays": 1, "from_arrays": 1})())
        yield Component("a-crate", "Crates", missing)
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    import textwrap

    package = f"acme_{tmp_path.name.replace('-', '_')}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "hooks.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Plugins.load(private=[f"{package}.hooks"], only=[f"{package}.hooks"])


@pytest.mark.parametrize("path", ["model.box", "MODEL.BOX", "/data/model.v2.box"])
def test_a_file_is_read_by_the_framework_with_its_suffix(plugins: Plugins, path: str) -> None:
    assert framework_for_file(plugins, path).checkpoints == (".box",)


@pytest.mark.parametrize("path", ["/data/model.pt", "model"])
def test_a_file_that_no_framework_reads_is_refused_with_what_is_known(plugins: Plugins, path: str) -> None:
    with pytest.raises(PluginError) as refusal:
        framework_for_file(plugins, path)
    assert Path(path).name in refusal.value.message
    assert ".npz, .box" in refusal.value.hint
    assert "install crates" in refusal.value.hint


def test_a_framework_without_files_says_so(tmp_path: Path) -> None:
    class Plain(Boxes):
        checkpoints = ()
        read_checkpoint = Framework.read_checkpoint
        write_checkpoint = Framework.write_checkpoint

    with pytest.raises(UsageError, match=r"a\.pt: Plain reads no files"):
        Plain().read_checkpoint(Path("a.pt"))
    with pytest.raises(UsageError, match=r"a\.pt: Plain writes no files"):
        Plain().write_checkpoint({}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="cannot be patched"):
        Plain().patch(object(), {})
