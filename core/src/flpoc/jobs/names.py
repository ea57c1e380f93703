"""What jobs, sites, studies and submit tokens may be called; light, for commands that must be quick."""

from __future__ import annotations

import re
from typing import Final

JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
JOB_ID = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
STUDY_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\Z")
SUBMIT_TOKEN = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
#: The file, in the folder of a job's code, with what its recipe has configured.
CONFIG: Final = "flpoc_config.json"
