"""What core itself offers, through the same door as every other plugin."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flpoc import API, Component, hookimpl

FLPOC_API = API


@hookimpl
def flpoc_authorities() -> Iterable[Component[Any]]:
    yield Component("local-ca", "A certificate authority in a folder of the project", _local_authority)


@hookimpl
def flpoc_aggregators() -> Iterable[Component[Any]]:
    yield Component("mean", "Weighted mean, block by block, in site order", _weighted_mean)


@hookimpl
def flpoc_workflows() -> Iterable[Component[Any]]:
    from flpoc.workflows.settings import CyclicSettings, FedAvgSettings

    yield Component("fedavg", "Federated averaging (McMahan et al. 2017)", _fedavg, FedAvgSettings)
    yield Component("cyclic", "One model goes from site to site (Chang et al. 2018)", _cyclic, CyclicSettings)


@hookimpl
def flpoc_job_templates() -> Iterable[Path]:
    for name in ("sag_np", "cyclic_np"):
        yield Path(__file__).parent / "templates" / name


@hookimpl
def flpoc_formatters() -> Iterable[Component[Any]]:
    yield Component("txt", "Text and tables for people", _text)
    yield Component("json", "One JSON document", _json)
    yield Component("jsonl", "One JSON object a line, as it happens", _jsonl)


def _local_authority(_: Any) -> Any:
    from flpoc.provision.authority import LocalAuthority

    return LocalAuthority()


def _weighted_mean(_: Any) -> Any:
    from flpoc.workflows.mean import WeightedMean

    return WeightedMean()


def _fedavg(settings: Any) -> Any:
    from flpoc.workflows.fedavg import FedAvg

    return FedAvg(settings)


def _cyclic(settings: Any) -> Any:
    from flpoc.workflows.cyclic import Cyclic

    return Cyclic(settings)


def _text(_: Any) -> Any:
    from flpoc.cli.formats import TextFormatter

    return TextFormatter()


def _json(_: Any) -> Any:
    from flpoc.cli.formats import JsonFormatter

    return JsonFormatter()


def _jsonl(_: Any) -> Any:
    from flpoc.cli.formats import JsonLinesFormatter

    return JsonLinesFormatter()
