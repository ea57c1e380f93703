"""Finding plugins, loading them one by one, and asking them.

A plugin that cannot be loaded never stops a command that does not need it:
it is recorded with the reason, and whoever asks for it by name hears it.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final, cast

import attrs
import pluggy

from flpoc import API
from flpoc.components import Component
from flpoc.errors import FlpocError, PluginError, did_you_mean

GROUP: Final = "flpoc"

#: Hooks whose answers are components to choose from by name.
OFFERS: Final = (
    "authorities",
    "launchers",
    "frameworks",
    "filters",
    "ciphers",
    "aggregators",
    "workflows",
    "trackers",
    "formatters",
    "simulators",
)

#: Why a plugin that a kit lists and nobody has installed is broken.
_NOT_HERE: Final = "not installed here"
#: Which package usually has what, for the hint when a name is not installed.
_PACKAGES: Final = {
    "local": "flpoc-builtin-local",
    "docker": "flpoc-builtin-docker",
    "mlflow": "flpoc-tracking-mlflow",
    "pytorch": "flpoc-framework-torch",
    "tensorflow": "flpoc-framework-tf",
}


class PluginState(enum.Enum):
    """What became of a plugin that was found."""

    LOADED = "loaded"
    DISABLED = "disabled"
    INCOMPATIBLE = "incompatible"
    BROKEN = "broken"


@attrs.frozen
class PluginRecord:
    """A plugin that was found, and what became of it.

    Attributes:
        name: Name of its entry point, or its module for private plugins.
        module: The module with its hooks.
        distribution: The package it came in; empty for private plugins.
        version: Version of that package.
        state: Loaded, disabled, incompatible or broken.
        reason: Why, when it is not loaded.
    """

    name: str
    module: str
    distribution: str
    version: str
    state: PluginState
    reason: str = ""


@attrs.frozen
class Offer:
    """A component together with the plugin that offers it."""

    kind: str
    component: Component[Any]
    plugin: PluginRecord

    @property
    def name(self) -> str:
        return self.component.name


@attrs.frozen
class _Candidate:
    name: str
    module: str
    distribution: str
    version: str


class Plugins:
    """The plugins of this process."""

    def __init__(self) -> None:
        from flpoc import hookspecs

        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._records: dict[str, PluginRecord] = {}
        self._offers: dict[str, tuple[Offer, ...]] = {}

    @classmethod
    def load(
        cls, *, private: Iterable[str] = (), disabled: Iterable[str] = (), only: Iterable[str] | None = None
    ) -> Plugins:
        """Find and load what is installed.

        Args:
            private: Modules with hooks that no entry point names (``plugins.load`` in the configuration).
            disabled: Names of plugins that must not even be imported.
            only: When given, every plugin not named is treated as disabled (servers and sites: what their kit lists).
        """
        from flpoc import __version__

        plugins = cls()
        off = frozenset(disabled)
        allowed = None if only is None else frozenset(only) | {"core"}
        plugins._load(_Candidate("core", "flpoc.builtin", "flpoc", __version__), switched_off=False)
        found = sorted(_installed(), key=lambda one: one.name)
        found += [_Candidate(module, module, "", "") for module in private]
        for one in found:
            plugins._load(one, switched_off=one.name in off or (allowed is not None and one.name not in allowed))
        return plugins

    @classmethod
    def of_kit(cls, names: Iterable[str]) -> Plugins:
        """Load what a kit lists and nothing else; a name with a dot is the module of a private plugin.

        What it lists and is not installed counts as broken: :attr:`troubles` says that it is not there.
        """
        names = tuple(names)
        found = cls.load(private=[name for name in names if "." in name], only=names)
        for name in names:
            if name not in found._records:
                found._note(_Candidate(name, "", "", ""), PluginState.BROKEN, _NOT_HERE)
        return found

    @property
    def records(self) -> tuple[PluginRecord, ...]:
        return tuple(self._records.values())

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wanted and could not be loaded, with the reason: one line each."""
        failed = [one for one in self.records if one.state in (PluginState.BROKEN, PluginState.INCOMPATIBLE)]
        return tuple(
            f"plugin {one.name} is {_NOT_HERE}"
            if one.reason == _NOT_HERE
            else f"plugin {one.name} is {one.state.value}: {one.reason}"
            for one in failed
        )

    def _load(self, one: _Candidate, *, switched_off: bool) -> None:
        other = self._records.get(one.name)
        if other is not None:
            one = attrs.evolve(one, name=f"{one.name} ({one.distribution or one.module})")
        if switched_off:
            self._note(one, PluginState.DISABLED, "not in the list of this kit, or switched off")
            return
        if other is not None:
            owner = other.distribution or other.module
            self._note(one, PluginState.BROKEN, f"the name {other.name!r} is taken by {owner}")
            return
        try:
            module = importlib.import_module(one.module)
            api = getattr(module, "FLPOC_API", None)
            if api != API:
                says = "does not say which plugin interface it needs (FLPOC_API)" if api is None else f"needs API {api}"
                self._note(one, PluginState.INCOMPATIBLE, f"{says}; this flpoc has API {API}")
                return
            self._register(module, one.name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may fail in any way, also by sys.exit
            self._note(one, PluginState.BROKEN, _described(error))
            return
        self._note(one, PluginState.LOADED)

    def _register(self, module: ModuleType, name: str) -> None:
        known = {hook for hook in dir(self._manager.hook) if hook.startswith("flpoc_")}
        for attribute, value in vars(module).items():
            if attribute.startswith("flpoc_") and hasattr(value, "flpoc_impl"):
                if attribute not in known:
                    raise PluginError(f"{attribute}: no such hook", hint=did_you_mean(attribute, known))
                _check_arguments(attribute, value, getattr(self._manager.hook, attribute).spec.argnames)
        try:
            self._manager.register(module, name)
        except BaseException:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise

    def _note(self, one: _Candidate, state: PluginState, reason: str = "") -> None:
        self._records[one.name] = PluginRecord(one.name, one.module, one.distribution, one.version, state, reason)

    def _mark_broken(self, name: str, error: BaseException, hook: str) -> None:
        record = self._records[name]
        reason = f"{hook}: {_described(error)}"
        self._records[name] = attrs.evolve(record, state=PluginState.BROKEN, reason=reason)

    def _each(self, hook: str, arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Ask every plugin by itself, so that one that fails harms no other; sorted by plugin name."""
        answers = []
        for impl in self._implementations(hook):
            try:
                answer = impl.function(*(arguments[name] for name in impl.argnames))
                answers.append((impl.plugin_name, answer if answer is None else list(cast("Iterable[Any]", answer))))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - see _load
                self._mark_broken(impl.plugin_name, error, hook)
        return answers

    def offers(self, kind: str) -> tuple[Offer, ...]:
        """Everything offered of one kind (``launchers``, ``aggregators``, ...), sorted by name."""
        if kind not in self._offers:
            found = []
            for name, components in self._each(f"flpoc_{kind}", {}):
                for component in components or ():
                    if isinstance(component, Component) and isinstance(component.name, str):
                        found.append(Offer(kind, component, self._records[name]))
                    else:
                        self._mark_broken(name, TypeError(f"{component!r} is not a Component"), f"flpoc_{kind}")
            self._offers[kind] = tuple(sorted(found, key=lambda offer: (offer.name, offer.plugin.name)))
        return self._offers[kind]

    def find(self, kind: str, name: str) -> Offer:
        """Look one component up by its name.

        Raises:
            PluginError: It is not offered (with what was probably meant, or
                which plugin failed to load), or two plugins offer it.
        """
        offers = self.offers(kind)
        found = [offer for offer in offers if offer.name == name]
        one = singular(kind)
        if len(found) == 1:
            return found[0]
        if found:
            both = " and ".join(f"{o.plugin.name} ({o.plugin.distribution or o.plugin.module})" for o in found)
            raise PluginError(
                f"the {one} {name!r} is offered by {both}",
                code="PLUGIN_CONFLICT",
                hint="remove one of the packages, or switch one of them off: `flpoc plugins disable NAME`",
            )
        raise PluginError(f"no {one} {name!r} is installed", hint=self._why_missing(one, name, offers))

    def _why_missing(self, one: str, name: str, offers: tuple[Offer, ...]) -> str:
        hints = []
        if guess := did_you_mean(name, [offer.name for offer in offers]):
            hints.append(guess)
        if package := _PACKAGES.get(name):
            hints.append(f"install {package}")
        for record in self.records:
            if record.state is not PluginState.LOADED:
                hints.append(f"plugin {record.name} is {record.state.value}: {record.reason}")
        return "; ".join(hints) or f"install a package that offers the {one} {name!r}"

    def create(self, kind: str, name: str, settings: Mapping[str, Any] | None = None) -> Any:
        """Make a component by its name, its settings checked.

        Raises:
            PluginError: It is missing, in conflict, or failed while it was made.
            ConfigError: Its settings are wrong; the message has the key's path.
        """
        offer = self.find(kind, name)
        checked = self.check(kind, name, settings or {})
        try:
            return offer.component.create(checked)
        except FlpocError:
            raise
        except Exception as error:
            raise PluginError(
                f"{offer.plugin.name}: {name!r} could not be made: {type(error).__name__}: {error}",
                code="PLUGIN_BROKEN",
                hint=f"see `flpoc plugins show {offer.plugin.name}`",
            ) from error

    def check(self, kind: str, name: str, settings: Mapping[str, Any]) -> Any:
        """Give the settings of a component as its own class; raises what :meth:`create` would, and makes nothing."""
        from flpoc.settings import structure

        settings_class = self.find(kind, name).component.settings
        return structure(dict(settings), settings_class, where=f"{singular(kind)}.{name}")

    def contributions(self, hook: str, **arguments: Any) -> tuple[tuple[PluginRecord, Any], ...]:
        """All that plugins contribute (``commands``, ``kit_files``, ...), each with its plugin."""
        return tuple(
            (self._records[name], item)
            for name, items in self._each(f"flpoc_{hook}", arguments)
            for item in items or ()
        )

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Ask a question; the first plugin with an answer, in the order of names, answers.

        A plugin that fails instead of answering is marked broken, and the next is asked.
        """
        for impl in self._implementations(f"flpoc_{hook}"):
            try:
                answer = impl.function(*(arguments[name] for name in impl.argnames))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - see _load
                self._mark_broken(impl.plugin_name, error, f"flpoc_{hook}")
                continue
            if answer is None or isinstance(answer, str):
                if answer is not None:
                    return answer
            else:
                wrong = TypeError(f"answered {type(answer).__name__} instead of text or None")
                self._mark_broken(impl.plugin_name, wrong, f"flpoc_{hook}")
        return None

    def hooks_of(self, name: str) -> tuple[str, ...]:
        """The hooks that a plugin answers, without ``flpoc_``; none if it is not loaded."""
        plugin = self._manager.get_plugin(name)
        callers = self._manager.get_hookcallers(plugin) or () if plugin is not None else ()
        return tuple(sorted(one.name.removeprefix("flpoc_") for one in callers))

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        return sorted(getattr(self._manager.hook, hook).get_hookimpls(), key=lambda impl: impl.plugin_name)

    def listeners(self) -> tuple[str, ...]:
        """Names of the plugins that want news."""
        return tuple(dict.fromkeys(impl.plugin_name for impl in self._implementations("flpoc_run_event")))

    def tell(self, event: Any, *, only: str = "") -> tuple[str, ...]:
        """Give news to every plugin, or to the one named; returns what went wrong, for the log."""
        troubles = []
        for impl in self._implementations("flpoc_run_event"):
            if only and impl.plugin_name != only:
                continue
            try:
                impl.function(*((event,) if impl.argnames else ()))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - news is never fatal, not even to one that exits
                troubles.append(f"{impl.plugin_name}: {_described(error)}")
        return tuple(troubles)

    def inventory(self) -> dict[str, str]:
        """What this process can do: ``kind/name`` to the version of its package."""
        return {
            f"{kind}/{offer.name}": offer.plugin.version or "0"
            for kind in OFFERS
            for offer in self.offers(kind)
            if kind not in ("formatters",)
        }


def _check_arguments(hook: str, function: Any, offered: tuple[str, ...]) -> None:
    """Refuse a hook that wants what its callers do not give."""
    import inspect

    for name, one in inspect.signature(function).parameters.items():
        if name not in offered and one.default is inspect.Parameter.empty:
            hint = did_you_mean(name, offered) or "it takes no arguments"
            raise PluginError(f"{hook}: there is no argument {name!r}", hint=hint)


def _installed() -> list[_Candidate]:
    from importlib_metadata import entry_points

    found = []
    for entry in entry_points(group=GROUP):
        name, version = _head(entry.dist) if entry.dist is not None else ("", "")
        found.append(_Candidate(entry.name, entry.value, name, version))
    return found


def _head(dist: Any) -> tuple[str, str]:
    """Name and version of a distribution, from the first lines of its metadata.

    ``dist.name`` would import the parser of e-mail, which takes as long as
    all the rest of finding plugins.
    """
    values = {"name": "", "version": ""}
    for line in (dist.read_text("METADATA") or dist.read_text("PKG-INFO") or "").splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and key.lower() in values:
            values[key.lower()] = value.strip()
    return values["name"], values["version"]


def singular(kind: str) -> str:
    """``launcher`` for ``launchers``, ``authority`` for ``authorities``."""
    return kind[:-3] + "y" if kind.endswith("ies") else kind[:-1]


def _described(error: BaseException) -> str:
    """What went wrong in a plugin, in one line, whatever it raised."""
    try:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, SyntaxError) and error.filename:  # its own text has no folder
            text = f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    except Exception:  # noqa: BLE001 - even saying what went wrong may go wrong
        text = type(error).__name__
    if isinstance(error, FlpocError):
        text = f"{error.message}; {error.hint}" if error.hint else error.message
    return " ".join(text.split())
