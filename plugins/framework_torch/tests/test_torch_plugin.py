"""The plugin keeps what every plugin must, knows its own, and helps with errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from flpoc.client.foreign import Adapters
from flpoc.plugins import Plugins
from flpoc.testing import PluginSuite
from flpoc_framework_torch import PTFedProxLoss


class TestTorchPlugin(PluginSuite):
    plugin = "flpoc_framework_torch.hooks"
    heavy = PluginSuite.heavy | {"lightning", "pytorch_lightning"}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load(only=["torch"])


class Net(torch.nn.Module):
    pass


@pytest.mark.parametrize(
    "model",
    [Net(), torch.nn.Linear(1, 1), torch.ones(1), {"w": torch.ones(1)}, {"a": np.ones(1), "w": torch.ones(1)},
     torch.nn.Linear(1, 1).state_dict()],
)  # fmt: skip
def test_models_and_tensors_are_recognised(plugins: Plugins, model: Any) -> None:
    assert plugins.ask("framework_for", model=model) == "pytorch"


@pytest.mark.parametrize("model", [None, {}, {"w": np.ones(1)}, object(), "torch", [1.0]])
def test_others_are_not(plugins: Plugins, model: Any) -> None:
    assert plugins.ask("framework_for", model=model) is None


def test_a_script_may_send_a_model() -> None:
    arrays = Adapters(("torch",)).arrays(torch.nn.Linear(3, 2))
    assert {name: one.shape for name, one in arrays.items()} == {"weight": (2, 3), "bias": (2,)}


def test_without_pytorch_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["torch"] = None
from flpoc.errors import PluginError
from flpoc.plugins import Plugins
try:
    Plugins.load(only=["torch"]).create("frameworks", "pytorch")
except PluginError as error:
    print(error.message, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert "PyTorch cannot be imported" in done.stdout
    assert "pip install torch" in done.stdout


# -- errors


def raised(act: Any) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: torch.nn.Linear(3, 2).load_state_dict(torch.nn.Linear(2, 2).state_dict()), "initial model"),
        (lambda: torch.nn.Linear(3, 2).load_state_dict({}), "initial model"),
        (lambda: torch.nn.Linear(1, 1).load_state_dict({"weight": np.ones((1, 1)), "bias": np.ones(1)}), "framework ="),
        (lambda: torch.ones(1, requires_grad=True).numpy(), "state_dict()"),
        (lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")), "gpus = 1"),
        (lambda: _raise(RuntimeError("CUDA error: out of memory")), "gpus = 1"),
        (lambda: _raise(RuntimeError("Found no NVIDIA driver on your system.")), "is_available"),
        (lambda: _raise(AssertionError("Torch not compiled with CUDA enabled")), "is_available"),
        (lambda: _raise(RuntimeError("Expected all tensors to be on the same device, but found cpu, cuda")), ".to("),
        (lambda: _raise(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.")), "num_workers=0"),
        (lambda: _raise(RuntimeError("Attempting to deserialize object on a CUDA device but")), "map_location"),
        (lambda: _raise(TypeError("can't convert cuda:0 device type tensor to numpy.")), "state_dict()"),
    ],
)  # fmt: skip
def test_typical_errors_have_a_hint(plugins: Plugins, act: Any, says: str) -> None:
    assert says in plugins.ask("error_hint", error=raised(act))


def test_a_file_with_more_than_weights_has_a_hint(plugins: Plugins, tmp_path: Any) -> None:
    torch.save(Net(), tmp_path / "a.pt")
    error = raised(lambda: torch.load(tmp_path / "a.pt", weights_only=True))
    assert "state dict alone" in plugins.ask("error_hint", error=error)


@pytest.mark.parametrize("error", [ValueError("no such column"), MemoryError("out of memory"), KeyError("w")])
def test_about_other_errors_it_says_nothing(plugins: Plugins, error: BaseException) -> None:
    assert plugins.ask("error_hint", error=error) is None


def _raise(error: BaseException) -> None:
    raise error


# -- FedProx


def test_the_proximal_term_is_half_mu_times_the_squared_distance() -> None:
    received, trained = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    with torch.no_grad():
        for one, start in zip(trained.parameters(), received.parameters(), strict=True):
            one.copy_(start + 2)
    term = PTFedProxLoss(mu=0.1)(trained, received)
    assert term.item() == pytest.approx(0.1 / 2 * 8 * 4)
    term.backward()
    assert torch.allclose(trained.weight.grad, torch.full((2, 3), 0.1 * 2))  # mu (w - w_received)
    assert received.weight.grad is None


@pytest.mark.parametrize("mu", [-1.0, float("nan"), float("inf")])
def test_a_coefficient_that_is_none_is_refused(mu: float) -> None:
    with pytest.raises(ValueError, match="mu"):
        PTFedProxLoss(mu)


def test_two_different_models_have_no_distance() -> None:
    with pytest.raises(ValueError, match="'bias'"):
        PTFedProxLoss()(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1, bias=False))
    with pytest.raises(ValueError, match="no parameters"):
        PTFedProxLoss()(Net(), Net())
