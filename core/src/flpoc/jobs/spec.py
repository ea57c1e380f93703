"""The job file as data: everything that a job says, all values written."""

from __future__ import annotations

import re
from typing import Any, Literal

import attrs

from flpoc.errors import ConfigError
from flpoc.filtering import FilterSpec
from flpoc.jobs.names import JOB_NAME, SITE_NAME, STUDY_NAME
from flpoc.jobs.paths import FileEntry, below_code
from flpoc.jobs.secrets import keeps_place
from flpoc.launching import IMAGE_NAME
from flpoc.tracking import TrackerSpec

#: In ``scripts``, what holds for every site that is not named.
DEFAULT_SITE = "@default"


def _matching(pattern: re.Pattern[str], what: str) -> Any:
    def check(_: Any, attribute: Any, value: str) -> None:
        if not pattern.match(value):
            raise ValueError(f"{attribute.name}: {value!r} is not {what}")

    return check


def _positive(_: Any, attribute: Any, value: float | None) -> None:
    if value is not None and not 0 < value < 1e9:
        raise ValueError(f"{attribute.name} must be greater than 0")


def _passable(_: Any, attribute: Any, value: Any) -> None:
    """Arguments and environment variables as the system can pass them on."""
    words = (*value, *value.values()) if isinstance(value, dict) else value
    if any("\0" in word for word in words):
        raise ValueError(f"{attribute.name}: a NUL character cannot be passed to a program")
    if isinstance(value, dict) and any(not name or "=" in name for name in value):
        raise ValueError(f"{attribute.name}: the name of a variable is empty or has a '=' in it")


def _not_negative(_: Any, attribute: Any, value: float) -> None:
    if not 0 <= value < 1e9:
        raise ValueError(f"{attribute.name} must not be negative")


def _image_name(_: Any, attribute: Any, value: str) -> None:
    if value and not IMAGE_NAME.fullmatch(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not the name of an image")


def _gpu_count(_: Any, attribute: Any, value: int) -> None:
    if not 0 <= value <= 1024:
        raise ValueError(f"{attribute.name} must be between 0 and 1024")


def _fits_64_bits(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_fits_64_bits, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_fits_64_bits, value))
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


def _sendable(_: Any, attribute: Any, value: Any) -> None:
    if not _fits_64_bits(value):
        raise ValueError(f"{attribute.name}: a whole number must fit into 64 bits")


def _sendable_settings(_: Any, attribute: Any, value: tuple[Any, ...]) -> None:
    _sendable(_, attribute, [one.settings for one in value])


def _each_once(_: Any, attribute: Any, value: tuple[TrackerSpec, ...]) -> None:
    if len({one.name for one in value}) != len(value):
        raise ValueError(f"{attribute.name}: one is named twice")


def _nothing_yet(_: Any, attribute: Any, value: str) -> None:
    """Refused by whoever reads the job: what cannot be kept must not be promised."""
    if value:
        raise ValueError(f"{attribute.name}: {value[:80]!r} cannot be had: updates are not encrypted by this version")


@attrs.frozen
class ScriptSpec:
    """What a site runs.

    Attributes:
        script: Path of the training script below ``code/``.
        args: Arguments of the script.
        command: Program that runs the script, with its own arguments; empty: the site's Python.
        env: Further environment variables.
        cpus: Processors, also the number of threads of numeric libraries.
        memory_gib: Main memory; None for no limit.
        gpus: Number of graphics processors.
        image: What it runs in, at sites whose launcher has images; their policy must allow it. Empty: the study's or
            the site's.
        framework: Name of an installed framework adapter, as whose parameters the script receives a model; empty:
            NumPy arrays.
        transfer_type: `FULL`: models are sent as they are. `DIFF`: what is sent of a model is its difference from the
            received one.
        launch_once: Whether one start of the script answers all tasks; if not, it is started anew for every task.
        shutdown_timeout: Seconds that it is given to end by itself after its last task, on top of the usual.
        memory_gc_rounds: After how many answered tasks the script's process collects garbage; 0: never.
        cuda_empty_cache: Whether PyTorch's cache of graphics memory is emptied then, too.
    """

    script: str = attrs.field(validator=_passable)
    args: tuple[str, ...] = attrs.field(default=(), validator=_passable)
    command: tuple[str, ...] = attrs.field(default=(), validator=_passable)
    env: dict[str, str] = attrs.field(factory=dict, validator=_passable)
    cpus: float = attrs.field(default=1.0, validator=_positive)
    memory_gib: float | None = attrs.field(default=None, validator=_positive)
    gpus: int = attrs.field(default=0, validator=_gpu_count)
    image: str = attrs.field(default="", validator=_image_name)
    framework: str = ""
    transfer_type: Literal["FULL", "DIFF"] = "FULL"
    launch_once: bool = True
    shutdown_timeout: float = attrs.field(default=0.0, validator=_not_negative)
    memory_gc_rounds: int = attrs.field(default=0, validator=_not_negative)
    cuda_empty_cache: bool = False

    def __attrs_post_init__(self) -> None:
        if self.command and keeps_place(self.args):
            raise ValueError("args: secrets are given to scripts that flpoc starts itself, not through a command")


@attrs.frozen
class TimeoutSpec:
    """The three time-outs, in seconds.

    Attributes:
        stall: A site without any progress (bytes, client API calls, CPU time) for this long is lost.
        join_timeout: A site must have connected its trainer this long after it was told.
        round_deadline: A round is closed after this long; None for no limit.
    """

    stall: float = attrs.field(default=600.0, validator=_positive)
    join_timeout: float = attrs.field(default=300.0, validator=_positive)
    round_deadline: float | None = attrs.field(default=None, validator=_positive)


@attrs.frozen
class JobSpec:
    """A job, complete: every value is written, defaults included.

    Attributes:
        name: For people.
        study: The tenant it belongs to.
        sites: Sites that take part; empty: all sites of the study that are connected when it starts.
        mandatory_sites: Sites without which it does not start.
        min_clients: How many sites it takes to start; None: all of ``sites``, or one if none are named.
        quorum: How many updates close a round; None: all sites that started, and a round with fewer fails the job.
        workflow: Name of the workflow.
        rounds: Number of rounds.
        workflow_settings: Settings of the workflow.
        aggregator: Name of the aggregator.
        aggregator_settings: Settings of the aggregator.
        initial_model: A safetensors file below ``code/`` to start from; empty: the sites start from their own.
        seed: From which every site's and round's seed is derived.
        scripts: What each site runs; ``@default`` for those not named.
        timeouts: The three time-outs.
        keep_rounds: Keep the model of every round.
        partial: Allow updates with a subset of the model's tensors.
        plugins: ``kind/name`` of components that every site must have.
        filters: What every site does with its updates, in this order, before they leave; the site's own come last.
        tracking: Where its metrics are shown, by trackers that are installed at the server.
        encryption: Name of a cipher; only empty is taken as long as there is none.
    """

    name: str = attrs.field(validator=_matching(JOB_NAME, "a job name (letters, digits, . _ -)"))
    scripts: dict[str, ScriptSpec]
    study: str = attrs.field(default="default", validator=_matching(STUDY_NAME, "a study name"))
    sites: tuple[str, ...] = ()
    mandatory_sites: tuple[str, ...] = ()
    min_clients: int | None = None
    quorum: int | None = None
    workflow: str = "fedavg"
    rounds: int = 2
    workflow_settings: dict[str, Any] = attrs.field(factory=dict, validator=_sendable)
    aggregator: str = "mean"
    aggregator_settings: dict[str, Any] = attrs.field(factory=dict, validator=_sendable)
    initial_model: str = attrs.field(default="", validator=below_code)
    seed: int = attrs.field(default=0, validator=_sendable)
    timeouts: TimeoutSpec = attrs.field(factory=TimeoutSpec)
    keep_rounds: bool = False
    partial: bool = False
    plugins: tuple[str, ...] = ()
    filters: tuple[FilterSpec, ...] = attrs.field(default=(), validator=_sendable_settings)
    tracking: tuple[TrackerSpec, ...] = attrs.field(default=(), validator=[_sendable_settings, _each_once])
    encryption: str = attrs.field(default="", validator=_nothing_yet)

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.rounds <= 1_000_000:
            raise ValueError("rounds must be between 1 and 1000000")
        for key in ("min_clients", "quorum"):
            value = getattr(self, key)
            if value is not None and not 1 <= value <= 1_000_000:
                raise ValueError(f"{key} must be between 1 and 1000000")
        if not self.scripts:
            raise ValueError("scripts: say what the sites run")
        for site in self.named_sites:
            if not SITE_NAME.match(site):
                raise ValueError(f"{site!r} is not a site name")
        if len({site.casefold() for site in self.sites}) != len(self.sites):
            raise ValueError("sites: a site is named twice")
        if self.sites:
            if strangers := sorted(set(self.mandatory_sites) - set(self.sites)):
                raise ValueError(f"mandatory_sites: {strangers[0]!r} is not among the sites")
            for key in ("min_clients", "quorum"):
                value = getattr(self, key)
                if value is not None and value > len(self.sites):
                    raise ValueError(f"{key} is {value}, but only {len(self.sites)} sites are named")
            if DEFAULT_SITE not in self.scripts and (missing := sorted(set(self.sites) - set(self.scripts))):
                raise ValueError(f"scripts: nothing is said for {missing[0]!r}, and there is no {DEFAULT_SITE!r}")

    def script_for(self, site: str) -> ScriptSpec:
        """What *site* runs.

        Raises:
            ConfigError: The job says nothing for it.
        """
        found = self.scripts.get(site) or self.scripts.get(DEFAULT_SITE)
        if found is None:
            raise ConfigError(f"scripts: nothing is said for {site!r}, and there is no {DEFAULT_SITE!r}")
        return found

    @property
    def named_sites(self) -> frozenset[str]:
        """All sites that it names, whatever for."""
        return frozenset({*self.sites, *self.mandatory_sites, *(set(self.scripts) - {DEFAULT_SITE})})

    @property
    def least(self) -> int:
        """How many sites it takes to start."""
        return self.min_clients or len(self.sites) or 1


@attrs.frozen
class Manifest:
    """What a submitter signs: the job and every file of it.

    Attributes:
        spec: The job, complete.
        files: Every file of ``code/``, sorted by path.
        folder: Name of the folder that was submitted, for people.
        project: The project it is for.
        submitter: Name of the user who signs.
        created: ISO 8601 UTC.
        expires: ISO 8601 UTC; after this nobody starts it.
    """

    spec: JobSpec
    files: tuple[FileEntry, ...]
    folder: str
    project: str
    submitter: str
    created: str
    expires: str


@attrs.frozen
class SignedJob:
    """A manifest as signed, with what is needed to check it.

    Attributes:
        manifest: Canonical JSON of a :class:`Manifest`.
        signature: ECDSA P-256 with SHA-256 over ``manifest``, DER.
        certificate: The submitter's certificate, PEM.
    """

    manifest: bytes
    signature: bytes
    certificate: bytes
