"""Parameters that are no arrays: recognised by plugins, and turned into arrays by the adapter that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flpoc.errors import PluginError, UsageError
from flpoc.plugins import Plugins
from flpoc.training import Framework, package_for


class Adapters:
    """What turns a framework's parameters into arrays and back; plugins are loaded when the first such come.

    Args:
        plugins: Names of the plugins that the site's kit allows.
        framework: Name of the adapter that the job wants; empty for none.
    """

    def __init__(self, plugins: tuple[str, ...], framework: str = "") -> None:
        self._names = plugins
        self._framework = framework
        self._loaded: Plugins | None = None
        self._made: dict[str, Framework] = {}

    @property
    def _plugins(self) -> Plugins:
        if self._loaded is None:
            self._loaded = Plugins.of_kit(self._names)
        return self._loaded

    def _adapter(self, name: str) -> Framework:
        if name not in self._made:
            self._made[name] = self._plugins.create("frameworks", name)
        return self._made[name]

    def native(self, arrays: Mapping[str, Any]) -> Any:
        """Give arrays as parameters of the job's framework.

        Raises:
            PluginError: Its adapter is missing; says which package would help.
        """
        return self._adapter(self._framework).from_arrays(arrays)

    def arrays(self, params: Any) -> Mapping[str, Any]:
        """Give parameters as named arrays.

        Raises:
            UsageError: They are neither arrays nor known to a plugin; says which package would help.
            PluginError: The adapter is missing, or gives something else than arrays.
        """
        if isinstance(params, Mapping) and not any(map(_is_foreign, params.values())):
            return params
        name = self._plugins.ask("framework_for", model=params) or self._framework
        if not name:
            if isinstance(params, Mapping) and all(hasattr(one, "__array__") for one in _foreign(params)):
                return params  # NumPy knows how
            raise self._unknown(params)
        found = self._adapter(name).to_arrays(params)
        if not isinstance(found, Mapping):
            raise PluginError(f"the framework {name!r} made {type(found).__name__} of params", code="PLUGIN_BROKEN")
        return found

    def patch(self, trainer: Any, options: Mapping[str, Any]) -> None:
        """Let a trainer of a framework receive and send by itself.

        Raises:
            UsageError: No plugin knows it; says which package would help.
        """
        name = self._plugins.ask("framework_for", model=trainer)
        if name is None:
            package = package_for(type(trainer))
            hint = f"install {package} at every site and name it in the plugins of the project" if package else ""
            raise UsageError(
                f"nothing here can patch {type(trainer).__module__}.{type(trainer).__qualname__}",
                hint="; ".join(filter(None, [hint, *self._plugins.troubles])),
            )
        self._adapter(name).patch(trainer, options)

    def _unknown(self, params: Any) -> UsageError:
        odd = _foreign(params)[0] if isinstance(params, Mapping) else params
        kind = f"{type(odd).__module__}.{type(odd).__qualname__}".removeprefix("builtins.")
        kind = f"of {kind}" if isinstance(params, Mapping) else kind
        package = package_for(type(odd))
        hint = "send a dict of NumPy arrays"
        if package:
            hint = f"install {package} at every site and name it in the plugins of the project, or {hint}"
        why = "; ".join([hint, *self._plugins.troubles])
        return UsageError(f"params must be a dict of arrays, not {kind}", hint=why)


def _foreign(params: Mapping[str, Any]) -> list[Any]:
    return [value for value in params.values() if _is_foreign(value)]


def _is_foreign(value: Any) -> bool:
    # NumPy is not imported for this: whoever has an array has it
    return type(value).__module__.partition(".")[0] not in ("builtins", "numpy")
