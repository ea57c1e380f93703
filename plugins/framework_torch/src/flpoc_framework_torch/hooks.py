"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flpoc import Component, hookimpl

if TYPE_CHECKING:
    from flpoc.training import Framework

FLPOC_API = 1

#: Packages whose objects the adapter knows: models, tensors, and trainers to patch.
_OURS = ("torch", "pytorch_lightning", "lightning")


@hookimpl
def flpoc_frameworks() -> Iterable[Component[Framework]]:
    yield Component("pytorch", "PyTorch models and tensors, and Lightning trainers", _framework)


@hookimpl
def flpoc_framework_for(model: Any) -> str | None:
    values = model.values() if isinstance(model, Mapping) else (model,)
    return "pytorch" if any(map(_is_ours, values)) else None


@hookimpl
def flpoc_error_hint(error: BaseException) -> str | None:
    from flpoc_framework_torch.hints import hint_for

    return hint_for(error)


@hookimpl
def flpoc_job_templates() -> Iterable[Path]:
    yield Path(__file__).parent / "templates" / "sag_pt"


def _is_ours(value: Any) -> bool:
    # by the names of modules: whoever has a tensor has imported torch, nobody else needs to
    return any(one.__module__.partition(".")[0] in _OURS for one in type(value).__mro__)


def _framework(_: Any) -> Framework:
    from flpoc.errors import PluginError

    try:
        from flpoc_framework_torch.adapter import TorchFramework
    except ImportError as error:
        raise PluginError(
            f"PyTorch cannot be imported: {error}",
            hint="install the build for this machine, see https://pytorch.org; without graphics processors: `pip "
            "install torch --index-url https://download.pytorch.org/whl/cpu`",
        ) from error
    return TorchFramework()
