"""``flpoc recipe``: which recipes there are, what each takes, and a program's recipe as a job folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from flpoc.cli import suggest
from flpoc.cli.call import Call
from flpoc.cli.command import Group
from flpoc.cli.options import option
from flpoc.errors import UsageError, did_you_mean
from flpoc.formatting import Report, Table

if TYPE_CHECKING:
    from flpoc.recipe.catalogue import Listed

#: What ``--filter`` knows.
KEYS: Final = ("framework", "privacy", "algorithm", "aggregation", "state_exchange")

_EXPORT: Final = ("export", "flpoc.cli.recipe_export:export_recipe", "Write the job of a program that makes a recipe.")


@click.group(cls=Group, table=(_EXPORT,), invoke_without_command=True)
@click.pass_context
def recipe(ctx: click.Context) -> Report | None:
    """Show the recipes that there are; without a command, list them."""
    return None if ctx.invoked_subcommand is not None else _list(ctx.obj, {})


@recipe.command(
    "list",
    examples=("flpoc recipe list", "flpoc recipe list --framework numpy --filter algorithm=fedavg"),
    mutating=False,
    idempotent=True,
)
@option("--framework", "frameworks", multiple=True, metavar="NAME", shell_complete=suggest.recipe_frameworks,
        help="Only recipes of this framework.")  # fmt: skip
@option("--filter", "filters", multiple=True, metavar="KEY=VALUE", shell_complete=suggest.recipe_filters,
        help=f"Only recipes with this value. KEY is {', '.join(KEYS[:-1])} or {KEYS[-1]}.")  # fmt: skip
@click.pass_obj
def list_recipes(call: Call, frameworks: tuple[str, ...], filters: tuple[str, ...]) -> Report:
    """List the recipes of flpoc and of installed plugins; no framework is imported for it.

    Given again with the same key, --filter adds; different keys must all
    fit. Words are the same with - and _.
    """
    wanted: dict[str, list[str]] = {"framework": list(frameworks)} if frameworks else {}
    for one in filters:
        key, equals, value = one.partition("=")
        if not equals or not value:
            raise UsageError(f"--filter: {one!r} is not KEY=VALUE", hint="for example --filter algorithm=fedavg")
        key = key.replace("-", "_")
        if key not in KEYS:
            raise UsageError(f"--filter: there is no key {key!r}", hint=did_you_mean(key, KEYS))
        wanted.setdefault(key, []).append(value)
    return _list(call, wanted)


def _list(call: Call, wanted: Mapping[str, Iterable[str]]) -> Report:
    from flpoc.recipe.catalogue import catalogue

    recipes, troubles = catalogue(call.plugins)
    rows = [row(one) for one in recipes if _fits(row(one), wanted)]
    heads = ("name", "framework", "algorithm", "privacy", "description")
    table = Table(
        tuple(head.upper() for head in heads),
        tuple(tuple(_shown(one[head]) for head in heads) for one in rows),
    )
    known = ", ".join(sorted({one.entry.framework for one in recipes}))
    text = (table,) if rows else (f"No recipe fits. There are recipes for: {known}.",)
    return Report(data=rows, text=text, warnings=troubles)


def row(one: Listed) -> dict[str, Any]:
    """What the list says about a recipe."""
    entry = one.entry
    return {
        "name": entry.name,
        "description": entry.description,
        "framework": entry.framework,
        "module": one.module,
        "class": one.cls,
        "algorithm": entry.algorithm,
        "aggregation": entry.aggregation,
        "state_exchange": entry.state_exchange,
        "privacy": list(entry.privacy),
    }


def _fits(found: Mapping[str, Any], wanted: Mapping[str, Iterable[str]]) -> bool:
    from flpoc.recipe.catalogue import same

    has = {key: found[key] if isinstance(found[key], list) else [found[key]] for key in wanted}
    return all(any(same(one, other) for one in has[key] for other in values) for key, values in wanted.items())


@recipe.command("show", examples=("flpoc recipe show fedavg-numpy",), mutating=False, idempotent=True)
@click.argument("name", shell_complete=suggest.recipe_names)
@click.pass_obj
def show(call: Call, name: str) -> Report:
    """Show everything about a recipe: how to import it, what it takes, what it needs."""
    import attrs

    from flpoc.recipe.catalogue import catalogue, find

    recipes, troubles = catalogue(call.plugins)
    found = find(recipes, name)
    entry = found.entry
    data = {
        **row(found),
        "client_requirements": dict(entry.client_requirements),
        "framework_support": list(entry.framework_support),
        "heterogeneity_support": list(entry.heterogeneity_support),
        "privacy_compatible": list(entry.privacy_compatible),
        "parameters": [attrs.asdict(one) for one in found.parameters],
        "optional_dependencies": list(entry.optional_dependencies),
        "template_references": list(entry.template_references),
        "notes": list(entry.notes),
    }
    return Report(data=data, text=tuple(_about(found, data)), warnings=troubles)


def _about(found: Listed, data: Mapping[str, Any]) -> Iterable[str | Table]:
    yield f"{found.entry.name}: {found.entry.description}"
    yield f"  from {found.module} import {found.cls}\n"
    for key in ("framework", "algorithm", "aggregation", "state_exchange", "privacy"):
        yield f"{key.replace('_', ' ').capitalize()}: {_shown(data[key])}"
    yield ""
    rows = ((one.name, one.type or "-", "required" if one.required else repr(one.default)) for one in found.parameters)
    yield Table(("PARAMETER", "TYPE", "DEFAULT"), tuple(rows))
    yield ""
    for key, value in data["client_requirements"].items():
        yield f"Client, {key}: {value}"
    for key in ("framework_support", "heterogeneity_support", "privacy_compatible", "optional_dependencies"):
        if data[key]:
            yield f"{key.replace('_', ' ').capitalize()}: {_shown(data[key])}"
    if data["template_references"]:
        yield f"Templates: {_shown(data['template_references'])}"
    yield from (f"Note: {note}" for note in data["notes"])


def _shown(value: Any) -> str:
    return (", ".join(value) or "-") if isinstance(value, list) else str(value or "-")
