"""The command ``flpoc`` itself: core's commands and those of plugins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from flpoc.cli.command import Group, NoSuchCommand
from flpoc.cli.global_options import options_for_help
from flpoc.errors import FlpocError, PluginError

if TYPE_CHECKING:
    from flpoc.cli.call import Call
    from flpoc.plugins import PluginRecord

HELP = """Federated learning from proof of concept to production.

A POC is a server and its sites on this machine: prepare it, start it,
submit a job, download the result.
"""


#: Documented names beside those of the table.
_ALIASES: Final = {"preflight": "preflight-check"}


class Root(Group):
    """All commands; plugins are only asked for one that core does not have."""

    def __init__(self, call: Call, commands: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(
            "flpoc",
            help=HELP,
            table=commands,
            aliases=_ALIASES,
            params=options_for_help(),
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self._call = call
        self._found: dict[str, list[tuple[PluginRecord, click.Command]]] | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._of_plugins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        offered = self._of_plugins().get(cmd_name.replace("_", "-"), [])
        if len(offered) > 1:
            both = " and ".join(f"{one.name} ({one.distribution or one.module})" for one, _ in offered)
            raise PluginError(
                f"the command {cmd_name!r} is offered by {both}",
                code="PLUGIN_CONFLICT",
                hint="remove one of the packages, or switch one of them off: `flpoc plugins disable NAME`",
            )
        return offered[0][1] if offered else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            if troubles := self._troubles():
                raise NoSuchCommand(f"{error.message} {troubles}", error.possibilities, ctx) from None
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if troubles := self._troubles():
            formatter.write(f"\n{troubles}\n")

    def _troubles(self) -> str:
        """Name the plugins whose commands may be missing; empty if all could be loaded."""
        try:
            broken = [one.name for one in self._call.plugins.records if one.state.value in ("broken", "incompatible")]
        except FlpocError:
            return ""  # said already, when their commands were left out
        commands = f"{', '.join(broken)} could not be loaded: `flpoc plugins list` says why."
        return f"Plugin{'s' if len(broken) > 1 else ''} {commands}" if broken else ""

    def summaries(self, ctx: click.Context) -> Iterator[tuple[str, str]]:
        rows = dict(super().summaries(ctx))
        for name, offered in self._of_plugins().items():
            if len(offered) > 1:
                rows[name] = f"Offered by two plugins: {', '.join(one.name for one, _ in offered)}."
            elif not offered[0][1].hidden:
                rows[name] = offered[0][1].get_short_help_str(100)
        yield from sorted(rows.items())

    def _of_plugins(self) -> dict[str, list[tuple[PluginRecord, click.Command]]]:
        """Commands by name; what cannot be used is said once, and left out."""
        if self._found is None:
            self._found = {}
            try:
                contributed = self._call.plugins.contributions("commands")
            except FlpocError as error:
                self._call.note(f"Commands of plugins are left out: {error.message}")
                contributed = ()
            for record, command in contributed:
                if not isinstance(command, click.Command) or not command.name:
                    self._call.note(f"Plugin {record.name}: {command!r} is not a command with a name; it is left out.")
                elif command.name in self.table:
                    self._call.note(f"Plugin {record.name}: the command {command.name!r} is flpoc's own; left out.")
                else:
                    self._found.setdefault(command.name.replace("_", "-"), []).append((record, command))
        return self._found
