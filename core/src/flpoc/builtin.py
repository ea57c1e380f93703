"""What core itself offers, through the same door as every other plugin."""

from __future__ import annotations

import os
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
    from flpoc.jobs.code import CodeRef
    from flpoc.workflows.aggregator_settings import FedOptSettings, KrumSettings, MeanSettings, TrimmedMeanSettings

    yield Component("mean", "Weighted mean, block by block, in site order", _weighted_mean, MeanSettings)
    yield Component("median", "Median of each number (Yin et al. 2018)", _median)
    trimmed = "Mean of each number without the extremes (Yin et al. 2018)"
    yield Component("trimmed_mean", trimmed, _trimmed_mean, TrimmedMeanSettings)
    yield Component("krum", "The update nearest to the others (Blanchard et al. 2017)", _krum, KrumSettings)
    yield Component("fedopt", "Adam, Yogi, Adagrad or SGD at the server (Reddi et al. 2021)", _fedopt, FedOptSettings)
    yield Component("code", "A class of the job's own code", _code_aggregator, CodeRef)


@hookimpl
def flpoc_workflows() -> Iterable[Component[Any]]:
    from flpoc.workflows.settings import CrossSiteSettings, CyclicSettings, FedAvgSettings

    yield Component("fedavg", "Federated averaging (McMahan et al. 2017)", _fedavg, FedAvgSettings)
    yield Component("cyclic", "One model goes from site to site (Chang et al. 2018)", _cyclic, CyclicSettings)
    evaluation = "Every site judges all models; nothing is trained"
    yield Component("cross_site_evaluation", evaluation, _cross_site_evaluation, CrossSiteSettings)


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


def _weighted_mean(settings: Any) -> Any:
    from flpoc.workflows.mean import WeightedMean

    return WeightedMean(settings)


def _median(_: Any) -> Any:
    from flpoc.workflows.robust import Median

    return Median()


def _trimmed_mean(settings: Any) -> Any:
    from flpoc.workflows.robust import TrimmedMean

    return TrimmedMean(settings)


def _krum(settings: Any) -> Any:
    from flpoc.workflows.robust import Krum

    return Krum(settings)


def _fedopt(settings: Any) -> Any:
    from flpoc.workflows.fedopt import FedOpt

    return FedOpt(settings)


def _code_aggregator(ref: Any) -> Any:
    from flpoc.workflows.code_aggregator import CodeAggregator

    # where a job's code is run, this says where it lies
    return CodeAggregator(ref, Path(os.environ["FLPOC_CODE"]))


def _fedavg(settings: Any) -> Any:
    from flpoc.workflows.fedavg import FedAvg

    return FedAvg(settings)


def _cyclic(settings: Any) -> Any:
    from flpoc.workflows.cyclic import Cyclic

    return Cyclic(settings)


def _cross_site_evaluation(settings: Any) -> Any:
    from flpoc.workflows.only_evaluating import OnlyEvaluating

    return OnlyEvaluating(settings)


def _text(_: Any) -> Any:
    from flpoc.cli.formats import TextFormatter

    return TextFormatter()


def _json(_: Any) -> Any:
    from flpoc.cli.formats import JsonFormatter

    return JsonFormatter()


def _jsonl(_: Any) -> Any:
    from flpoc.cli.formats import JsonLinesFormatter

    return JsonLinesFormatter()
