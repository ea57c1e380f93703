"""What a job starts from: arrays, a model of a framework, or its description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.models.flmodel import NPConstants
from flpoc.recipe.bundling import bundle, modules
from flpoc.recipe.parameters import keyed, plain, text

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

#: In a job, the module that makes the model that a description names.
DESCRIBED: Final = "flpoc_described_model.py"
_CLASS_PATH: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_MODULE: Final = '''"""Makes the model that the recipe describes; written by flpoc."""

from {module} import {name}

from flpoc.recipe import DescribedModel


class InitialModel(DescribedModel):
    """{name}, made in the controller."""

    model_class = {name}
'''


@attrs.frozen
class Start:
    """What a job starts from.

    Attributes:
        arrays: The model itself, arrays by name; None if there is none.
        ref: What makes it in the controller: file, class and arguments; empty if nothing does.
        texts: Files that are written for that, by path below ``code/``.
        files: Files of this machine that come along, by path below ``code/``.
    """

    arrays: Mapping[str, Any] | None = None
    ref: Mapping[str, Any] = attrs.field(factory=dict)
    texts: Mapping[str, str] = attrs.field(factory=dict)
    files: Mapping[str, Path] = attrs.field(factory=dict)


def start_of(model: Any, framework: str, seed: int) -> Start:
    """Say what a job starts from.

    Args:
        model: Arrays, a framework's model, ``{"class_path": ..., "args": {...}}``, or None.
        framework: Name of the framework's adapter; empty for NumPy.
        seed: From which a described model draws its first weights.

    Raises:
        ValueError: It is none of these; names ``model``.
    """
    if model is None:
        return Start()
    if isinstance(model, Mapping) and isinstance(model.get("class_path"), str):
        return _described(model, framework, seed)
    if is_foreign(model):
        return Start(tensors(_framework_arrays(model, framework)))
    return Start(tensors(model))


def is_foreign(model: Any) -> bool:
    """Whether it is made of something else than numbers, lists and NumPy arrays; decided by names of packages."""
    values = list(model.values()) if isinstance(model, Mapping) else [model]
    return any(type(one).__module__.partition(".")[0] not in ("builtins", "numpy", "collections") for one in values)


def tensors(model: Any) -> dict[str, Any]:
    """The arrays of a model, by name.

    Raises:
        ValueError: It holds something that is no array of finite numbers.
    """
    parts = dict(model) if isinstance(model, Mapping) else {NPConstants.NUMPY_KEY: model}
    if not parts:
        raise ValueError("model: there is nothing in it; None means that the sites start from their own")
    return {text("model: the name of a parameter", name): _array(name, value) for name, value in parts.items()}


def _array(name: str, value: Any) -> Any:
    import numpy as np

    from flpoc.models.tensors import dtype_name

    try:
        # whole numbers of a list would be averaged as whole numbers
        array = np.asarray(value) if hasattr(value, "dtype") else np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"model: {name!r} is no array of numbers: {error}") from None
    if not dtype_name(array.dtype):
        raise ValueError(f"model: {name!r} is an array of {array.dtype}, which no model file can hold")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"model: {name!r} holds NaN or infinity")
    return array


def installed() -> Plugins:
    """The plugins of this machine, as commands see them."""
    from flpoc.configuration import Configuration
    from flpoc.plugins import Plugins

    settings = Configuration.load()
    return Plugins.load(private=settings.plugins_load, disabled=settings.plugins_disable)


def _framework_arrays(model: Any, framework: str) -> Mapping[str, Any]:
    """A framework's model as arrays, by its installed adapter."""
    from flpoc.errors import FlpocError
    from flpoc.training import package_for

    odd = next((one for one in model.values() if is_foreign(one)), model) if isinstance(model, Mapping) else model
    kind = f"{type(odd).__module__}.{type(odd).__qualname__}"
    plugins = installed()
    name = plugins.ask("framework_for", model=model)
    if name is None:
        cure = f": install {package}" if (package := package_for(type(odd))) else ""
        raise ValueError(f"model: {kind} is no array, and no installed framework knows it{cure}")
    if name != framework:
        raise ValueError(f"framework: the model is one of {name!r} ({kind}), the recipe says {framework or 'numpy'!r}")
    try:
        found = plugins.create("frameworks", name).to_arrays(model)
    except FlpocError as error:
        raise ValueError(f"model: {error.message}") from error
    return dict(found)


def _described(model: Mapping[str, Any], framework: str, seed: int) -> Start:
    """A description is written into the job as a module that makes it; it is run in the controller only."""
    said = keyed("model", model, ("class_path", "args"))
    path = said["class_path"]
    if not framework:
        raise ValueError("model: 'class_path': a description is for models of a framework; give arrays, or a framework")
    if not _CLASS_PATH.fullmatch(path):
        raise ValueError(f"model: class_path: {path!r} is not 'module.Class'")
    args = plain("model.args", keyed("model.args", said.get("args") or {}))
    module, _, name = path.rpartition(".")
    files: dict[str, Path] = {}
    for folder in _folders():
        found = list(modules(folder, module.partition(".")[0]))
        for one in found:
            files |= bundle(one.resolve(), folder.resolve())
        if found:
            break
    ref = {"file": DESCRIBED, "name": "InitialModel", "args": {"args": args, "framework": framework, "seed": seed}}
    return Start(ref=ref, texts={DESCRIBED: _MODULE.format(module=module, name=name)}, files=files)


def _folders() -> list[Path]:
    """Where a module of the user's is looked for: in the working directory, and beside the program."""
    import sys

    return [Path.cwd(), Path(sys.argv[0]).resolve().parent]
