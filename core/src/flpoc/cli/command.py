"""Commands and groups: what each declares about itself, and sub-commands that are imported when called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import click

from flpoc.cli import colours
from flpoc.cli.call import Call
from flpoc.cli.options import rewrite

#: Formats of core; a plugin's format may be used with every command.
CORE_FORMATS: Final = ("txt", "json", "jsonl")


@attrs.frozen
class RetryToken:
    """An option that makes a command safe to repeat.

    Attributes:
        flag: The option.
        scope: Within what a token is unique.
        effect: What the second call with the same token does.
    """

    flag: str
    scope: str
    effect: str


@attrs.frozen
class Record:
    """One step of a streaming command.

    Attributes:
        data: What programs read, one JSON object a line.
        text: What people read; empty for nothing.
    """

    data: Mapping[str, Any]
    text: str = ""


class NoSuchCommand(click.UsageError):
    """A group has no such command; *possibilities* are like what was written."""

    def __init__(self, message: str, possibilities: Sequence[str], ctx: click.Context) -> None:
        super().__init__(message, ctx)
        self.possibilities = possibilities


class HelpFormatter(click.HelpFormatter):
    """Help with headings that stand out on a terminal."""

    def write_heading(self, heading: str) -> None:
        shown = colours.wanted(sys.stdout) and colours.wanted(sys.stderr)
        bold = colours.paint(f"{heading}:", colours.BOLD) if shown else f"{heading}:"
        self.write(f"{'':>{self.current_indent}}{bold}\n")


class Context(click.Context):
    """The context of flpoc's own commands and groups."""

    formatter_class = HelpFormatter


class Command(click.Command):
    """A command of flpoc; its callback returns a Report, or yields Records and then returns one.

    Args:
        examples: Command lines that work as they stand; a test runs each.
        mutating: It changes something.
        idempotent: Twice is the same as once.
        streaming: It yields records while it runs (``--format jsonl``).
        retry_token: The option that makes it safe to repeat.
        aliases: Other names of it in its group.
    """

    context_class = Context

    def __init__(
        self,
        *arguments: Any,
        examples: Sequence[str],
        mutating: bool,
        idempotent: bool,
        streaming: bool = False,
        retry_token: RetryToken | None = None,
        aliases: Sequence[str] = (),
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.examples = tuple(examples)
        self.mutating = mutating
        self.idempotent = idempotent
        self.streaming = streaming
        self.retry_token = retry_token
        self.aliases = tuple(aliases)

    @property
    def output_modes(self) -> tuple[str, ...]:
        return CORE_FORMATS if self.streaming else CORE_FORMATS[:2]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, rewrite(self.get_params(ctx), args, ctx))

    def invoke(self, ctx: click.Context) -> Any:
        call = ctx.ensure_object(Call)
        return call.run(self, lambda: super(Command, self).invoke(ctx), debug=bool(ctx.params.get("debug")))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)


def write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """Write a help page's section of examples, each on a line that can be copied."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class Group(click.Group):
    """Commands under one name; ``_`` equals ``-``, and a wrong name is answered with the right one.

    Args:
        table: Commands that are imported only when called: name, ``module:attribute``, one line of help.
        aliases: Other names of commands of the table.
        mutating: Its own options change something, where it can be called without a command.
    """

    command_class = Command
    context_class = Context

    def __init__(
        self,
        *arguments: Any,
        table: Sequence[tuple[str, str, str]] = (),
        aliases: Mapping[str, str] | None = None,
        mutating: bool = False,
        **attributes: Any,
    ) -> None:
        attributes.setdefault("no_args_is_help", False)
        super().__init__(*arguments, **attributes)
        self.table = {name: (place, summary) for name, place, summary in table}
        self.aliases = dict(aliases or {})
        self.mutating = mutating
        self.idempotent = True

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self.table})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("_", "-")
        name = self.aliases.get(name, name)
        if name in self.commands:
            return self.commands[name]
        if name in self.table:
            module, _, attribute = self.table[name][0].partition(":")
            found = getattr(importlib.import_module(module), attribute)
            assert isinstance(found, click.Command)
            return found
        by_alias = (one for one in self.commands.values() if name in getattr(one, "aliases", ()))
        return next(by_alias, None)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not self.invoke_without_command:
            known = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"{ctx.command_path}: a sub-command is missing; there are: {known}.", ctx)
        split = next((at for at, word in enumerate(args) if not word.startswith("-")), len(args))
        if self.invoke_without_command and (split == len(args) or not self._is_command(ctx, args[split])):
            split = len(args)
        return super().parse_args(ctx, rewrite(self.get_params(ctx), args[:split], ctx) + args[split:])

    def _is_command(self, ctx: click.Context, word: str) -> bool:
        return self.get_command(ctx, word) is not None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        found = self.get_command(ctx, name)
        if found is not None:
            return found.name or name, found, args[1:]
        from difflib import get_close_matches

        close = get_close_matches(name.replace("_", "-"), self.list_commands(ctx), n=1, cutoff=0.5)
        raise NoSuchCommand(f"{ctx.command_path} has no command {name!r}.", close, ctx)

    def summaries(self, ctx: click.Context) -> Iterator[tuple[str, str]]:
        """Name and one line of help of every command; imports none of the table."""
        for name in self.list_commands(ctx):
            if name in self.table:
                yield name, self.table[name][1]
            elif (found := self.commands.get(name)) is not None and not found.hidden:
                yield name, found.get_short_help_str(100)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = list(self.summaries(ctx))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        if self.invoke_without_command and not ctx.args and not getattr(ctx, "_protected_args", ()):
            call = ctx.ensure_object(Call)
            return call.run(self, lambda: super(Group, self).invoke(ctx), debug=False)
        return super().invoke(ctx)
