"""A proof of concept: a server and its sites on this machine, in one folder.

The commands ``flpoc poc ...`` and ``PocEnv`` of recipes are thin over the
functions here; each returns a report with the data that it prints.
"""

from flpoc.poc.adding import add_site, add_user
from flpoc.poc.cleaning import clean
from flpoc.poc.preparing import Wanted, is_running, prepare
from flpoc.poc.starting import start
from flpoc.poc.stopping import stop
from flpoc.poc.workspace import is_workspace, open_workspace, user_kit

__all__ = [
    "Wanted", "add_site", "add_user", "clean", "is_running", "is_workspace", "open_workspace", "prepare", "start",
    "stop", "user_kit",
]  # fmt: skip
