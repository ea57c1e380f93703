"""Commands as forks of one process that has imported flpoc already: as real as others, and ten times as quick."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SERVER = r"""
import json, os, signal, sys

import difflib, yaml, pyhocon, msgspec, numpy, cryptography.x509
from flpoc.cli import config, config_kits, formats, job, plugins, poc, redaction, root, run, schema, version
from flpoc.cli.main import main

for line in sys.stdin:
    ask = json.loads(line)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(ask["limit"])
        os.environ.clear()
        os.environ.update(ask["env"])
        os.chdir(ask["cwd"])
        for number, path in ((0, os.devnull), (1, ask["out"]), (2, ask["err"])):
            os.dup2(os.open(path, os.O_RDWR), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
        code = main(ask["words"])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Quick:
    """The process that is forked for every command."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.out, self.err = folder / "out", folder / "err"
        argv = [sys.executable, "-c", SERVER]
        pipe: Any = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=dict(environment), cwd=folder, text=True)

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], here: Path, limit: float
    ) -> tuple[int, str, str]:
        """Run one command; gives its exit status and what it wrote. After *limit* seconds it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for path in (self.out, self.err):
            path.write_bytes(b"")
        ask = {"words": list(words), "env": dict(environment), "cwd": str(here), "limit": max(1, round(limit))}
        more = {"out": str(self.out), "err": str(self.err)}
        self._process.stdin.write(json.dumps({**ask, **more}) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return code, self.out.read_text(errors="replace"), self.err.read_text(errors="replace")

    def close(self) -> None:
        self._process.communicate(timeout=60)
