"""What a training script imports.

    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        ...
        flare.send(flare.FLModel(params=params, metrics={"accuracy": 0.9}))

Numbers of rounds count from 0. Parameters are NumPy arrays by name; those
received may be changed in place.
"""

from __future__ import annotations

from flpoc.client.api import (
    get_job_id,
    get_seed,
    get_site_name,
    init,
    is_evaluate,
    is_running,
    is_submit_model,
    is_train,
    log,
    receive,
    send,
    system_info,
)
from flpoc.models.flmodel import FLModel, MetaKey, ParamsType

__all__ = [
    "FLModel",
    "MetaKey",
    "ParamsType",
    "get_job_id",
    "get_seed",
    "get_site_name",
    "init",
    "is_evaluate",
    "is_running",
    "is_submit_model",
    "is_train",
    "log",
    "receive",
    "send",
    "system_info",
]
