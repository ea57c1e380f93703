"""``python -m flpoc.site KIT``: the agent of a site."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from flpoc.ending import end
from flpoc.jobs.ownership import lock_state
from flpoc.plugins import Plugins
from flpoc.provision.kits import load_kit
from flpoc.serving import run
from flpoc.site.agent import Agent

log = logging.getLogger("flpoc.site")


async def serve(kit_folder: Path, state: Path) -> bool:
    """Serve until SIGTERM or SIGINT, an order, or until the server refuses this site for good.

    Returns:
        Whether it is to begin anew.
    """
    kit = load_kit(kit_folder, kind="site")
    lock = lock_state(state.absolute(), f"the agent of {kit.settings.name}")
    plugins = Plugins.of_kit(kit.settings.plugins)
    for trouble in plugins.troubles:
        log.warning("%s", trouble)
    agent = Agent(kit, plugins, state.absolute())
    running = asyncio.create_task(agent.run())
    agent.ended = running.cancel
    for number in (signal.SIGTERM, signal.SIGINT):
        agent.loop.add_signal_handler(number, agent.end, False)  # also when it was just about to begin anew
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        log.info("stopping")
        await agent.stop()
        del lock
    return agent.again


if __name__ == "__main__":
    status = run("flpoc.site", "The agent of a site of an flpoc project.", serve)
    end(status)
    sys.exit(status)
