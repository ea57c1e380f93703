"""A site's script in a process that outlives it: its own ``__main__``, arguments, environment and working directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import attrs

from flpoc.client import api
from flpoc.client.foreign import Adapters
from flpoc.client.script import Script
from flpoc.errors import ResourceError
from flpoc.jobs.secrets import with_secrets
from flpoc.runner.trainer import exit_status
from flpoc.simulate.messages import Stage
from flpoc.simulate.outside import Relay
from flpoc.simulate.passing import Gates, WithheldError
from flpoc.wire.trainer_messages import STATE_FOLDER, Give, Over, Submit, Taken

#: What is said in the name of a script.
Say = Callable[[Any], None]


@attrs.define
class SimulatedOwner:
    """Whom a script of a simulated site answers.

    An answer is safe as soon as its file is out of the script's folder.
    """

    say: Say
    folder: Path
    updates: Path
    stage: Stage
    gates: Gates
    calls: int = 0
    script: Script | Relay | None = None
    task: Give | None = None

    def take(self, message: Any) -> None:
        """Pass on what the engine says."""
        assert self.script is not None
        if isinstance(message, Give):
            self.task = message
        self.script.take(message)

    def request(self, key: str, message: Any) -> None:
        del key
        if isinstance(message, Submit):
            self._take(message)
            self.take(Taken(message.round))
            if self.stage.once:
                self.take(Over())

    def _take(self, submit: Submit) -> None:
        path = self.folder / submit.file
        if self.stage.filters:
            path, submit = self.gates.passed(self.stage, self.task, path, submit)
        site = self.stage.start.site
        name = f"{submit.round}.{site}.{submit.checksum}.safetensors"
        try:
            if submit.state:
                kept = Path(self.stage.kept) / f"{site}.{submit.round}"
                shutil.rmtree(kept, ignore_errors=True)
                (self.folder / STATE_FOLDER / str(submit.round)).rename(kept)
            path.rename(self.updates / name)
        except OSError as error:
            raise ResourceError(f"{name}: cannot be kept: {error.strerror}") from error
        self.say(attrs.evolve(submit, file=name))

    def settle(self, key: str) -> None:
        """Nothing is asked for twice."""

    def send(self, message: Any) -> None:
        self.say(message)

    def close(self) -> None:
        """It is the worker's."""


class Scripts:
    """The scripts of a job, each compiled once; what plugins they need is loaded once."""

    def __init__(self) -> None:
        self._compiled: dict[str, CodeType] = {}
        self._adapters: dict[tuple[tuple[str, ...], str], Adapters] = {}

    def code(self, path: str) -> CodeType:
        """The compiled script.

        Raises:
            SyntaxError: It is none.
        """
        found = self._compiled.get(path)
        if found is None:
            found = self._compiled[path] = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        return found

    def run(self, stage: Stage, task: Give | None, owner: SimulatedOwner, begun: Callable[[], object] = int) -> int:
        """Run a site's script to its end in this thread; gives what its process would have ended with.

        Args:
            stage: The site and its script.
            task: The task that it is started for; None if its owner brings tasks.
            owner: Whom it answers.
            begun: Called when the script can be told something.
        """
        if stage.command:
            return self._run_outside(stage, task, owner, begun)
        known = stage.start.plugins, stage.start.framework
        adapters = self._adapters.setdefault(known, Adapters(*known))
        script = owner.script = Script(owner, owner.folder, adapters)
        script.take(stage.start)
        if task is not None:
            owner.take(task)
        begun()
        with _as_main(stage, script, owner) as main:
            try:
                exec(self.code(stage.script), main.__dict__)  # noqa: S102 - running the job's script is the purpose
            except SystemExit as end:
                return exit_status(end)
            except WithheldError:
                return 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and stage.once:
                    raise
                return _report(error, script, stage)
            finally:
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(ValueError, OSError, AttributeError):
                        stream.flush()
        return 0

    def _run_outside(self, stage: Stage, task: Give | None, owner: SimulatedOwner, begun: Callable[[], object]) -> int:
        relay = owner.script = Relay(owner, stage)
        if task is not None:
            owner.take(task)
        begun()
        code = relay.run({**os.environ, **stage.env})
        if code < 0:
            os.kill(os.getpid(), -code)  # as if it had been this process
        return code


@contextlib.contextmanager
def _as_main(stage: Stage, script: Script, owner: SimulatedOwner) -> Iterator[ModuleType]:
    """Be a process that was started with this script, for a while."""
    main = ModuleType("__main__")
    main.__dict__.update(__file__=stage.script, __builtins__=__builtins__)
    args = with_secrets(list(stage.args), stage.env)
    before = sys.modules["__main__"], sys.argv, sys.path[:], dict(os.environ), Path.cwd()
    sys.modules["__main__"] = main
    sys.argv = [stage.script, *args]
    sys.path.insert(0, str(Path(stage.script).parent))
    os.environ.update(stage.env)
    os.chdir(owner.folder)
    api.use(script, begun=False)
    try:
        yield main
    finally:
        api.use(None)
        sys.modules["__main__"], sys.argv, sys.path[:] = before[:3]
        _restore(before[3])
        os.chdir(before[4])
        # what it holds goes now, not when a collector comes by: its functions and its names refer to each other
        main.__dict__.clear()


def _restore(environ: dict[str, str]) -> None:
    now = dict(os.environ)
    for key in now.keys() - environ.keys():
        del os.environ[key]
    os.environ.update({key: value for key, value in environ.items() if now.get(key) != value})


def _report(error: BaseException, script: Script, stage: Stage) -> int:
    """Print what a script raised as Python does, and say it."""
    own = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename != stage.script:
        own = own.tb_next
    traceback.print_exception(type(error), error, own)
    script.explain(error)
    return 1
