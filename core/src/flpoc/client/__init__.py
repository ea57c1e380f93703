"""What a training script imports.

    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        ...
        flare.send(flare.FLModel(params=params, metrics={"accuracy": 0.9}))

Numbers of rounds count from 0. Parameters are NumPy arrays by name, or those
of the job's ``framework``; those received may be changed in place. Only the
first process of a script talks (``RANK`` 0). :mod:`flpoc.client.tracking` has
writers with the calls of TensorBoard, Weights & Biases and MLflow.
"""

from __future__ import annotations

from flpoc.client.api import (
    clear,
    get_config,
    get_dataset,
    get_job_id,
    get_seed,
    get_site_name,
    get_task_name,
    init,
    is_evaluate,
    is_running,
    is_submit_model,
    is_train,
    log,
    receive,
    send,
    shutdown,
    state_dir,
    system_info,
)
from flpoc.client.decorators import evaluate, train
from flpoc.models.flmodel import FLModel, MetaKey, NPConstants, ParamsType

__all__ = [
    "FLModel",
    "MetaKey",
    "NPConstants",
    "ParamsType",
    "clear",
    "evaluate",
    "get_config",
    "get_dataset",
    "get_job_id",
    "get_seed",
    "get_site_name",
    "get_task_name",
    "init",
    "is_evaluate",
    "is_running",
    "is_submit_model",
    "is_train",
    "log",
    "receive",
    "send",
    "shutdown",
    "state_dir",
    "system_info",
    "train",
]
