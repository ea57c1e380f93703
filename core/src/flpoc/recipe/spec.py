"""What every recipe is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from flpoc.errors import UsageError
from flpoc.filtering import FilterSpec
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.exec_env import ExecEnv
from flpoc.recipe.exporting import DEFAULT_DIR, EXPORT_VARIABLE, Exported, export, export_dir
from flpoc.recipe.job import Job
from flpoc.recipe.kinds import ExchangeFormat
from flpoc.recipe.leaks import warn_of_secrets
from flpoc.recipe.parameters import word
from flpoc.recipe.run import Run
from flpoc.recipe.scripts import merge_per_site

__all__ = ["ExecEnv", "Recipe"]


class Recipe:
    """An algorithm with its parameters, ready to become a job.

    Args:
        job: The job that it makes.

    Attributes:
        framework: What the models are made of; empty if that is not known.
    """

    #: What the catalogue says about it.
    CATALOGUE: ClassVar[RecipeEntry]

    def __init__(self, job: Job) -> None:
        self.job = job
        self.framework = ""
        self._streamed = False

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.job.name

    # -- running

    def run(
        self,
        env: ExecEnv | None = None,
        server_exec_params: Mapping[str, Any] | None = None,
        client_exec_params: Mapping[str, Any] | None = None,
    ) -> Run:
        """Run the job in an environment; gives the handle to follow it with.

        Where FLPOC_EXPORT_DIR or ``--export`` on the line asks for it, the job folder is written instead, and the
        program ends.

        Args:
            env: Where to run: :class:`SimEnv`, :class:`PocEnv` or :class:`ProdEnv`.
            server_exec_params: Configuration of code in the controller, for this run. None leaves it as it is, {}
                empties it, anything else is merged into it.
            client_exec_params: The same for what ``flare.get_config()`` gives at the sites.

        Raises:
            ValueError: Scripts are missing; they are named.
            FlpocError: The job cannot be run there; says why. A job that fails later does not raise here:
                :meth:`Run.get_result` does.
            UsageError: No environment is given.
        """
        job = self.job.for_call(server_exec_params, client_exec_params)
        warn_of_secrets(job)
        if (folder := export_dir()) is not None:
            raise Exported(self._exported(job, folder))
        if env is None:
            program = Path(sys.argv[0]).name or "job.py"
            raise UsageError(
                f"give an environment, like SimEnv(num_clients=2); or export and submit: `flpoc recipe export "
                f"{program}`, then `flpoc job submit -j {DEFAULT_DIR}/{self.name}`"
            )
        if not isinstance(env, ExecEnv):
            raise ValueError(f"env: {type(env).__name__}: wanted is SimEnv(...), PocEnv(...) or ProdEnv(...)")
        return Run(env, env.deploy(job))

    def execute(
        self,
        env: ExecEnv | None = None,
        server_exec_params: Mapping[str, Any] | None = None,
        client_exec_params: Mapping[str, Any] | None = None,
    ) -> Run:
        """The same as :meth:`run`."""
        return self.run(env, server_exec_params, client_exec_params)

    def export(
        self,
        job_dir: Path | str = DEFAULT_DIR,
        server_exec_params: Mapping[str, Any] | None = None,
        client_exec_params: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the job folder JOB_DIR/NAME, which ``flpoc job submit`` takes; gives its path.

        An earlier export there is replaced; anything else is left alone, and refused.
        A script is looked for in the working directory, then beside the program.
        Modules beside it that it imports come along. No path of this machine gets into the job.

        Raises:
            FlpocError: A script is missing or does not compile, a parameter is wrong, or the folder cannot be written.
        """
        job = self.job.for_call(server_exec_params, client_exec_params)
        warn_of_secrets(job)
        return export(job, Path(job_dir))

    def _exported(self, job: Job, folder: Path) -> Path:
        written = export(job, folder)
        if not os.environ.get(EXPORT_VARIABLE, "").strip():
            sys.stdout.write(f"Exported {self.name}: {written}\n")
        return written

    # -- sites

    def set_per_site_config(self, config: Mapping[str, Mapping[str, Any]]) -> None:
        """Say what is different at some sites, once: the keys of ``per_site_config``.

        Raises:
            ValueError: A site or a key cannot be used.
            RuntimeError: It was said before.
        """
        if self.job.sites:
            raise RuntimeError("set_per_site_config: the recipe has a configuration by site already")
        self.job.scripts = merge_per_site(self.job.settings, self.job.scripts, config)

    def configured_sites(self) -> tuple[str, ...]:
        """Names of the sites for which something is said of their own."""
        return self.job.sites

    # -- what comes along

    def add_client_file(self, path: str | Path, clients: Sequence[str] | None = None) -> None:
        """Let a file, or a folder with all that is in it, come along; it stands beside the script, by its name.

        Raises:
            ValueError: There is no such file, or single *clients* are named: every site gets all of a job's code.
        """
        if clients is not None:
            raise ValueError("clients: a job has one folder of code, which every site gets: leave it out")
        self.job.add_file(path)

    def add_server_file(self, path: str | Path) -> None:
        """The same for code that runs in the controller: a job has one folder of code for all."""
        self.job.add_file(path)

    def add_client_config(self, config: Mapping[str, Any], clients: Sequence[str] | None = None) -> None:
        """Let ``flare.get_config()`` say more: keys and values, at all sites or at those named.

        Raises:
            ValueError: It is no plain JSON data, or a site is named for which nothing is configured.
        """
        for site in self._sites("clients", clients) or ("@default",):
            self.job.add_config(config, site)

    def add_server_config(self, config: Mapping[str, Any]) -> None:
        """The same for code that runs in the controller, where ``flpoc_config.json`` stands beside it."""
        self.job.to_server(dict(config))

    def _sites(self, parameter: str, named: Sequence[str] | None) -> tuple[str, ...]:
        if named is None:
            return ()
        known = self.configured_sites()
        if not known:
            raise ValueError(f"{parameter}: all sites are configured alike; see set_per_site_config")
        for one in named:
            if one not in known:
                raise ValueError(f"{parameter}: {one!r} is not configured; there are: {', '.join(known)}")
        return tuple(named)

    # -- filters

    def add_client_output_filter(
        self,
        filter: FilterSpec | str,  # noqa: A002
        tasks: Sequence[str] = (),
        clients: Sequence[str] | None = None,
    ) -> None:
        """Have every site apply a filter to its updates before they leave: its name, or a FilterSpec with settings.

        Raises:
            ValueError: It is neither, or tasks or sites are named that it cannot be for.
        """
        if clients is not None:
            raise ValueError("clients: the filters of a job hold for all sites; a site's own are in its policy")
        if isinstance(filter, str) and filter:
            filter = FilterSpec(filter)  # noqa: A001
        if not isinstance(filter, FilterSpec):
            raise ValueError(
                f"filter: {type(filter).__name__}: wanted is the name of a filter, or FilterSpec(name, settings)"
            )
        self.job.add_filter(filter, tasks)

    def add_client_input_filter(self, *_: Any, **__: Any) -> None:
        """Refused: filters change what leaves a site, nothing that comes in.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "add_client_input_filter: filters change what leaves a site (add_client_output_filter); "
            "what a script does with a model it received is its own affair"
        )

    def add_server_output_filter(self, *_: Any, **__: Any) -> None:
        """Refused: the server sends the committed model as it is.

        Raises:
            ValueError: Always.
        """
        raise ValueError("add_server_output_filter: models leave the server as committed; write an aggregator")

    def add_server_input_filter(self, *_: Any, **__: Any) -> None:
        """Refused: updates are aggregated as they came.

        Raises:
            ValueError: Always.
        """
        raise ValueError("add_server_input_filter: updates are aggregated as they came; write an aggregator")

    # -- what needs nothing here

    def add_decomposers(self, decomposers: Sequence[Any]) -> None:
        """Refused, unless the list is empty: no objects are serialised, only arrays and plain data travel.

        Raises:
            ValueError: The list names something.
        """
        if decomposers:
            raise ValueError("add_decomposers: only arrays and plain data travel; let the script make them of objects")

    def enable_log_streaming(self, *names: str) -> None:
        """Has no effect: the logs of all sites always come."""

    def enable_tensor_streaming(self, format: str = "numpy", **_: Any) -> None:  # noqa: A002
        """Has no effect: models are always streamed from file to file.

        Raises:
            ValueError: There is no such format.
            RuntimeError: It was called before.
        """
        word("format", format, ExchangeFormat)
        if self._streamed:
            raise RuntimeError("enable_tensor_streaming: it was called before")
        self._streamed = True
