"""What is to be simulated: checked where it is asked for, so that what is wrong is said at once."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import ConfigError, FlpocError, ResourceError, UsageError
from flpoc.jobs.folder import CODE, collect_files, find_job_folder, job_file, read_job
from flpoc.jobs.names import CONFIG, SITE_NAME
from flpoc.jobs.secrets import file_variable, secret_files_in, secrets_in
from flpoc.jobs.spec import DEFAULT_SITE, JobSpec
from flpoc.log_modes import check_mode, set_script_mode
from flpoc.settings import read_file

#: So many sites have processes of their own if nobody says how many workers there are.
MOST_PROCESSES = 32
#: Where results go if nobody says where.
ROOT_VARIABLE = "FLPOC_SIMULATOR_WORKSPACE_ROOT"
_LOGGING_HINT = "it has what logging.config.dictConfig of Python takes"
DEFAULT_ROOT = "/tmp/flpoc/simulation"  # noqa: S108 - made 0700, and refused when it is somebody else's


@attrs.frozen
class Trial:
    """The first rounds of a job alone, as its scripts answer in them: no filters, no trackers.

    Attributes:
        rounds: How many rounds at most.
        updates: The folder that gets what scripts send for training: ``ROUND.SITE.safetensors`` and its weight beside.
        anew: Scripts are started anew for every task.
    """

    rounds: int
    updates: str
    anew: bool

    def of(self, spec: JobSpec) -> JobSpec:
        """The job that is tried."""
        return attrs.evolve(spec, rounds=min(self.rounds, spec.rounds), filters=(), tracking=())


@attrs.frozen
class Order:
    """One simulation.

    Attributes:
        folder: The job folder.
        sites: Names of the sites that there are; empty for those of the job.
        workers: How many processes at most; 0 for as many as seem right.
        workspace: The folder that gets a folder of results.
        gpus: Graphics processors of the workers, dealt in turn.
        log_config: How scripts log: a mode, or a file; empty for as Python does.
        datasets: Paths of what scripts get by ``flare.get_dataset(name)``, by name.
        secrets: What the job names of the secrets that there are here, by variable.
        backend: Name of a plugin that takes the place of the workers; empty for none.
        backend_settings: Its settings.
        trial: Whether only the first rounds are run, and how.
    """

    folder: str
    sites: tuple[str, ...]
    workers: int
    workspace: str
    gpus: tuple[tuple[str, ...], ...] = ()
    log_config: str = ""
    datasets: dict[str, str] = attrs.field(factory=dict)
    secrets: dict[str, str] = attrs.field(factory=dict)
    backend: str = ""
    backend_settings: dict[str, Any] = attrs.field(factory=dict)
    trial: Trial | None = None


def default_workers(sites: int) -> int:
    """How many processes a simulation of so many sites has if nobody says it."""
    return sites if sites <= MOST_PROCESSES else max(1, len(os.sched_getaffinity(0)))


def read(folder: Path) -> tuple[Path, JobSpec]:
    """Read a job as ``flpoc job submit`` does.

    Raises:
        FlpocError: Something is wrong with it.
    """
    found, _ = find_job_folder(folder)
    spec = read_job(found)
    collect_files(found)
    return found.resolve(), spec


def secrets_of(folder: Path) -> dict[str, str]:
    """The secrets that a job names: from the environment of this process, and from files of this machine.

    Those that are not there are left out; so are all of a folder that is no job, which is said elsewhere.
    """
    try:
        found, _ = find_job_folder(folder)
        file = job_file(found)
        sources = [one for one in (file, found / CODE / CONFIG) if one is not None and one.is_file()]
        texts = [one.read_text(encoding="utf-8") for one in sources]
    except (FlpocError, OSError, ValueError):
        return {}
    named = {name: os.environ[name] for name in secrets_in(texts) if name in os.environ}
    for path in secret_files_in(texts):
        with contextlib.suppress(OSError, ValueError):
            named[file_variable(path)] = Path(path).read_text(encoding="utf-8").removesuffix("\n")
    return named


def sites_of(spec: JobSpec, wanted: Sequence[str]) -> tuple[str, ...]:
    """The sites that take part, in site order, of those that there are; if none are named, of those of the job.

    Raises:
        UsageError: A name is none, is given twice, or the job needs other sites.
    """
    if not wanted:
        enough = range(1, max(2, spec.least) + 1)
        wanted = tuple(dict.fromkeys((*spec.sites, *spec.mandatory_sites))) or [f"site-{one}" for one in enough]
    for site in wanted:
        if not SITE_NAME.match(site):
            raise UsageError(f"{site[:80]!r} is not a site name", hint="letters, digits, _ and -, at most 63")
    if len({site.casefold() for site in wanted}) != len(wanted):
        raise UsageError("a site is named twice")
    there = set(wanted)
    if absent := [site for site in (*spec.sites, *spec.mandatory_sites) if site not in there]:
        raise UsageError(
            f"the job needs {', '.join(dict.fromkeys(absent))}, which is not simulated",
            hint="name the sites of the job, or leave them out of the job file",
        )
    takes_part = spec.sites or tuple(
        site for site in sorted(wanted) if site in spec.scripts or DEFAULT_SITE in spec.scripts
    )
    if len(takes_part) < spec.least:
        raise UsageError(f"the job needs {spec.least} sites, {len(takes_part)} are simulated", hint="simulate more")
    return takes_part


def groups_of(text: str | Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Graphics processors of workers: ``0,1`` is one for each of two workers, ``[0,1],[2]`` two for the first.

    Raises:
        UsageError: It is neither.
    """
    if not isinstance(text, str):
        return tuple((one,) for one in text)
    plain = text.replace(" ", "")
    if plain and not re.fullmatch(r"(\[[\w-]+(,[\w-]+)*\]|[\w-]+)(,(\[[\w-]+(,[\w-]+)*\]|[\w-]+))*", plain):
        raise UsageError(f"gpus: {text!r} is not a list", hint="like 0,1 or [0,1],[2]")
    found = re.findall(r"\[([^\]]*)\]|([\w-]+)", plain)
    return tuple(tuple((many or one).split(",")) for many, one in found)


def root(workspace: str | Path | None) -> Path:
    """The folder that gets a folder of results; made if it is not there, for this user alone.

    Raises:
        ConfigError: It is another user's, or no folder.
    """
    named = workspace or os.environ.get(ROOT_VARIABLE, "").strip()
    path = Path(named or DEFAULT_ROOT).expanduser().absolute()
    try:
        if not named:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat().st_uid
    except OSError as error:
        raise ResourceError(
            f"{path}: {error.strerror}", code="OUTPUT_DIR_NOT_WRITABLE", hint="choose another workspace"
        ) from error
    if owner != os.geteuid():
        raise ConfigError(f"{path} belongs to another user", hint="choose another workspace")
    return path


def mode_of(log_config: str | None) -> str:
    """How scripts log: a mode, or the path of a file.

    Raises:
        FlpocError: It is neither.
    """
    if log_config and Path(log_config).is_file():
        return str(Path(log_config).absolute())
    return check_mode(log_config) if log_config else ""


def log_as(log_config: str) -> None:
    """Log so in this process.

    Raises:
        FlpocError: Python's logging cannot be set up as the file says; code LOG_CONFIG_INVALID.
    """
    if log_config and not Path(log_config).is_absolute():
        set_script_mode(log_config)
    elif log_config:
        import logging.config

        settings = read_file(Path(log_config))
        try:
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **settings})
        except (TypeError, ValueError, AttributeError, ImportError) as error:
            raise FlpocError(f"{log_config}: {error}", code="LOG_CONFIG_INVALID", hint=_LOGGING_HINT) from error
