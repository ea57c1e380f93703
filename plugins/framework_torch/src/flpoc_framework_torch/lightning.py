"""A Lightning trainer that receives and sends by itself: see :func:`flpoc.client.lightning.patch`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from flpoc.client import api
from flpoc.client.script import Script
from flpoc.errors import UsageError
from flpoc.models.flmodel import FLModel, MetaKey

#: Attribute of a module with what it wants to send as meta; as documented.
META: Final = "__fl_meta__"
#: What the server says to a site about FedProx, in the meta of a task.
FEDPROX_MU: Final = "fedprox_mu"
_STATE: Final = "lightning.pt"


def patch(
    trainer: Any, restore_state: bool = True, load_state_dict_strict: bool = True, update_fit_loop: bool = True
) -> None:
    """See :func:`flpoc.client.lightning.patch`."""
    base = _callback_class(trainer)
    if trainer.world_size > 1:
        raise UsageError(
            f"the trainer has {trainer.world_size} processes; one can be patched",
            hint="Trainer(devices=1), or start the script with torchrun, and receive and send at rank 0",
        )
    options = {"restore": restore_state, "strict": load_state_dict_strict, "again": update_fit_loop}
    for callback in trainer.callbacks:
        if isinstance(callback, Exchange):
            vars(callback).update(options)
            return
    exchange = type("FlpocExchange", (Exchange, base), {})(**options)
    trainer.callbacks.insert(0, exchange)  # before those that look at the model
    trainer.fit = functools.partial(exchange.fit, trainer, trainer.fit)


def _callback_class(trainer: Any) -> Any:
    """The class of callbacks in the package that the trainer is of: there are two names of one library."""
    tops = {one.__module__.partition(".")[0] for one in type(trainer).__mro__}
    if "pytorch_lightning" in tops:
        from pytorch_lightning import Callback, Trainer
    elif "lightning" in tops:
        from lightning.pytorch import Callback, Trainer  # type: ignore[assignment]
    else:
        raise UsageError(f"{type(trainer).__name__} is no Trainer of Lightning")
    if not isinstance(trainer, Trainer):
        raise UsageError(f"{type(trainer).__name__} is no Trainer of Lightning")
    return Callback


class Exchange:
    """The callback of a patched trainer; becomes one together with Lightning's own class.

    Args:
        restore: Whether optimisers and schedulers go on from where they were.
        strict: Whether the received model has all parameters of the module.
        again: Whether the limits of training hold for every round.
    """

    def __init__(self, restore: bool, strict: bool, again: bool) -> None:
        self.restore, self.strict, self.again = restore, strict, again
        self._limits: tuple[int, int] | None = None
        self._received: FLModel | None = None
        self._begin, self._begins = 0, False
        self._near: dict[int, torch.Tensor] = {}
        self._trained = False
        self._own: dict[str, torch.Tensor] | None = None

    # -- around the trainer's own fit

    def fit(self, trainer: Any, fit: Any, model: Any = None, *args: Any, **kwargs: Any) -> None:
        """Answer the current task, or the next one; nothing if an evaluation has just answered it."""
        script = _script()
        if script.rests or api.receive() is None:
            return
        task = script.task
        assert task is not None
        if task.kind == "evaluate":
            raise UsageError("the task is to evaluate", hint="call trainer.validate() before trainer.fit()")
        if task.kind == "submit_model":
            self._submit(trainer, model)
            return
        self._set_limits(trainer)
        fit(model, *args, **kwargs)
        if script.task is task:
            raise UsageError(
                f"round {task.round + 1}: trainer.fit() has not trained",
                hint="there are no batches, or max_epochs is reached: see update_fit_loop of flare.patch()",
            )

    def _set_limits(self, trainer: Any) -> None:
        """Have the trainer go as far again as it was told at first."""
        loop = trainer.fit_loop
        if self._limits is None:
            # without any limit Lightning stops after 1000 epochs
            epochs = loop.max_epochs if loop.max_epochs is not None or loop.max_steps != -1 else 1000
            self._limits = (-1 if epochs is None else epochs, loop.max_steps)
        elif self.again:
            epochs, steps = self._limits
            loop.max_epochs = epochs if epochs < 0 else trainer.current_epoch + epochs
            loop.epoch_loop.max_steps = steps if steps < 0 else trainer.global_step + steps

    def _submit(self, trainer: Any, model: Any) -> None:
        """Send the model as this site has trained it last."""
        own = self._own
        if own is None and self._trained:
            own = (model or trainer.lightning_module).state_dict()
        if own is None:
            raise UsageError("this site has no model of its own", hint="it has not trained since its script started")
        api.is_submit_model()
        api.send(FLModel(params=own))

    # -- hooks of Lightning

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if _validates(trainer) and _script().task is not None:
            self._load(module)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        script = _script()
        if not _validates(trainer) or script.task is None or script.task.kind == "submit_model":
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if api.is_evaluate():
            api.send(FLModel(metrics=metrics))
            script.rests = True
        else:
            script.judged = metrics

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self._load(module)
        _draw_from_the_seed()
        if self.restore:
            _take_up(trainer)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._begin, self._begins = trainer.global_step, True
        if self._mu:
            self._near = {id(one): one.detach().clone() for one in module.parameters()}

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Let a fit draw the same whether or not its trainer has trained before.

        Lightning makes the iterator of a first epoch before this, and that of every other after this.
        """
        if not self._begins:
            return
        self._begins = False
        _draw_from_the_seed()
        batches = getattr(trainer.fit_loop, "_data_fetcher", None)
        if trainer.current_epoch == 0 and batches is not None:
            iter(batches)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """The gradient of mu/2 |w - w_received|^2 (Li et al. 2020, arXiv:1812.06127)."""
        if not self._near:
            return
        for one in (one for group in optimizer.param_groups for one in group["params"]):
            if one.grad is not None and id(one) in self._near:
                one.grad.add_(one.detach() - self._near[id(one)], alpha=self._mu)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        script = _script()
        self._near = {}
        if self.restore:
            _put_by(trainer)
        steps = trainer.global_step - self._begin
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: steps, **getattr(module, META, {})}
        self._trained, self._own = True, None
        api.send(FLModel(params=self._sent(trainer), metrics=script.judged or None, meta=meta))

    def _sent(self, trainer: Any) -> dict[str, torch.Tensor]:
        state = trainer.strategy.lightning_module_state_dict()
        if self.strict or self._received is None or not self._received.params:
            return dict(state)
        return {name: state[name] for name in self._received.params if name in state}

    # -- the received model

    def _load(self, module: Any) -> None:
        self._received = api.receive()
        if self._received is None or not self._received.params:
            return
        if self._trained and self._own is None and api.get_task_name() != "train":
            # the site's own model may be asked for later
            self._own = {name: one.detach().cpu().clone() for name, one in module.state_dict().items()}
        module.load_state_dict(_tensors(self._received.params), strict=self.strict)

    @property
    def _mu(self) -> float:
        return 0.0 if self._received is None else float(self._received.meta.get(FEDPROX_MU, 0.0))


def _script() -> Script:
    script = api.current()
    assert script is not None  # patch() was called by it
    return script


def _draw_from_the_seed() -> None:
    seed = api.get_seed()
    torch.manual_seed(seed)
    np.random.seed(seed)


def _validates(trainer: Any) -> bool:
    """Whether ``trainer.validate`` was called, and this is no validation inside a fit."""
    return trainer.state.fn is not None and str(trainer.state.fn.value) == "validate"


def _tensors(params: Mapping[str, Any]) -> Mapping[str, Any]:
    if all(isinstance(one, torch.Tensor) for one in params.values()):
        return params
    from flpoc_framework_torch.adapter import TorchFramework

    return TorchFramework().from_arrays(params)


# -- what optimisers and schedulers know, from round to round


def _put_by(trainer: Any) -> None:
    optimizers = [one.state_dict() for one in trainer.optimizers]
    schedulers = [one.scheduler.state_dict() for one in trainer.lr_scheduler_configs]
    if schedulers or any(one["state"] for one in optimizers):
        torch.save({"optimizers": optimizers, "schedulers": schedulers}, api.state_dir() / _STATE)


def _take_up(trainer: Any) -> None:
    path = api.state_dir() / _STATE
    if not path.exists():
        return
    kept = torch.load(path, map_location="cpu", weights_only=True)
    for one, state in zip(trainer.optimizers, kept["optimizers"], strict=True):
        one.load_state_dict(state)
    for config, state in zip(trainer.lr_scheduler_configs, kept["schedulers"], strict=True):
        config.scheduler.load_state_dict(state)
