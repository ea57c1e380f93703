"""Every row that a bench can have: its key, its name, its unit and what the design demands of it.

A figure names its row by key, in whichever column it stands; a key that is not
here is an error, so that the columns cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

#: What is moved by a bench of traffic: megabytes of the model, and sites.
LOADS = ((1, 2), (10, 2), (100, 2), (500, 2), (64, 32))
#: Roles of processes whose memory is looked at while a model travels.
ROLES_WATCHED = ("server", "controller", "agent", "trainer")


@attrs.frozen
class Row:
    """One thing that is measured.

    Attributes:
        key: Its name for programs.
        what: Its name for people.
        unit: What the number counts.
        limit: What the design demands of flpoc, ``<= 0.2`` or ``>= 250``; empty when nothing.
        section: The heading that it stands under.
    """

    key: str
    what: str
    unit: str = "s"
    limit: str = ""
    section: str = ""

    @property
    def bound(self) -> float:
        return float(self.limit.split()[1])

    @property
    def more_is_better(self) -> bool:
        return self.unit in ("MB/s", "GB/s", "%")

    def holds(self, value: float | None) -> bool | None:
        """Whether the limit is kept; None without limit or number."""
        if not self.limit or value is None:
            return None
        return value >= self.bound if self.more_is_better else value <= self.bound

    def times_better(self, ours: float | None, theirs: float | None) -> float | None:
        """How many times better the first number is than the second; None when one is missing or zero."""
        if not ours or not theirs:
            return None
        return ours / theirs if self.more_is_better else theirs / ours


def _commands() -> Iterator[Row]:
    section = "Commands"
    yield Row("cli.python", "`python -c pass`, for comparison", section=section)
    yield Row("cli.imports", "bare imports of click, pluggy, attrs, importlib_metadata", section=section)
    yield Row("cli.help", "`--help`", limit="<= 0.2", section=section)
    yield Row("cli.plugins_list", "`plugins list`", section=section)
    yield Row("cli.job_list_help", "`job list -h`", section=section)
    yield Row("cli.job_list", "`job list`, a server runs", limit="<= 0.3", section=section)
    yield Row("cli.helps", "`--help` of every command: median", limit="<= 0.2", section=section)
    yield Row("cli.helps.slowest", "the same: the slowest", section=section)
    yield Row("cli.asks", "every command that asks a running server: median", limit="<= 0.3", section=section)
    yield Row("cli.asks.slowest", "the same: the slowest", section=section)


def _poc() -> Iterator[Row]:
    section = "Proof of concept"
    yield Row("poc.prepare.2", "`poc prepare`, 2 sites", limit="<= 0.5", section=section)
    yield Row("poc.prepare.50", "`poc prepare`, 50 sites", limit="<= 1.5", section=section)
    yield Row("poc.start", "`poc start` until ready, 2 sites", limit="<= 2", section=section)
    yield Row("poc.stop", "`poc stop`, 2 sites", limit="<= 1.5", section=section)
    yield Row("poc.stop_nothing", "`poc stop`, nothing runs", section=section)
    yield Row("idle.pss", "memory of server and 2 sites, idle (PSS)", "MB", section=section)
    yield Row("idle.processes", "processes of these, without keepers", "", section=section)


def _jobs() -> Iterator[Row]:
    section = "Small jobs"
    trivial = "trivial job (10 numbers, 2 sites, 2 rounds)"
    yield Row("job.trivial", f"{trivial}: submit command to FINISHED", limit="<= 2", section=section)
    yield Row("job.first_task", "the same: submission at the server to first task in the scripts", section=section)
    yield Row("docker.first_task", "the same in containers: how much later the first task is", section=section)
    yield Row("round.small", "round of a 10-number model, 2 sites", limit="<= 0.02", section=section)
    yield Row("job.pss", "memory of server, 2 sites and a trivial job (PSS)", "MB", "<= 300", section)
    yield Row("job.processes", "processes of these, without keepers", "", "<= 6", section)
    yield Row("job.keepers", "keepers of these", "", section=section)


def load_name(megabytes: int, sites: int) -> str:
    return f"{megabytes} MB x {sites} sites"


def _traffic() -> Iterator[Row]:
    section = "Model traffic"
    for megabytes, sites in LOADS:
        key, what = f"traffic.{megabytes}x{sites}", load_name(megabytes, sites)
        is_hundred = (megabytes, sites) == (100, 2)
        yield Row(f"{key}.speed", what, "MB/s", ">= 250" if is_hundred else "", section)
        yield Row(f"{key}.round", f"{what}: a round", section=section)
        yield Row(f"{key}.cpu", f"{what}: processor time of server and agents, a round", section=section)
        if is_hundred:
            yield Row(f"{key}.share", f"{what}, of a bare stream", "%", ">= 40", section)


def is_watched(megabytes: int, sites: int) -> bool:
    """Whether memory is looked at: for large models and for many sites."""
    return megabytes >= 500 or sites > 2


def _memory() -> Iterator[Row]:
    section = "Memory while a model travels"
    for megabytes, sites in LOADS:
        if not is_watched(megabytes, sites):
            continue
        key, what = f"traffic.{megabytes}x{sites}.memory", load_name(megabytes, sites)
        yield Row(key, f"{what}: peak of the server side above idle", "MB", "<= 100", section)
        for role in ROLES_WATCHED:
            yield Row(f"{key}.{role}", f"{what}: peak of one {role}", "MB", section=section)
        yield Row(f"{key}.all", f"{what}: peak of all processes together", "MB", section=section)


def _install() -> Iterator[Row]:
    section = "Installation"
    yield Row("install.packages", "packages", "", "<= 22", section)
    yield Row("install.size", "size without pip", "MB", "<= 135", section)
    yield Row("install.time", "time", section=section)


def _simulation() -> Iterator[Row]:
    section = "Simulation"
    yield Row("simulate.2x3", "trivial job, 2 sites, 3 rounds", limit="<= 1", section=section)
    yield Row("simulate.16x3", "trivial job, 16 sites, 3 rounds", limit="<= 1", section=section)
    yield Row("simulate.1000x1", "trivial job, 1,000 sites, 1 round", limit="<= 2", section=section)
    what = "softmax regression of 784 x 10, 100 rounds, 10 of 1,000 sites in each"
    yield Row("simulate.sampled", what, limit="<= 20", section=section)
    yield Row("simulate.memory.few", "trivial job, 100 sites: peak of all processes together", "MB", section=section)
    yield Row("simulate.memory.many", "the same, 10,000 sites", "MB", section=section)
    yield Row("simulate.memory.growth", "10,000 sites by 100", "x", "<= 1.5", section)


def _machine() -> Iterator[Row]:
    section = "The machine itself"
    for key, what in (
        ("memcpy", "memcpy"),
        ("write", "file write into the page cache, 1 MiB pieces"),
        ("xxh3", "xxh3-128, 1 MiB pieces"),
        ("mean", "aggregation: weighted mean of 2 files into a third, bytes read"),
        ("tls", "raw TLS over loopback"),
        ("stream", "one bare grpc.aio stream, mutual TLS, 1 MiB messages"),
    ):
        yield Row(f"machine.{key}", what, "GB/s", section=section)


def _all() -> Iterator[Row]:
    for some in (_commands, _poc, _jobs, _traffic, _memory, _install, _simulation, _machine):
        yield from some()


#: All rows by key, in the order of the table.
ROWS: Mapping[str, Row] = {row.key: row for row in _all()}
