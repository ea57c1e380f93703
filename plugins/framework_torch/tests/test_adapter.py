"""Models and tensors become arrays and come back, bit by bit."""

from __future__ import annotations

import copy
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flpoc.errors import UsageError
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.testing import FrameworkSuite
from flpoc.training import Framework
from flpoc_framework_torch.adapter import TorchFramework


class Tied(torch.nn.Module):
    """An embedding whose weights are also those of the last layer, as in language models; and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight


@pytest.fixture
def framework() -> Framework:
    return TorchFramework()


class TestTorchFramework(FrameworkSuite):
    @pytest.fixture
    def framework(self) -> Framework:
        return TorchFramework()

    @pytest.fixture(params=["model", "state dict", "half", "bfloat16"])
    def params(self, request: pytest.FixtureRequest) -> Any:
        model = Tied()
        kinds = {"half": model.half, "bfloat16": model.bfloat16, "state dict": model.state_dict}
        return kinds.get(request.param, lambda: model)()


def through_a_file(framework: Framework, params: Any, path: Path) -> Any:
    """As a model travels."""
    write_tensors(path, framework.to_arrays(params))
    with TensorFile.open(path) as found:
        return framework.from_arrays(found.arrays())


def test_a_model_with_tied_weights_and_buffers_comes_back_as_it_was(framework: Framework, tmp_path: Path) -> None:
    sent, other = Tied(), Tied()
    sent.norm(torch.rand(6, 4))
    received = through_a_file(framework, sent, tmp_path / "model")
    assert set(received) == {
        "embedding.weight", "head.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        "norm.num_batches_tracked",
    }  # fmt: skip
    other.load_state_dict(received)
    assert other.head.weight is other.embedding.weight
    assert other.norm.num_batches_tracked.shape == ()
    assert other.norm.num_batches_tracked.item() == 1
    for name, value in sent.state_dict().items():
        assert value.dtype == received[name].dtype
        assert torch.equal(value, received[name]), name


def test_what_is_sent_is_not_copied(framework: Framework) -> None:
    model = torch.nn.Linear(3, 2)
    arrays = framework.to_arrays(model)
    with torch.no_grad():
        model.weight.fill_(7)
    assert (arrays["weight"] == 7).all()


def test_gradients_and_their_graph_are_left_at_home(framework: Framework) -> None:
    weight = torch.ones(3, requires_grad=True)
    arrays = framework.to_arrays({"leaf": weight, "result": weight * 2})
    back = framework.from_arrays(arrays)
    assert back["result"].tolist() == [2, 2, 2]
    assert not back["leaf"].requires_grad
    assert weight.requires_grad


@pytest.mark.parametrize(
    "view",
    [
        lambda whole: whole.t(),
        lambda whole: whole[:, 1],
        lambda whole: whole[1:, ::2],
        lambda whole: whole[:1].expand(5, 4),
        lambda whole: torch.imag(torch.complex(whole, whole).conj()),  # a view that is negative only by a flag
    ],
    ids=["transposed", "column", "every second", "expanded", "negative"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_views_are_sent_as_the_numbers_that_they_show(framework: Framework, view: Any, dtype: Any, tmp_path) -> None:
    shown = view(torch.arange(12, dtype=torch.float32).reshape(3, 4))
    shown = shown.to(dtype) if dtype != torch.float32 else shown
    received = through_a_file(framework, {"w": shown}, tmp_path / "model")["w"]
    assert received.dtype == dtype
    assert torch.equal(received, shown)


def test_wrappers_change_no_names(framework: Framework) -> None:
    model = torch.nn.Linear(2, 2)
    for wrapped in (torch.nn.DataParallel(model), torch.compile(model), torch.compile(torch.nn.DataParallel(model))):
        assert set(framework.to_arrays(wrapped)) == {"weight", "bias"}


def test_arrays_and_numbers_may_stand_beside_tensors(framework: Framework) -> None:
    found = framework.to_arrays({"a": torch.ones(2), "b": np.ones(2, np.float16), "c": 1.5, "d": np.float32(2)})
    assert {name: (one.dtype.name, one.shape) for name, one in found.items()} == {
        "a": ("float32", (2,)), "b": ("float16", (2,)), "c": ("float64", ()), "d": ("float32", ()),
    }  # fmt: skip


def _quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.rand(3, dtype=torch.complex64), "view_as_real"),
        (lambda: torch.eye(3).to_sparse(), "to_dense"),
        (lambda: torch.eye(3).to_sparse_csr(), "to_dense"),
        (lambda: torch.nested.nested_tensor([torch.rand(2), torch.rand(3)]), "to_dense"),
        (_quantised, "dequantize"),
        (lambda: torch.empty(3, device="meta"), "initialise"),
        (lambda: torch.nn.LazyLinear(2).weight, "run the model once"),
    ],
    ids=["complex", "sparse", "csr", "nested", "quantised", "meta", "lazy"],
)
def test_what_cannot_travel_is_refused_with_a_cure(framework: Framework, make: Any, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        framework.to_arrays({"layer.weight": make()})
    assert "'layer.weight'" in refusal.value.message
    assert says in refusal.value.hint


@pytest.mark.parametrize("odd", [torch.ones(2), [torch.ones(2)], "text", torch.optim.SGD([torch.ones(1)], 0.1)])
def test_only_models_and_dicts_are_parameters(framework: Framework, odd: Any) -> None:
    with pytest.raises(UsageError) as refusal:
        framework.to_arrays(odd)
    assert "state_dict" in refusal.value.hint


def test_the_state_of_an_optimiser_is_no_model(framework: Framework) -> None:
    with pytest.raises(UsageError, match=r"'(state|param_groups)'"):
        framework.to_arrays(torch.optim.Adam([torch.ones(1)]).state_dict())


def test_arrays_that_have_no_tensors_are_refused(framework: Framework) -> None:
    with pytest.raises(UsageError, match="'w' is an array of <U1"):
        framework.from_arrays({"w": np.array(["a"])})


# -- checkpoints


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
def test_parameters_are_found_in_what_people_save(framework: Framework, key: str | None, tmp_path: Path) -> None:
    model = Tied()
    state = model.state_dict()
    torch.save(state if key is None else {key: state, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "a.pt")
    found = framework.read_checkpoint(tmp_path / "a.pt")
    assert set(found) == set(state)
    assert np.array_equal(found["norm.weight"], state["norm.weight"].numpy())


def test_a_whole_model_is_not_read(framework: Framework, tmp_path: Path) -> None:
    torch.save(Tied(), tmp_path / "a.pt")
    with pytest.raises(UsageError) as refusal:
        framework.read_checkpoint(tmp_path / "a.pt")
    assert "a.pt" in refusal.value.message
    assert "state_dict()" in refusal.value.hint


def test_code_in_a_file_of_the_new_format_is_not_run(framework: Framework, tmp_path: Path) -> None:
    proof = tmp_path / "it ran"
    torch.save({"w": torch.ones(1)}, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            evil = b"cposix\nmkdir\n(V" + str(proof).encode() + b"\ntR."
            bad.writestr(name, evil if name.endswith("data.pkl") else good.read(name))
    with pytest.raises(UsageError, match="weights cannot be read"):
        framework.read_checkpoint(tmp_path / "bad.pt")
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 nothing", b"\x80\x02}q\x00."], ids=["empty", "broken", "foreign"])
def test_a_damaged_file_is_an_error_that_names_it(framework: Framework, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.pt: "):
        framework.read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"state_dict": {"epoch": 3}}])
def test_a_file_without_parameters_is_refused(framework: Framework, content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="no state dict"):
        framework.read_checkpoint(tmp_path / "a.pt")


def test_a_file_that_is_not_there_is_an_error(framework: Framework, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.pt"):
        framework.read_checkpoint(tmp_path / "absent.pt")


def test_what_is_written_can_be_read_without_flpoc(framework: Framework, tmp_path: Path) -> None:
    model = Tied()
    framework.write_checkpoint(framework.to_arrays(model), tmp_path / "best.pt")
    other = Tied()
    other.load_state_dict(torch.load(tmp_path / "best.pt", weights_only=True))
    assert torch.equal(other.head.weight, model.head.weight)


def test_a_copy_of_a_state_dict_is_one_too(framework: Framework) -> None:
    state = OrderedDict(copy.deepcopy(Tied().state_dict()))
    assert set(framework.to_arrays(state)) == set(state)
