"""``python -m flpoc.runner.trainer SCRIPT ARGS``: runs a training script in its main thread."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path

from flpoc.client import api
from flpoc.client.script import Script
from flpoc.jobs.secrets import with_secrets


def main() -> int:
    script, *args = sys.argv[1:]
    sys.path[0] = str(Path(script).parent)
    try:
        sys.argv = [script, *map(with_secrets, args)]
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return exit_status(end)
    except BaseException as error:  # noqa: BLE001 - whatever the script raises is the job's first cause
        return _report(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def exit_status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _report(error: BaseException) -> int:
    # the frames of this runner say nothing to the script's author
    own = error.__traceback__
    while own is not None and "runpy" not in own.tb_frame.f_code.co_filename:
        own = own.tb_next
    while own is not None and "runpy" in own.tb_frame.f_code.co_filename:
        own = own.tb_next
    traceback.print_exception(type(error), error, own or error.__traceback__)
    current = _connected()
    if current is None:
        return 1
    current.explain(error)
    return 1


def _connected() -> Script | None:
    """The script's connection, made now if it failed before; None if there can be none."""
    try:
        api.begin()
    except BaseException as error:  # noqa: BLE001 - the agent still has the exit code and the log
        print(f"flpoc: {error}", file=sys.stderr)
    return api.current()


if __name__ == "__main__":
    sys.exit(main())
