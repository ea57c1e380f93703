"""What options and arguments may be given, for completion: ``shell_complete=suggest.job_ids``.

Each gives what there is; a server is asked only for half a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from flpoc.session import Session

T = TypeVar("T")

#: A user waits for the next word with a finger on the key.
PATIENCE: Final = 0.5


def kit_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The registered startup kits."""
    from flpoc.configuration import Configuration

    found = Configuration.load()
    return _items((name, "active" if name == found.active else path) for name, path in found.kits.items())


def launchers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The launchers that are installed."""
    return _items((one.name, one.component.summary) for one in ctx.obj.plugins.offers("launchers"))


def plugins(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The plugins that are installed, loaded or not."""
    return _items((one.name, one.state.value) for one in ctx.obj.plugins.records)


def services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The server and the sites of the proof of concept."""
    from flpoc.configuration import Configuration, poc_workspace
    from flpoc.poc.workspace import open_workspace

    found = open_workspace(poc_workspace(Configuration.load()))
    return _items((one.name, one.kind) for one in found.services)


def recipe_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The recipes of the catalogue."""
    from flpoc.recipe.catalogue import catalogue

    return _items((one.entry.name, one.entry.description) for one in catalogue(ctx.obj.plugins)[0])


def recipe_frameworks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The frameworks that there are recipes for."""
    from flpoc.recipe.catalogue import catalogue

    return _items((name, "") for name in sorted({one.entry.framework for one in catalogue(ctx.obj.plugins)[0]}))


def recipe_filters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Keys with the values that the recipes have."""
    from flpoc.cli.recipe import KEYS, row
    from flpoc.recipe.catalogue import catalogue

    rows = [row(one) for one in catalogue(ctx.obj.plugins)[0]]
    pairs = [(key, one[key] if isinstance(one[key], list) else [one[key]]) for one in rows for key in KEYS]
    return _items((text, "") for text in sorted({f"{key}={value}" for key, values in pairs for value in values}))


def job_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The study's jobs, the newest first."""
    rows = _asked(ctx, lambda session: session.list_jobs(id_prefix=incomplete, reverse=True)) or []
    return _items((row["job_id"], f"{row['job_name']}, {row['status']}") for row in rows)


def sites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The connected sites."""
    status = _asked(ctx, lambda session: session.status()) or {"sites": []}
    return _items((site["name"], "") for site in status["sites"])


def server_and_sites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The server, all, or one of the connected sites."""
    return [*_items([("server", ""), ("all", "the server and every site")]), *sites(ctx, param, incomplete)]


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whom a command of ``flpoc system`` can be about."""
    from flpoc.cli.targets import TARGETS

    return _items((name, "") for name in TARGETS)


def log_levels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Levels and forms of logs."""
    from flpoc.log_modes import MODES

    return _items((name, "") for name in MODES)


def studies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The studies that this user may know of."""
    said = _asked(ctx, lambda session: session.list_studies()) or {"studies": []}
    return _items((name, "") for name in said["studies"])


def _items(rows: Any) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name, help=about) for name, about in rows]


def _asked(ctx: click.Context, question: Callable[[Session], T]) -> T | None:
    """Ask the server that the command would ask; None if it does not answer at once."""
    from flpoc.configuration import Configuration, resolve_kit
    from flpoc.session import Session

    given = ctx.params
    kit = resolve_kit(Configuration.load(), given.get("kit_id"), given.get("startup_kit"))
    answers: list[T] = []
    with Session.open(kit, study=given.get("study") or "default", timeout=PATIENCE) as session:

        def ask() -> None:
            with contextlib.suppress(Exception):  # no answer is no suggestion, and nobody may be waiting any more
                answers.append(question(session))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(PATIENCE)
    return answers[0] if answers else None
