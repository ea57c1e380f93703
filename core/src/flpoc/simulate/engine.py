"""One simulation from its order to its results."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from flpoc.aggregating import Aggregator
from flpoc.client.blame import blame
from flpoc.configuration import Configuration
from flpoc.errors import FlpocError, UsageError
from flpoc.jobs.secrets import with_secrets
from flpoc.jobs.spec import JobSpec
from flpoc.jobs.states import Cause, JobState
from flpoc.plugins import Plugins, PluginState
from flpoc.runner.making import made
from flpoc.server.components import check_components, strange_sites
from flpoc.simulate import order as orders
from flpoc.simulate.federation import JobFailedError, SimulatedFederation
from flpoc.simulate.messages import Stage
from flpoc.simulate.order import Order
from flpoc.simulate.outcome import Outcome
from flpoc.simulate.pool import HungUpError, PoolPlan, log_tail
from flpoc.simulate.preloading import preload
from flpoc.simulate.results import Workspace
from flpoc.simulate.showing import Shown
from flpoc.simulate.tasks import Pool
from flpoc.simulate.worker import output_in
from flpoc.wire.endings import END_WITHIN
from flpoc.wire.trainer_messages import Failed, TrainerStart
from flpoc.workflows import Workflow

#: Told of a round: its number, the number of rounds, and its metrics.
Progress = Callable[[int, int, dict[str, float]], None]


@attrs.frozen
class _End:
    state: JobState
    cause: Cause | None = None


def simulate(
    order: Order,
    progress: Progress,
    *,
    pool: Callable[[PoolPlan], Pool],
    in_process: bool = False,
    hangs_up: int | None = None,
) -> Outcome:
    """Simulate a job.

    Args:
        order: What is to be simulated.
        progress: Told of every round.
        pool: Makes what performs the tasks.
        in_process: No site has a process of its own.
        hangs_up: A file that ends when nobody waits any more.

    Raises:
        FlpocError: The job is wrong; nothing was run.
    """
    folder, spec = orders.read(Path(order.folder))
    trial = order.trial
    if trial is not None:
        spec = trial.of(spec)
    sites = orders.sites_of(spec, order.sites)
    plugins = _plugins()
    check_components(plugins, spec)
    _check_sites(plugins, spec, order.secrets)
    if strange := strange_sites(plugins, spec, order.sites or sites, "is not simulated"):
        raise UsageError(strange[0], hint="simulate it, too, or leave it out of the job")
    names = tuple(one.name for one in plugins.records if one.state is PluginState.LOADED and one.name != "core")
    code = folder / "code"
    with Workspace(Path(order.workspace), spec.name) as workspace, _told({"FLPOC_CODE": str(code)}):
        orders.log_as(order.log_config)
        preload(code, {script.script for script in spec.scripts.values()})
        count = order.workers or orders.default_workers(len(sites))
        settings = PoolPlan(
            workers=count,
            own=len(sites) <= count
            and not (in_process or order.backend or (trial is not None and trial.anew))
            and all(one.launch_once for one in spec.scripts.values()),
            code=code,
            folder=workspace.made("work"),
            updates=workspace.folder / "updates",
            gates=workspace.folder / "gates",
            gpus=order.gpus,
            stall=spec.timeouts.stall,
            hangs_up=hangs_up,
        )
        staging = _Staging(
            spec, code, logs=workspace.made("logs"), kept=workspace.made("kept"), plugins=names,
            datasets=order.datasets, secrets=order.secrets, once=not settings.own,
        )  # fmt: skip
        workers = _pool_of(plugins, order, pool)(settings)
        federation = SimulatedFederation(
            spec, sites, code=code, folder=workspace.folder, pool=workers, stage_of=staging.stage, plugins=names,
            shown=Shown(plugins, spec, sites), tried=Path(trial.updates) if trial is not None else None,
            committed=lambda number, metrics: progress(number, spec.rounds, metrics),
        )  # fmt: skip
        log = workspace.folder / "logs" / "server.log"
        with contextlib.nullcontext() if in_process else output_in(log):
            end = _run(federation, plugins, names, workers, log)
        path = workspace.keep(federation, complete=end.state in (JobState.COMPLETED, JobState.COMPLETED_PARTIAL))
    return Outcome(spec.name, end.state.value, end.cause, path, spec.quorum is not None)


def _check_sites(plugins: Plugins, spec: JobSpec, secrets: dict[str, str]) -> None:
    """Check what the sites of a job need.

    Raises:
        FlpocError: It is not installed, or its settings are wrong.
    """
    for one in spec.filters:
        plugins.check("filters", one.name, one.settings)
    for name in dict.fromkeys(script.framework for script in spec.scripts.values() if script.framework):
        plugins.find("frameworks", name)
    for script in spec.scripts.values():
        with_secrets(list(script.args), secrets)
    for needed in spec.plugins:
        kind, _, name = needed.partition("/")
        plugins.find(kind, name)


def _pool_of(plugins: Plugins, order: Order, usual: Callable[[PoolPlan], Pool]) -> Callable[[PoolPlan], Pool]:
    """What makes the pool: the usual, or one of a plugin."""
    if not order.backend:
        return usual
    from flpoc.simulate.elsewhere import ElsewherePool
    from flpoc.simulating import Simulator

    simulator = made(plugins, "simulators", order.backend, order.backend_settings, Simulator)
    return lambda settings: ElsewherePool(simulator, order.backend, order.log_config, settings)


def _plugins() -> Plugins:
    settings = Configuration.load()
    return Plugins.load(private=settings.plugins_load, disabled=settings.plugins_disable)


def _run(federation: SimulatedFederation, plugins: Plugins, names: tuple[str, ...], pool: Pool, log: Path) -> _End:
    """Run the workflow to its end, and end all workers."""
    grace = 0.0
    try:
        end = _course(federation, plugins, names, log)
        if end.cause is None:
            grace = min(END_WITHIN, federation.job.timeouts.stall)
            grace += max(one.shutdown_timeout for one in federation.job.scripts.values())
    finally:
        for heard in pool.close(grace=grace):
            federation.heard(heard)
        federation.shown.close()
    return end


def _course(federation: SimulatedFederation, plugins: Plugins, names: tuple[str, ...], log: Path) -> _End:
    job = federation.job
    try:
        federation.aggregator = made(plugins, "aggregators", job.aggregator, job.aggregator_settings, Aggregator)
        workflow = made(plugins, "workflows", job.workflow, job.workflow_settings, Workflow)
        workflow.run(federation)
    except JobFailedError as error:
        return _End(JobState.FAILED, error.cause)
    except HungUpError:
        return _End(JobState.ABORTED)
    except Exception as error:  # noqa: BLE001 - whatever a workflow raises is the job's first cause
        if isinstance(error, FlpocError):
            sys.stderr.write(f"{error.message}\n")
        else:
            traceback.print_exc()
        failed = blame(error, round_number=federation.round_now, phase="aggregating", plugins=names)
        sys.stderr.flush()
        return _End(JobState.FAILED, _cause(failed, log))
    if not federation.finished:
        message = "the controller ended before the job did"
        cause = Cause("server", "aggregating", federation.round_now, message=message, log_tail=log_tail(log))
        return _End(JobState.FAILED, cause)
    return _End(JobState.COMPLETED_PARTIAL if federation.partial else JobState.COMPLETED)


def _cause(failed: Failed, log: Path) -> Cause:
    return Cause(
        site="server", phase=failed.phase, round=failed.round, exception=failed.exception, message=failed.message,
        file=failed.file, line=failed.line, hint=failed.hint, log_tail=log_tail(log),
    )  # fmt: skip


@contextlib.contextmanager
def _told(environ: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in environ}
    os.environ.update(environ)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


class _Staging:
    """How the scripts of a job's sites are started."""

    def __init__(
        self, spec: JobSpec, code: Path, *, logs: Path, kept: Path, plugins: tuple[str, ...],
        datasets: dict[str, str], secrets: dict[str, str], once: bool,
    ) -> None:  # fmt: skip
        self._spec, self._code, self._logs, self._kept = spec, code, logs, kept
        self._plugins, self._datasets, self._secrets, self._once = plugins, datasets, secrets, once

    def stage(self, site: str) -> Stage:
        spec, script = self._spec, self._spec.script_for(site)
        start = TrainerStart(
            spec.name, site, 1, 1, spec.seed, spec.rounds, self._plugins,
            framework=script.framework, transfer_type=script.transfer_type, once=not self._once,
            gc_rounds=script.memory_gc_rounds, empty_cache=script.cuda_empty_cache, datasets=self._datasets,
        )  # fmt: skip
        return Stage(
            start=start,
            script=str(self._code / script.script),
            args=script.args,
            command=script.command,
            env={**script.env, **self._secrets, "FLPOC_CODE": str(self._code), "FLPOC_SITE": site},
            log=str(self._logs / f"{site}.log"),
            kept=str(self._kept),
            filters=spec.filters,
            once=self._once,
        )
