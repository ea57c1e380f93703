"""``flpoc plugins load | unload | disable | enable``: which plugins this user's commands have."""

from __future__ import annotations

import re
from typing import Final

import attrs
import click

from flpoc.cli import suggest
from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.configuration import Configuration
from flpoc.errors import PluginError, UsageError, did_you_mean
from flpoc.formatting import Report
from flpoc.plugins import PluginRecord, Plugins, PluginState

_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@click.command("load", cls=Command, examples=("flpoc plugins load acme.hooks",), mutating=True, idempotent=True)
@click.argument("module")
def load_plugin(module: str) -> Report:
    """Load a private plugin: a module with hooks that no installed package offers.

    All commands of this user load it from now on. Python must find it: as an
    installed package, or by PYTHONPATH.
    """
    found = Configuration.load()
    record = _tried(module)
    was = module in found.plugins_load
    if not was:
        found = attrs.evolve(found, plugins_load=(*found.plugins_load, module))
        found.save()
    warnings = []
    if module in found.plugins_disable:
        warnings.append(f"{module} is switched off; `flpoc plugins enable {module}` switches it on.")
    said = f"Plugin {module} is loaded{' already' if was else ' by every command from now on'}."
    return _report(found, record.name, said, changed=not was, warnings=warnings)


@click.command("unload", cls=Command, examples=("flpoc plugins unload acme.hooks",), mutating=True, idempotent=True)
@click.argument("module")
@click.pass_obj
def unload_plugin(call: Call, module: str) -> Report:
    """Load a private plugin no more; its module stays."""
    found = Configuration.load()
    if module not in found.plugins_load:
        why = f"{module} is no private plugin of this configuration."
        if any(one.name == module and one.distribution for one in call.plugins.records):
            why = f"{why} It is installed: `flpoc plugins disable {module}` switches it off."
        elif found.plugins_load:
            why = f"{why} {did_you_mean(module, found.plugins_load)}"
        return _report(found, module, "", changed=False, warnings=[why])
    changed = attrs.evolve(found, plugins_load=tuple(one for one in found.plugins_load if one != module))
    changed.save()
    return _report(changed, module, f"Plugin {module} is not loaded any more.", changed=True)


@click.command("disable", cls=Command, examples=("flpoc plugins disable local",), mutating=True, idempotent=True)
@click.argument("name", shell_complete=suggest.plugins)
@click.pass_obj
def disable_plugin(call: Call, name: str) -> Report:
    """Switch a plugin off: commands of this user do not even import it.

    Servers and sites are not concerned: they load what their project names.
    """
    found = Configuration.load()
    if name == "core":
        raise UsageError("core cannot be switched off", hint="`flpoc plugins list` shows the others")
    if name in found.plugins_disable:
        return _report(found, name, f"Plugin {name} is switched off already.", changed=False)
    _known(call, name, found)
    changed = attrs.evolve(found, plugins_disable=(*found.plugins_disable, name))
    changed.save()
    return _report(changed, name, f"Plugin {name} is switched off.", changed=True)


@click.command("enable", cls=Command, examples=("flpoc plugins enable local",), mutating=True, idempotent=True)
@click.argument("name", shell_complete=suggest.plugins)
@click.pass_obj
def enable_plugin(call: Call, name: str) -> Report:
    """Switch a plugin on again."""
    found = Configuration.load()
    if name not in found.plugins_disable:
        _known(call, name, found)
        return _report(found, name, f"Plugin {name} is not switched off.", changed=False)
    changed = attrs.evolve(found, plugins_disable=tuple(one for one in found.plugins_disable if one != name))
    changed.save()
    return _report(changed, name, f"Plugin {name} is switched on.", changed=True)


def _tried(module: str) -> PluginRecord:
    """Load a module as the plugin that it is to be.

    Raises:
        UsageError: It is the plugin of an installed package, or no name of a module.
        PluginError: It cannot be loaded, or is no plugin.
    """
    if not _MODULE.fullmatch(module):
        raise UsageError(f"{module[:80]!r} is not the name of a module", hint="acme.hooks is that of acme/hooks.py")
    for one in Plugins.load(only=()).records:
        if module in (one.name, one.module):
            hint = f"it is loaded unless `flpoc plugins disable {one.name}` switches it off"
            raise UsageError(f"{module} is plugin {one.name} of an installed package", hint=hint)
    record = next(one for one in Plugins.load(private=(module,), only=(module,)).records if one.name == module)
    if record.state is PluginState.LOADED:
        return record
    hint = "see its source" if record.state is PluginState.BROKEN else "a plugin says FLPOC_API = 1, and has hooks"
    if "ModuleNotFoundError" in record.reason:
        hint = "install what is missing, or put the folder that has it into PYTHONPATH"
    raise PluginError(f"{module} cannot be loaded: {record.reason}", code="PLUGIN_BROKEN", hint=hint)


def _known(call: Call, name: str, found: Configuration) -> None:
    known = {one.name for one in call.plugins.records} - {"core"}
    if name not in known | {"core"}:
        raise PluginError(f"no plugin is named {name!r}", hint=did_you_mean(name, {*known, *found.plugins_disable}))


def _report(found: Configuration, name: str, said: str, *, changed: bool, warnings: list[str] | None = None) -> Report:
    data = {
        "name": name,
        "changed": changed,
        "load": list(found.plugins_load),
        "disable": list(found.plugins_disable),
        "config_file": str(found.path or ""),
    }
    return Report(data=data, text=(said or "Nothing was changed.",), warnings=warnings or [])
