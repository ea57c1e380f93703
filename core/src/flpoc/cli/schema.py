"""What a command takes and does, as data (``--schema``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from flpoc.cli.options import Number, Option, canonical


def leaf(root: click.Group, words: Sequence[str]) -> click.Context:
    """Find the command that *words* call, without reading its options.

    Raises:
        click.UsageError: There is no such command, or it is a group.
    """
    ctx = click.Context(root, info_name=root.name, **root.context_settings)
    for word in words:
        if word.startswith("-"):
            continue
        command = ctx.command
        if not isinstance(command, click.Group):
            break
        found = command.get_command(ctx, word)
        if found is None:
            if command.invoke_without_command and ctx.parent is not None:
                break
            command.resolve_command(ctx, [word])
        assert found is not None
        ctx = click.Context(found, parent=ctx, info_name=found.name)
    if isinstance(ctx.command, click.Group) and not ctx.command.invoke_without_command:
        raise click.UsageError(f"{ctx.command_path}: --schema describes one command; name it.", ctx)
    return ctx


def schema(ctx: click.Context) -> dict[str, Any]:
    """Describe the command of *ctx*."""
    command = ctx.command
    found: dict[str, Any] = {
        "schema_version": "1",
        "command": ctx.command_path,
        "description": _words(command.help),
        "args": [_argument(one, ctx) for one in command.params if not getattr(one, "hidden", False)],
        "examples": list(getattr(command, "examples", ())),
    }
    if command.deprecated:
        found["deprecated"] = True
        found["deprecated_message"] = command.deprecated if isinstance(command.deprecated, str) else ""
    for fact in ("streaming", "mutating", "idempotent"):
        if hasattr(command, fact):
            found[fact] = getattr(command, fact)
    if hasattr(command, "output_modes"):
        found["output_modes"] = list(command.output_modes)
    if hasattr(command, "retry_token"):
        found["retry_token"] = _retry_token(command.retry_token)
    return found


def _retry_token(token: Any) -> dict[str, Any]:
    if token is None:
        return {"supported": False}
    return {
        "supported": True,
        "flag": token.flag,
        "scope": token.scope,
        "retry_safe_when_present": True,
        "effect": token.effect,
    }


def _words(text: str | None) -> str:
    return " ".join((text or "").replace("\b", "").split())


def _argument(param: click.Parameter, ctx: click.Context) -> dict[str, Any]:
    is_option = isinstance(param, click.Option)
    spellings = [*param.opts, *param.secondary_opts] if is_option else []
    name = max(spellings, key=len) if spellings else str(param.name)
    found: dict[str, Any] = {
        "name": name,
        "type": _type(param, name),
        "required": param.required,
        "description": _words(getattr(param, "help", None)),
        "default": _default(param, ctx),
    }
    choices = getattr(_inner(param), "choices", None)
    if choices:
        found["choices"] = [str(one) for one in choices]
    aliases = [one for one in spellings if one != name]
    if aliases:
        found["aliases"] = aliases
    if nargs := _nargs(param):
        found["nargs"] = nargs
    return found


def _inner(param: click.Parameter) -> Any:
    return getattr(param.type, "each", param.type)


def _type(param: click.Parameter, name: str) -> str:
    kind = _inner(param)
    if getattr(param, "is_flag", False):
        return "boolean"
    if isinstance(kind, Number):
        return "integer" if kind.kind is int else "number"
    if kind.name.startswith(("integer", "float")):
        return "integer" if kind.name.startswith("integer") else "number"
    if re.search("dir|path|file|output|folder", canonical(name)):
        return "path"
    return "string"


def _nargs(param: click.Parameter) -> str:
    if isinstance(param, Option) and param.words:
        return "+"
    if isinstance(param, Option) and param.value_is_optional:
        return "?"
    if param.nargs == -1:
        return "+" if param.required else "*"
    return ""


def _default(param: click.Parameter, ctx: click.Context) -> Any:
    value = param.to_info_dict().get("default")
    if callable(value):
        value = param.get_default(ctx)
    if isinstance(value, (tuple, list)):
        return list(value) or None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
