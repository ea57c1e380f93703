"""The project file that somebody begins with."""

from __future__ import annotations

from typing import Final

SAMPLE: Final = """\
# A project: one server, its sites and the people who work with them.
# `flpoc provision` makes a startup kit for each of them.

api_version: 3
name: example_project
description: An example of federated learning

participants:
  # The name of the server is in its certificate, and what the others dial.
  # Where it has another address, add:  default_host: fl.hospital.org
  - name: server1
    type: server
    org: nvidia
    fed_learn_port: 8002

  - name: site-1
    type: client
    org: nvidia

  - name: site-2
    type: client
    org: nvidia

  # Roles: project_admin, org_admin, lead (submits jobs), member (looks on).
  - name: admin@nvidia.com
    type: admin
    org: nvidia
    role: project_admin

  - name: lead@nvidia.com
    type: admin
    org: nvidia
    role: lead
"""
