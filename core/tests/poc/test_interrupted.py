"""Ctrl-C while a proof of concept starts."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

#: Ctrl-C while the module is imported that the first argument names.
AT = """
import signal, sys
from flpoc.cli.main import main

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == at:
            sys.meta_path.remove(self)
            print("interrupted")
            signal.raise_signal(signal.SIGINT)

at = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
sys.exit(main())
"""


def test_who_interrupts_a_start_is_told_what_runs_and_how_to_end_it(terminal, place):
    place.prepare(sites=1)
    # the site looks for its server where none is, so that the start waits
    (place.kit("site-1") / "local" / "connect.json").write_text(json.dumps({"port": place.spare_port}))
    begun = terminal("poc", "start", **place.env)
    logs = [place.kit(name) / "poc_console.log" for name in ("server", "site-1")]
    until = time.monotonic() + 60
    while not all(log.exists() and log.read_bytes() for log in logs):
        assert time.monotonic() < until, begun.seen
        time.sleep(0.05)
    begun.type("\x03")
    assert begun.end() == 130
    told = "What was started goes on. To wait until it is ready: flpoc poc start. To end it: flpoc poc stop.\n"
    assert begun.seen.endswith(f"\n{told}"), begun.seen
    assert sorted(place.run("stop").data["services"]) == ["server", "site-1"]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("yaml.loader", "poc start"),  # of which a second import fails, when it is looked for what runs
        ("yaml._yaml", "poc start"),
        ("zlib", "job list"),  # which gRPC imports, to raise an error of its own
        ("flpoc.session", "job list"),
    ],
)
def test_whoever_interrupts_an_import_is_not_told_of_a_defect(place, module, words):
    place.prepare(sites=1)
    command = [sys.executable, "-c", AT, module, *words.split()]
    done = subprocess.run(command, env=place.env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted\n", "")
