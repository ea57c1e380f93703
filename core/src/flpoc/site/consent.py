"""What a site agrees to run: its own decision, whatever the server says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import attrs

from flpoc.audit.log import AuditLog
from flpoc.audit.records import Decision, Principal
from flpoc.errors import AuthError, FlpocError
from flpoc.jobs.revocations import Revocations
from flpoc.jobs.signing import verify_job
from flpoc.jobs.spec import Manifest, SignedJob
from flpoc.provision.kits import Kit
from flpoc.provision.rights import About, Permissions
from flpoc.site.environments import environments
from flpoc.site.images import ImagePolicy

#: Programs that run a script like the interpreter does, and nothing besides.
_PYTHONS = ("python", "python3", "torchrun")


def consent(
    kit: Kit,
    signed: SignedJob,
    policy: dict[str, Any],
    permissions: Permissions | None = None,
    revocations: Revocations | None = None,
    *,
    images: ImagePolicy | None = None,
) -> Manifest:
    """Check a job before anything of it is unpacked; *images* says which it may ask for, where there are images.

    Raises:
        AuthError: The signer may not submit or is locked out, the job is for other sites or a study that this site
            does not work for, or this site runs no code of users.
        IntegrityError: The job is not what was signed.
    """
    manifest, signer = verify_job(signed, root_pem=kit.root_pem, project=kit.settings.project)
    if revocations is not None:
        revocations.refuse(signer.serial, signer.name)
    about = About(kit.settings.org, signer.name, signer.org)
    for right in ("submit_job", "byoc"):
        (permissions or Permissions()).check(signer, right, about)
    if policy["studies"] and manifest.spec.study not in policy["studies"]:
        hint = "studies in the site's local/policy.json decides"
        raise AuthError(f"{kit.settings.name} does not work for study {manifest.spec.study!r}", hint=hint)
    if not policy["allow_custom_code"]:
        hint = "allow_custom_code in the site's local/policy.json decides"
        raise AuthError(f"{kit.settings.name} runs no code of users", hint=hint)
    if manifest.spec.sites and kit.settings.name not in manifest.spec.sites:
        raise AuthError(f"{signer.name} has not signed this job for {kit.settings.name}")
    command = manifest.spec.script_for(kit.settings.name).command
    if command and command[0] not in {*_PYTHONS, policy["python"]}:
        raise AuthError(f"{kit.settings.name} does not start {command[0]!r}", hint="its policy names the programs")
    environments(policy["environments"]).refuse_unknown(manifest.spec, kit.settings.name)
    if images is not None:
        images.choose(manifest.spec, kit.settings.name)
    return manifest


class Consents:
    """What this site decides about jobs: each decision is in its audit log before anything is done about the job."""

    def __init__(
        self,
        kit: Kit,
        policy: dict[str, Any],
        audit: AuditLog,
        permissions: Permissions,
        revocations: Revocations,
        *,
        images: ImagePolicy | None = None,
    ) -> None:
        self._kit = kit
        self._policy = policy
        self._permissions = permissions
        self._revocations = revocations
        self._images = images
        self._audit = audit
        self._written: dict[tuple[str, int], Decision] = {}

    async def ask(self, job: str, run: int, signed: SignedJob) -> Manifest:
        """Check a job, as :func:`consent` does, and write down what comes of it.

        Being asked the same again, as after a full disk, is no decision of its own.

        Raises:
            FlpocError: The job is refused; or the decision cannot be written down.
        """
        decision = Decision(Principal.claimed(signed.certificate), "run", f"job {job}, run {run}", "allow")
        try:
            manifest = await asyncio.to_thread(
                consent, self._kit, signed, self._policy, self._permissions, self._revocations, images=self._images
            )
        except FlpocError as error:
            with contextlib.suppress(FlpocError):  # the audit log says itself that it could not
                await self._write(job, run, attrs.evolve(decision, outcome="deny", reason=error.message))
            raise
        await self._write(job, run, decision)
        return manifest

    async def _write(self, job: str, run: int, decision: Decision) -> None:
        if self._written.get((job, run)) != decision:
            await self._audit.write(decision, durable=decision.outcome == "allow")
            self._written[job, run] = decision

    def forget(self, job: str, run: int) -> None:
        """The job is not here any more."""
        self._written.pop((job, run), None)
