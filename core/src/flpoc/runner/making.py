"""What whoever runs a workflow does before and between its rounds: a controller, or a simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flpoc.aggregating import Update
from flpoc.errors import IntegrityError, PluginError
from flpoc.plugins import Plugins

if TYPE_CHECKING:
    from flpoc.wire.vocabulary import TaskKind


def check_alike(updates: tuple[Update, ...], kind: TaskKind) -> None:
    """In a round without a model, the first site in order says what tensors there are."""
    if kind == "submit_model":
        updates = tuple(update for update in updates if update.model.header.tensors)
    for update in updates[1:]:
        if difference := updates[0].model.header.same_layout(update.model.header):
            raise IntegrityError(f"{update.site} sent other tensors than {updates[0].site}: {difference}")


def made(plugins: Plugins, kind: str, name: str, settings: dict[str, Any], wanted: type) -> Any:
    """Make a component; one that is something else is refused here, with its plugin, instead of where it is used."""
    found = plugins.create(kind, name, settings)
    if not isinstance(found, wanted):
        plugin, kind_of = plugins.find(kind, name).plugin.name, type(found).__name__
        raise PluginError(f"{plugin}: {name!r} gives {kind_of}, no {wanted.__name__}", code="PLUGIN_BROKEN")
    return found
