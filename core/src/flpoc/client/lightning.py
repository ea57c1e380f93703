"""What a training script with Lightning imports: all of :mod:`flpoc.client`, and :func:`patch`.

import flpoc.client.lightning as flare

flare.patch(trainer)
while flare.is_running():
    model = flare.receive()
    trainer.validate(net, datamodule=data)
    trainer.fit(net, datamodule=data)
"""

from __future__ import annotations

from typing import Any

from flpoc.client import *  # noqa: F403 - one import has to be enough
from flpoc.client import __all__ as _all
from flpoc.client import api

__all__ = [*_all, "patch"]  # noqa: PLE0604 - texts, all of them


def patch(
    trainer: Any, restore_state: bool = True, load_state_dict_strict: bool = True, update_fit_loop: bool = True
) -> None:
    """Let a Lightning trainer receive and send by itself; once is enough, before the first round.

    ``trainer.fit`` begins with the received model, trains, and sends the result, weighted by its number of optimiser
    steps. ``trainer.validate``, called before, judges the received model: its metrics go with the result, or, if the
    task is to evaluate, are the answer; ``fit`` then does nothing. If the site's own model is asked for, ``fit`` sends
    it. When no task is at hand ``fit`` waits for one, and ``validate`` is what it always is.

    Before each fit PyTorch and NumPy are seeded with :func:`get_seed`. A coefficient ``fedprox_mu`` in the meta of the
    received model adds the term of FedProx. What stands in the module's attribute ``__fl_meta__``, a dict, is sent as
    meta.

    Args:
        trainer: A ``Trainer`` of one process.
        restore_state: Take up the state of optimisers and schedulers where the last round has left it.
        load_state_dict_strict: The received model has all parameters of the module; if not, those it has are loaded
            and sent.
        update_fit_loop: Train for ``max_epochs`` and ``max_steps`` in every round, instead of in all rounds together.

    Raises:
        UsageError: It is no trainer that a plugin of the project knows; says which package would help.
    """
    api.begin()
    options = {"restore_state": restore_state, "load_state_dict_strict": load_state_dict_strict}
    script = api.current()
    if script is not None:
        script.adapters.patch(trainer, {**options, "update_fit_loop": update_fit_loop})
