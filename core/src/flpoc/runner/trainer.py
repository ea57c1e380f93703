"""``python -m flpoc.runner.trainer SCRIPT ARGS``: runs a training script in its main thread."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path

from flpoc.client import api
from flpoc.runner.blame import blame


def main() -> int:
    script, *args = sys.argv[1:]
    sys.argv = [script, *args]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return _status(end)
    except BaseException as error:  # noqa: BLE001 - whatever the script raises is the job's first cause
        return _report(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _status(end: SystemExit) -> int:
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
    current = api.current()
    task = current.task if current is not None else None
    phase = "evaluating" if task is not None and task.kind == "evaluate" else "training"
    failure = blame(error, round_number=task.round if task is not None else None, phase=phase)
    if current is None:
        try:
            api.init()
            current = api.current()
        except BaseException as second:  # noqa: BLE001 - the agent still has the exit code and the log
            print(f"flpoc: {second}", file=sys.stderr)
    if current is not None:
        current.failed(failure)
        current.close()
    return 1


if __name__ == "__main__":
    sys.exit(main())
