"""What a job's recipe has configured for its scripts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flpoc.jobs.names import CONFIG
from flpoc.jobs.secrets import with_secrets


def configured(site: str) -> dict[str, Any]:
    """What is configured for all sites, and for this one; nothing if the job brings no configuration."""
    path = Path(os.environ.get("FLPOC_CODE", ""), CONFIG)
    if not path.is_file():
        return {}
    said = json.loads(path.read_text(encoding="utf-8")).get("client", {})
    found: dict[str, Any] = with_secrets({**said.get("@default", {}), **said.get(site, {})})
    return found
