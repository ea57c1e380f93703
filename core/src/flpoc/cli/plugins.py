"""``flpoc plugins``: what is installed, and what each plugin offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import attrs
import click

from flpoc.cli.call import Call
from flpoc.cli.command import Group
from flpoc.errors import PluginError, did_you_mean
from flpoc.formatting import Report, Table
from flpoc.plugins import OFFERS, Offer, PluginRecord, Plugins, PluginState, singular

#: Sub-commands that are imported when they are called: name, where, one line of help.
_TABLE = (
    ("check", "flpoc.cli.plugins_check:check_plugins", "Check all plugins, or one."),
    ("new", "flpoc.cli.plugins_new:new_plugin", "Make the package of a new plugin, with its tests."),
)


@click.group(cls=Group, table=_TABLE, help="List and check installed plugins, and make new ones.")
def plugins() -> None:
    pass


@plugins.command("list", examples=("flpoc plugins list",), mutating=False, idempotent=True)
@click.pass_obj
def list_plugins(call: Call) -> Report:
    """List installed plugins and what each offers.

    A plugin that could not be loaded is listed with the reason; it stops no
    command that does not need it.
    """
    offers = _offers(call.plugins)
    rows = [_row(record, offers) for record in call.plugins.records]
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
@click.argument("name")
@click.pass_obj
def show_plugin(call: Call, name: str) -> Report:
    """Show a plugin or a component, and what can be set."""
    offers = _offers(call.plugins)
    records = [one for one in call.plugins.records if one.name == name]
    named = [one for one in offers if one.name == name]
    if not records and not named:
        known = {one.name for one in call.plugins.records} | {one.name for one in offers}
        raise PluginError(f"no plugin and no component is named {name!r}", hint=did_you_mean(name, known))
    shown = [
        *({"plugin": _row(one, offers)} for one in records),
        *({"component": _component(one)} for one in _shown_with(records, named, offers)),
    ]
    data = {
        "name": name,
        "plugin": next((one["plugin"] for one in shown if "plugin" in one), None),
        "components": [one["component"] for one in shown if "component" in one],
    }
    return Report(data=data, text=tuple(_text(data)))


def _offers(found: Plugins) -> list[Offer]:
    return [offer for kind in OFFERS for offer in found.offers(kind)]


def _shown_with(records: list[PluginRecord], named: list[Offer], offers: list[Offer]) -> list[Offer]:
    """A plugin's own components and whatever else has its name, each once."""
    owners = {one.name for one in records}
    of_plugin = [one for one in offers if one.plugin.name in owners]
    return [*of_plugin, *(one for one in named if one.plugin.name not in owners)]


def _row(record: PluginRecord, offers: list[Offer]) -> dict[str, Any]:
    mine = [f"{singular(one.kind)} {one.name}" for one in offers if one.plugin.name == record.name]
    return {
        "name": record.name,
        "version": record.version,
        "state": record.state.value,
        "offers": mine if record.state is PluginState.LOADED else [],
        "reason": record.reason,
        "distribution": record.distribution,
        "module": record.module,
    }


def _component(offer: Offer) -> dict[str, Any]:
    return {
        "name": offer.name,
        "kind": singular(offer.kind),
        "plugin": offer.plugin.name,
        "summary": offer.component.summary,
        "on_this_machine": offer.component.on_this_machine() if offer.component.on_this_machine else "",
        "settings": [_setting(field) for field in attrs.fields(offer.component.settings)],
    }


def _setting(field: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": field.name,
        "type": _type_name(field.type),
        "required": field.default is attrs.NOTHING,
    }
    if field.default is attrs.NOTHING:
        return {**found, "default": None}
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = None if default.takes_self else default.factory()
    return {**found, "default": default if isinstance(default, (str, int, float, bool, type(None))) else str(default)}


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _text(data: dict[str, Any]) -> Iterator[str | Table]:
    record = data["plugin"]
    if record is not None:
        where = f" ({record['distribution'] or record['module']} {record['version']})".replace(" )", ")")
        yield f"Plugin {record['name']}{where}: {record['state']}"
        if record["reason"]:
            yield f"Reason: {record['reason']}"
        if record["state"] == "loaded" and not data["components"]:
            yield "It offers no components."
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
    default = "(required)" if setting["required"] else "-" if setting["default"] is None else str(setting["default"])
    return setting["name"], setting["type"], default if default else '""'
