"""``flpoc plugins``: what is installed, and what each plugin offers."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import click

from flpoc.cli import suggest
from flpoc.cli.call import Call
from flpoc.cli.command import Group
from flpoc.errors import PluginError, did_you_mean
from flpoc.formatting import Report, Table
from flpoc.plugins import OFFERS, Offer, PluginRecord, Plugins, PluginState, singular

#: Sub-commands that are imported when they are called: name, where, one line of help.
_TABLE = (
    ("check", "flpoc.cli.plugins_check:check_plugins", "Check all plugins, or one."),
    ("disable", "flpoc.cli.plugins_change:disable_plugin", "Switch a plugin off: it is not even imported."),
    ("enable", "flpoc.cli.plugins_change:enable_plugin", "Switch a plugin on again."),
    ("load", "flpoc.cli.plugins_change:load_plugin", "Load a private plugin: a module with hooks."),
    ("new", "flpoc.cli.plugins_new:new_plugin", "Make the package of a new plugin, with its tests."),
    ("unload", "flpoc.cli.plugins_change:unload_plugin", "Load a private plugin no more; its module stays."),
)


#: What plugins do besides offering components and commands, by hook.
_OTHERS: Final = {
    "kit_files": "files of kits",
    "checks": "checks of projects",
    "job_templates": "job templates",
    "framework_for": "models of frameworks",
    "error_hint": "hints on errors",
    "run_event": "hears of jobs",
}


@click.group(cls=Group, table=_TABLE, help="List and check plugins, choose which are used, and make new ones.")
def plugins() -> None:
    pass


@plugins.command("list", examples=("flpoc plugins list",), mutating=False, idempotent=True)
@click.pass_obj
def list_plugins(call: Call) -> Report:
    """List installed plugins and what each offers.

    A plugin that could not be loaded is listed with the reason; it stops no
    command that does not need it.
    """
    found = _Found.of(call.plugins)
    offers = found.offers
    rows = [found.row(record) for record in call.plugins.records]
    table = Table(
        ("name", "version", "state", "offers"),
        tuple((row["name"], row["version"] or "-", row["state"], ", ".join(row["offers"]) or "-") for row in rows),
    )
    warnings = [f"Plugin {row['name']} is {row['state']}: {row['reason']}" for row in rows if row["reason"]]
    return Report(data=rows, text=(table,), warnings=[*warnings, *_clashes(offers)])


def _clashes(offers: list[Offer]) -> Iterator[str]:
    """What cannot be asked for, because several plugins offer it under one name."""
    for kind, name in dict.fromkeys((one.kind, one.name) for one in offers):
        owners = [one.plugin.name for one in offers if (one.kind, one.name) == (kind, name)]
        if len(owners) > 1:
            yield f"The {singular(kind)} {name} is offered by {' and '.join(owners)}: it cannot be used."


@plugins.command(
    "show",
    examples=("flpoc plugins show core", "flpoc plugins show fedavg"),
    mutating=False,
    idempotent=True,
)
@click.argument("name", shell_complete=suggest.plugins)
@click.pass_obj
def show_plugin(call: Call, name: str) -> Report:
    """Show a plugin or a component, and what can be set."""
    found = _Found.of(call.plugins)
    offers = found.offers
    records = [one for one in call.plugins.records if one.name == name]
    named = [one for one in offers if one.name == name]
    if not records and not named:
        known = {one.name for one in call.plugins.records} | {one.name for one in offers}
        raise PluginError(f"no plugin and no component is named {name!r}", hint=did_you_mean(name, known))
    shown = [
        *({"plugin": found.row(one)} for one in records),
        *({"component": _component(one)} for one in _shown_with(records, named, offers)),
    ]
    data = {
        "name": name,
        "plugin": next((one["plugin"] for one in shown if "plugin" in one), None),
        "components": [one["component"] for one in shown if "component" in one],
    }
    return Report(data=data, text=tuple(_text(data)))


@attrs.frozen
class _Found:
    """Everything that the plugins do: components, commands, and the other hooks that they answer."""

    plugins: Plugins
    offers: list[Offer]
    commands: list[tuple[str, str]]

    @classmethod
    def of(cls, plugins: Plugins) -> _Found:
        commands = [(one.name, str(item.name)) for one, item in plugins.contributions("commands") if _is_command(item)]
        return cls(plugins, [offer for kind in OFFERS for offer in plugins.offers(kind)], commands)

    def row(self, record: PluginRecord) -> dict[str, Any]:
        return {
            "name": record.name,
            "version": record.version,
            "state": record.state.value,
            "offers": self._does(record.name) if record.state is PluginState.LOADED else [],
            "reason": record.reason,
            "distribution": record.distribution,
            "module": record.module,
        }

    def _does(self, name: str) -> list[str]:
        components = [f"{singular(one.kind)} {one.name}" for one in self.offers if one.plugin.name == name]
        commands = [f"command {command}" for owner, command in self.commands if owner == name]
        answered = self.plugins.hooks_of(name)
        return [*components, *commands, *(text for hook, text in _OTHERS.items() if hook in answered)]


def _is_command(item: Any) -> bool:
    return isinstance(item, click.Command) and bool(item.name)


def _shown_with(records: list[PluginRecord], named: list[Offer], offers: list[Offer]) -> list[Offer]:
    """A plugin's own components and whatever else has its name, each once."""
    owners = {one.name for one in records}
    of_plugin = [one for one in offers if one.plugin.name in owners]
    return [*of_plugin, *(one for one in named if one.plugin.name not in owners)]


def _component(offer: Offer) -> dict[str, Any]:
    hints = get_type_hints(offer.component.settings)
    return {
        "name": offer.name,
        "kind": singular(offer.kind),
        "plugin": offer.plugin.name,
        "summary": offer.component.summary,
        "on_this_machine": offer.component.on_this_machine() if offer.component.on_this_machine else "",
        "settings": [_setting(field, hints[field.name]) for field in attrs.fields(offer.component.settings)],
    }


def _setting(field: Any, kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": field.name,
        "type": _type_name(kind),
        "required": field.default is attrs.NOTHING,
    }
    if field.default is attrs.NOTHING:
        return {**found, "default": None}
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = None if default.takes_self else default.factory()
    if isinstance(default, (tuple, list)):
        return {**found, "default": [str(one) for one in default]}
    return {**found, "default": default if isinstance(default, (str, int, float, bool, type(None))) else str(default)}


def _type_name(kind: Any) -> str:
    """A type as users write its values: ``a or b``, ``list of str``, ``int or nothing``."""
    inner, origin = get_args(kind), get_origin(kind)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if one is type(None) else _type_name(one) for one in inner)
    if origin in (tuple, list, Sequence):
        return f"list of {_type_name(inner[0])}"
    if origin in (dict, Mapping):
        return f"keys and values ({_type_name(inner[-1])})"
    if isinstance(kind, type):
        return kind.__name__
    return str(kind).removeprefix("typing.")


def _text(data: dict[str, Any]) -> Iterator[str | Table]:
    record = data["plugin"]
    if record is not None:
        where = f" ({record['distribution'] or record['module']} {record['version']})".replace(" )", ")")
        yield f"Plugin {record['name']}{where}: {record['state']}"
        if record["reason"]:
            yield f"Reason: {record['reason']}"
        named = {f"{one['kind']} {one['name']}" for one in data["components"]}
        if more := [one for one in record["offers"] if one not in named]:
            yield f"It has: {', '.join(more)}"
        elif record["state"] == "loaded" and not data["components"]:
            yield "It offers nothing."
    for number, one in enumerate(data["components"]):
        if number or record is not None:
            yield ""
        yield f"{one['kind']} {one['name']}, of plugin {one['plugin']}: {one['summary']}"
        if one["on_this_machine"]:
            yield one["on_this_machine"]
        if one["settings"]:
            yield Table(("setting", "type", "default"), tuple(_cells(setting) for setting in one["settings"]))
        else:
            yield "Nothing can be set."


def _cells(setting: dict[str, Any]) -> tuple[str, str, str]:
    value = setting["default"]
    if setting["required"]:
        default = "(required)"
    elif value is None or isinstance(value, list):
        default = ", ".join(value or ()) or "-"
    else:
        default = str(value) or '""'
    return setting["name"], setting["type"], default
