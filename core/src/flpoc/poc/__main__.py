"""``python -m flpoc.poc FOLDER NAME...``: what ``flpoc poc stop --no-wait`` leaves to be done, under its lock."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flpoc.configuration import Configuration
from flpoc.plugins import Plugins
from flpoc.poc.services import Services
from flpoc.poc.stopping import verify
from flpoc.poc.workspace import open_workspace


def main() -> int:
    parser = argparse.ArgumentParser(prog="flpoc.poc", description="Stop services of a proof of concept.")
    parser.add_argument("folder", type=Path, help="the workspace")
    parser.add_argument("names", nargs="+", help="the services")
    words = parser.parse_args()
    settings = Configuration.load()
    plugins = Plugins.load(private=settings.plugins_load, disabled=settings.plugins_disable)
    services = Services(words.folder, plugins, open_workspace(words.folder))
    services.stop(words.names)
    verify(services, words.names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
