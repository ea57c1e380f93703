"""Ctrl-C while a proof of concept starts."""

from __future__ import annotations

import json
import time


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
