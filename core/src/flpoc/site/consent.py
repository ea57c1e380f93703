"""What a site agrees to run: its own decision, whatever the server says."""

from __future__ import annotations

from typing import Any

from flpoc.errors import AuthError
from flpoc.jobs.signing import verify_job
from flpoc.jobs.spec import Manifest, SignedJob
from flpoc.provision.kits import Kit

#: Roles whose jobs a site runs.
SUBMITTERS = frozenset({"project_admin", "lead"})


def consent(kit: Kit, signed: SignedJob, policy: dict[str, Any]) -> Manifest:
    """Check a job before anything of it is unpacked.

    Raises:
        AuthError: The signer may not submit, or this site runs no code of users.
        IntegrityError: The job is not what was signed.
    """
    manifest, signer = verify_job(signed, root_pem=kit.root_pem, project=kit.settings.project)
    if signer.role not in SUBMITTERS:
        hint = f"roles that may: {', '.join(sorted(SUBMITTERS))}"
        raise AuthError(f"{signer.name} ({signer.role}) may not submit jobs", hint=hint)
    if not policy["allow_custom_code"]:
        hint = "allow_custom_code in the site's local/policy.json decides"
        raise AuthError(f"{kit.settings.name} runs no code of users", hint=hint)
    command = manifest.spec.script_for(kit.settings.name).command
    if command and command[0] not in {"python", "python3", policy["python"]}:
        raise AuthError(f"{kit.settings.name} does not start {command[0]!r}", hint="its policy names the programs")
    return manifest
