"""``flpoc plugins check``: whether installed plugins keep what they promise, as far as can be seen at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.components import Component
from flpoc.errors import ConfigError, FlpocError, PluginError, did_you_mean
from flpoc.formatting import Report, Table
from flpoc.plugins import OFFERS, Offer, PluginRecord, Plugins, PluginState, singular

#: Packages that no plugin may import before something of it is made: every command would wait for them.
HEAVY: Final = frozenset(
    (
        "cryptography",
        "docker",
        "grpc",
        "kubernetes",
        "mlflow",
        "msgspec",
        "numpy",
        "pandas",
        "pyhocon",
        "scipy",
        "sklearn",
        "tenseal",
        "tensorboard",
        "tensorflow",
        "torch",
        "wandb",
        "xgboost",
        "yaml",
    )
)
LONGEST_SUMMARY: Final = 100
NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_IMPORT = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
for kind in sys.argv[2].split():
    ask = getattr(module, "flpoc_" + kind, None)
    if ask is not None:
        list(ask() or ())
heavy = set(sys.argv[3].split())
print(*sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
_PATIENCE = 60

Verdict = Literal["ok", "skipped", "warning", "error"]


@attrs.frozen
class Finding:
    """What one look at a plugin, or at something of it, has shown.

    Attributes:
        plugin: Name of the plugin.
        what: ``plugin``, or a kind and a name: ``launcher local``.
        status: Whether it is as it should be.
        details: What is wrong, or what there is.
    """

    plugin: str
    what: str
    status: Verdict
    details: str = ""


@click.command(
    "check",
    cls=Command,
    examples=("flpoc plugins check", "flpoc plugins check core"),
    mutating=False,
    idempotent=True,
)
@click.argument("name", required=False)
@click.pass_obj
def check_plugins(call: Call, name: str | None) -> Report:
    """Check all plugins, or the one called NAME.

    Each is loaded and asked for everything that it has; what needs no
    settings is made. Ends with 1 if something is wrong.
    """
    plugins, commands = call.plugins, _own_commands()
    _ask_everything(plugins)
    chosen = _chosen(plugins, name)
    found = [finding for record in chosen for finding in findings(record, plugins, commands)]
    table = Table(
        ("plugin", "what", "status", "details"),
        tuple((one.plugin, one.what, one.status, one.details or "-") for one in found),
    )
    wrong, doubtful = (sum(one.status == status for one in found) for status in ("error", "warning"))
    said = f"Errors: {wrong}, warnings: {doubtful}." if wrong or doubtful else "Nothing is wrong."
    return Report(
        data=[attrs.asdict(one) for one in found],
        text=(said, table),
        exit_status=1 if wrong else 0,
        code="PLUGIN_CHECK_FAILED" if wrong else "",
        hint="repair or remove the package, or `flpoc plugins disable NAME`" if wrong else "",
    )


def _own_commands() -> frozenset[str]:
    from flpoc.cli.main import COMMANDS

    return frozenset(name for name, _, _ in COMMANDS)


def _chosen(plugins: Plugins, name: str | None) -> list[PluginRecord]:
    if name is None:
        return list(plugins.records)
    offered = {offer.plugin.name for offer in _offers(plugins) if offer.name == name}
    found = [one for one in plugins.records if one.name == name or one.name in offered]
    if not found:
        known = {one.name for one in plugins.records}
        raise PluginError(f"no plugin is named {name!r}", hint=did_you_mean(name, known))
    return found


def _offers(plugins: Plugins) -> list[Offer]:
    return [offer for kind in OFFERS for offer in plugins.offers(kind)]


def _ask_everything(plugins: Plugins) -> None:
    """Ask all that has an answer; who fails is marked broken by the loader."""
    from flpoc.provision.project_file import sample_project

    _offers(plugins)
    project = sample_project(["site-1", "site-2"])
    for hook in ("commands", "job_templates"):
        plugins.contributions(hook)
    for hook in ("kit_files", "checks"):
        plugins.contributions(hook, project=project)


def findings(record: PluginRecord, plugins: Plugins, own_commands: Iterable[str] = ()) -> Iterator[Finding]:
    """Say what is to be said about one plugin that was asked for everything."""
    if record.state is PluginState.DISABLED:
        yield Finding(record.name, "plugin", "skipped", f"disabled: {record.reason}")
        return
    if record.state is not PluginState.LOADED:
        yield Finding(record.name, "plugin", "error", f"{record.state.value}: {record.reason}")
        return
    yield Finding(record.name, "plugin", *_weight(record.module))
    for offer in _offers(plugins):
        if offer.plugin.name == record.name:
            yield Finding(record.name, f"{singular(offer.kind)} {offer.name}", *_offer_verdict(offer, plugins))
    commands = plugins.contributions("commands")
    for one, command in commands:
        if one.name == record.name:
            named = _name_of(command)
            rivals = [other.name for other, theirs in commands if theirs is not command and _name_of(theirs) == named]
            yield Finding(record.name, f"command {named}", *_command_verdict(command, own_commands, rivals))
    for one, folder in plugins.contributions("job_templates"):
        if one.name == record.name:
            named = folder.name if isinstance(folder, Path) else repr(folder)
            yield Finding(record.name, f"job template {named}", *_template_verdict(folder))


def _template_verdict(folder: Any) -> tuple[Verdict, str]:
    from flpoc.jobs.folder import read_job
    from flpoc.jobs.templates import read_info

    if not isinstance(folder, Path):
        return "error", f"{type(folder).__name__} is not a path"
    try:
        read_job(folder)
        info = read_info(folder)
    except FlpocError as error:
        return "error", error.message
    return (
        ("ok", info.description) if info.description else ("warning", f"{folder / 'info.conf'} describes it to nobody")
    )


def _weight(module: str) -> tuple[Verdict, str]:
    try:
        heavy = heavy_imports(module)
    except (OSError, subprocess.SubprocessError) as error:
        return "error", f"importing it by itself fails: {_last_line(error)}"
    if heavy:
        return "warning", f"imports {', '.join(heavy)} before anything is made: every command waits for that"
    return "ok", ""


def heavy_imports(module: str, heavy: Iterable[str] = HEAVY) -> list[str]:
    """Import a plugin and ask it, in a process of its own; gives what it should not have imported.

    Raises:
        CalledProcessError: It cannot be imported or asked; its ``stderr`` says why.
    """
    argv = [sys.executable, "-c", _IMPORT, module, " ".join((*OFFERS, "commands")), " ".join(heavy)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    return done.stdout.split()


def _last_line(error: Exception) -> str:
    said = getattr(error, "stderr", None)
    return str(said).strip().splitlines()[-1] if said and str(said).strip() else str(error)


def _offer_verdict(offer: Offer, plugins: Plugins) -> tuple[Verdict, str]:
    component = offer.component
    if problem := name_problem(component.name):
        return "error", problem
    if not (isinstance(component.settings, type) and attrs.has(component.settings)):
        return "error", "its settings are not an attrs class"
    try:
        plugins.find(offer.kind, offer.name)
    except PluginError as clash:
        return "error", clash.message
    verdict, details = _made(component)
    if verdict == "ok" and (problem := summary_problem(component.summary)):
        return "warning", problem
    return verdict, details


def name_problem(name: str) -> str:
    """What is wrong with the name of a component; empty if nothing is."""
    return "" if NAME.fullmatch(name) else "its name is not made of short words of small letters with - or _ between"


def summary_problem(summary: str) -> str:
    """What is wrong with a summary; empty if nothing is."""
    lines = summary.splitlines()
    if len(lines) != 1 or not 0 < len(lines[0].strip()) <= LONGEST_SUMMARY:
        return f"its summary is not one line of at most {LONGEST_SUMMARY} letters"
    return ""


def _made(component: Component[Any]) -> tuple[Verdict, str]:
    from flpoc.settings import structure

    try:
        settings = structure({}, component.settings, where=component.name)
    except ConfigError:
        needed = [one.name for one in attrs.fields(component.settings) if one.default is attrs.NOTHING]
        return "ok", f"needs settings: {', '.join(needed)}"
    try:
        made = component.create(settings)
    except FlpocError as missing:
        if missing.hint:
            return "warning", f"cannot be made here: {missing.message} ({missing.hint})"
        return "error", f"cannot be made, and does not say what to do: {missing.message}"
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is the finding
        return "error", f"cannot be made: {type(error).__name__}: {error}"
    return ("ok", "") if made is not None else ("error", "makes None")


def _command_verdict(command: Any, own: Iterable[str], rivals: list[str]) -> tuple[Verdict, str]:
    if not isinstance(command, click.Command) or not command.name:
        return "error", "is not a click command with a name"
    if command.name in own:
        return "error", "flpoc has a command of this name, which is used instead"
    if rivals:
        return "error", f"also offered by {' and '.join(rivals)}"
    return "ok", ""


def _name_of(command: Any) -> str:
    return str(getattr(command, "name", None) or repr(command)).replace("_", "-")
