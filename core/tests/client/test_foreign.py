"""What a script hands over that is no dict of arrays."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from array import array
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import flpoc.client as flare
from flpoc.client.foreign import Adapters
from flpoc.errors import PluginError, UsageError
from flpoc.training import package_for

FRAMEWORK = """
    from array import array
    import numpy as np
    from flpoc import Component, hookimpl
    from flpoc.training import Framework

    FLPOC_API = 1

    class Arrays(Framework):
        def to_arrays(self, params):
            return {name: np.array(value) for name, value in params.items()}

        def from_arrays(self, arrays):
            return {name: array(value.dtype.char, value.tobytes()) for name, value in arrays.items()}

    @hookimpl
    def flpoc_frameworks():
        yield Component("arrays", "Arrays of the standard library", lambda settings: Arrays())

    @hookimpl
    def flpoc_framework_for(model):
        return "arrays" if any(isinstance(one, array) for one in model.values()) else None
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, ...]]:
    """Write a private plugin; gives what a kit says that names it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(source: str) -> tuple[str, ...]:
        package = f"acme_{tmp_path.name.replace('-', '_')}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "hooks.py").write_text(textwrap.dedent(source))
        return (f"{package}.hooks",)

    return put


def test_the_jobs_framework_makes_params_of_arrays_and_takes_its_own_back(install, owner) -> None:
    received = {"w": np.array([1, 2], np.float32)}
    given = owner.give(0, **received)
    owner.script(given, plugins=install(FRAMEWORK), framework="arrays", transfer_type="DIFF")
    model = flare.receive()
    assert model.params == {"w": array("f", [1, 2])}
    model.params["w"][0] = 5
    flare.send(model)
    assert owner.answer()["w"].tolist() == [4, 0]


def test_a_first_round_without_a_model_needs_no_adapter_yet(install, owner) -> None:
    owner.script(owner.give(0), plugins=install(FRAMEWORK), framework="arrays")
    assert flare.receive().params == {}


def test_the_adapter_of_the_job_takes_what_no_plugin_recognises(install) -> None:
    found = Adapters(install(FRAMEWORK.replace("model.values())", "())")), "arrays").arrays({"w": array("f", [1])})
    assert found["w"].tolist() == [1]


@pytest.mark.parametrize(
    ("name", "package"), [("pytorch", "flpoc-framework-torch"), ("tensorflow", "flpoc-framework-tf")]
)
def test_an_absent_adapter_is_said_with_its_package(owner, name, package) -> None:
    owner.script(owner.give(0, w=np.ones(1)), framework=name)
    with pytest.raises(PluginError, match=f"no framework '{name}' is installed") as caught:
        flare.receive()
    assert f"install {package}" in caught.value.hint


class Net:
    """Nobody's model."""


def test_parameters_of_a_framework_become_arrays_through_its_plugin(install) -> None:
    adapters = Adapters(install(FRAMEWORK))
    for _ in range(2):
        found = adapters.arrays({"w": array("f", [1, 2]), "b": np.zeros(1)})
        assert (found["w"].tolist(), found["w"].dtype) == ([1, 2], np.float32)


@pytest.mark.parametrize("params", [{"w": np.ones(2)}, {"w": np.float32(1)}, {"w": [1, 2]}, OrderedDict(w=1.5)])
def test_arrays_and_numbers_go_as_they_are(params) -> None:
    assert Adapters(()).arrays(params) is params


def test_for_arrays_no_plugin_is_loaded() -> None:
    code = """
    import sys
    import numpy as np
    import flpoc.client as flare
    from flpoc.client.foreign import Adapters
    Adapters(()).arrays({"w": np.ones(2)})
    sys.exit("flpoc.hookspecs" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60, check=False).returncode == 0


def test_what_numpy_can_read_needs_no_plugin() -> None:
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.ones(3)

    params = {"w": Tensor()}
    assert Adapters(()).arrays(params) is params


@pytest.mark.parametrize("params", [Net(), {"net": Net()}, [1.0], array("f", [1])])
def test_without_a_plugin_it_is_said_what_can_be_sent(params) -> None:
    with pytest.raises(UsageError, match="params must be a dict of arrays, not ") as refused:
        Adapters(()).arrays(params)
    assert "send a dict of NumPy arrays" in refused.value.hint


def test_a_plugin_that_the_kit_does_not_name_is_not_asked(install) -> None:
    install(FRAMEWORK)
    with pytest.raises(UsageError):
        Adapters(()).arrays({"net": Net(), "w": array("f")})


def test_the_package_that_would_help_is_named() -> None:
    module = type("Module", (), {"__module__": "torch.nn.modules.module"})
    assert package_for(type("Net", (module,), {"__module__": "__main__"})) == "flpoc-framework-torch"
    assert package_for(type("Model", (), {"__module__": "keras.src.models"})) == "flpoc-framework-tf"
    assert package_for(Net) == "flpoc-framework-" + Net.__module__.partition(".")[0]
    assert package_for(list) == ""
    net = type("Net", (module,), {"__module__": "__main__"})()
    with pytest.raises(UsageError) as refused:
        Adapters(()).arrays(net)
    assert "install flpoc-framework-torch at every site" in refused.value.hint


def test_a_plugin_that_fails_instead_of_answering_is_named(install) -> None:
    names = install(FRAMEWORK.replace('return "arrays" if', "return 1 / 0 if"))
    with pytest.raises(UsageError) as refused:
        Adapters(names).arrays({"w": array("f"), "net": Net()})
    assert f"plugin {names[0]} is broken" in refused.value.hint


def test_an_adapter_that_gives_no_arrays_is_a_broken_plugin(install) -> None:
    names = install(FRAMEWORK.replace("return {name: np.array(value) for name, value in params.items()}", "return 7"))
    with pytest.raises(PluginError, match="'arrays' made int of params"):
        Adapters(names).arrays({"w": array("f"), "net": Net()})


def test_a_framework_without_an_adapter_is_an_error_that_names_it(install) -> None:
    names = install(FRAMEWORK.replace('yield Component("arrays"', 'yield Component("array"'))
    with pytest.raises(PluginError, match="no framework 'arrays' is installed") as refused:
        Adapters(names).arrays({"w": array("f"), "net": Net()})
    assert "did you mean 'array'?" in refused.value.hint
