"""Taking jobs from users: checked whole before anything is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
import time
import uuid
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs

from flpoc.audit.records import Principal
from flpoc.cancelling import in_thread, to_the_end
from flpoc.errors import (
    AuthError,
    DeadlineError,
    FlpocError,
    IntegrityError,
    JobError,
    ResourceError,
    UsageError,
)
from flpoc.jobs.archive import unpack
from flpoc.jobs.names import SUBMIT_TOKEN
from flpoc.jobs.signing import verify_job
from flpoc.jobs.spec import JobSpec, Manifest
from flpoc.jobs.states import JobState
from flpoc.models.checksums import refusals
from flpoc.models.handover import sync
from flpoc.provision.identity import Identity
from flpoc.provision.rights import About
from flpoc.server.components import check_components, strange_sites
from flpoc.server.peers import Case, Door
from flpoc.server.service import Server
from flpoc.server.store import JobRow
from flpoc.server.views import find_job, iso
from flpoc.settings import canonical_json
from flpoc.tracking import RunEvent
from flpoc.wire.requests import SubmitJob

log = logging.getLogger("flpoc.server")

#: A larger archive is not taken.
MAX_ARCHIVE_BYTES = 1 << 30
#: So much of the disk stays free.
DISK_RESERVE_BYTES = 256 << 20
#: A submitter that sends nothing for so long has gone.
STALL_SECONDS = 60.0


@attrs.frozen
class Coming:
    """A job that is good, and on its way in.

    Attributes:
        who: Who submits it.
        principal: The same in the audit log.
        ask: What they announced.
        manifest: What they signed.
        scope: Within what their submit token is unique; empty without a token.
    """

    who: Identity
    principal: Principal
    ask: SubmitJob
    manifest: Manifest
    scope: str


class Submissions:
    """The way of a job from a user into the database."""

    def __init__(self, server: Server, door: Door) -> None:
        self._server = server
        self._door = door
        self._tokens: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        #: How many submissions are just now bringing an archive: one that fails must not take it from another.
        self._coming: Counter[str] = Counter()

    async def check(self, case: Case, ask: SubmitJob) -> Manifest:
        """Check a job before anything of its archive is taken; gives what was signed.

        Raises:
            FlpocError: It is not taken.
        """
        if ask.token and not SUBMIT_TOKEN.match(ask.token):
            raise UsageError("a submit token has 1 to 128 characters: letters, digits, . _ : -")
        kit, who = self._server.kit, case.who
        about = About(kit.settings.org, who.name, who.org)
        case.check(about)
        self._door.permissions.check(who, "byoc", about)
        manifest, signer = await asyncio.to_thread(
            verify_job, ask.job, root_pem=kit.root_pem, project=kit.settings.project
        )
        if signer.name != who.name or signer.serial != who.serial:
            raise AuthError(f"the job is signed by {signer.name}, but {who.name} submits it")
        if manifest.spec.study != ask.study:
            raise JobError(f"the job is for study {manifest.spec.study!r}, the session is in {ask.study!r}")
        if foreign := self._server.studies.foreign(ask.study, manifest.spec.named_sites):
            hint = f"`flpoc study show {ask.study}` shows its sites"
            raise JobError(f"{', '.join(foreign)}: not in study {ask.study!r}", hint=hint)
        if ask.cloned_from:
            await self._check_clone(case, ask)
        check_components(self._server.plugins, manifest.spec)
        return manifest

    async def _check_clone(self, case: Case, ask: SubmitJob) -> None:
        """What is said to be a copy of a job is one of a job that the caller may copy."""
        row = await find_job(self._server.store, ask.cloned_from, ask.study)
        case.check(About(self._server.kit.settings.org, row.submitter, row.org), "Source")
        if row.archive != ask.archive:
            raise JobError(f"this is no copy of job {row.id}: its files are others")

    async def take(
        self, case: Case, ask: SubmitJob, manifest: Manifest, stream: AsyncIterator[bytes]
    ) -> dict[str, Any]:
        """Keep a job that was found good; the same token and content again give the same job."""
        scope = token_scope(case.who, ask.study) if ask.token else ""
        coming = Coming(case.who, case.principal, ask, manifest, scope)
        warnings = await self._strange_sites(manifest.spec)
        if not ask.token:
            return {"job_id": await self._keep(coming, stream), "existing": False, "warnings": warnings}
        lock = self._tokens.setdefault(f"{coming.scope}:{ask.token}", asyncio.Lock())
        async with lock:
            existing = await self._existing(coming.scope, ask.token, content_hash(manifest))
            if existing:
                return {"job_id": existing, "existing": True, "warnings": warnings}
            return {"job_id": await self._keep(coming, stream), "existing": False, "warnings": warnings}

    async def _strange_sites(self, spec: JobSpec) -> list[str]:
        """What to tell of sites that nobody has seen: they may come, or be misspelt."""
        server = self._server
        met = await server.acquaintances.sites()
        there = {name for name, org in met if server.studies.has_site(spec.study, name, org)}
        there |= {*server.studies.sites(spec.study), *spec.sites, *spec.mandatory_sites}
        return strange_sites(server.plugins, spec, there, "has never connected")

    async def _existing(self, scope: str, token: str, content: str) -> str:
        query = "SELECT content, job, deleted FROM tokens WHERE scope=? AND token=?"
        row = await self._server.store.read(lambda db: db.execute(query, (scope, token)).fetchone())
        if row is None:
            return ""
        if row["deleted"] is not None:
            raise JobError(
                f"the token belongs to job {row['job']}, which has been deleted",
                code="SUBMIT_TOKEN_JOB_DELETED",
                hint="submit with a new token",
                data={"job_id": row["job"], "state": "job_deleted", "deleted_time": iso(row["deleted"])},
            )
        if row["content"] != content:
            raise JobError(
                f"the token was used for another job: {row['job']}",
                code="SUBMIT_TOKEN_CONFLICT",
                hint="submit with a new token",
                data={"existing_job_id": row["job"]},
            )
        return str(row["job"])

    async def _keep(self, coming: Coming, stream: AsyncIterator[bytes]) -> str:
        ask = coming.ask
        archive = self._server.files.archive(ask.archive)
        try:
            with self._bringing(ask.archive):
                try:
                    await self._receive(ask, stream, archive)
                    return await to_the_end(self._put(coming, archive))
                except FlpocError as error:
                    await self._note(coming, f"archive {ask.archive}", refused=error.message)
                    raise
        except BaseException:
            await self._drop_archive(ask.archive)
            raise

    @contextlib.contextmanager
    def _bringing(self, sha256: str) -> Iterator[None]:
        self._coming[sha256] += 1
        try:
            yield
        finally:
            self._coming[sha256] -= 1
            if not self._coming[sha256]:
                del self._coming[sha256]

    async def _put(self, coming: Coming, archive: Path) -> str:
        """Make a job of an archive that is here: all of it or nothing, also if the submitter goes away meanwhile."""
        job = str(uuid.uuid4())
        files = self._server.files.job(job)
        try:
            with _nameless(archive, files.code):
                files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                await asyncio.to_thread(unpack, archive, files.code, coming.manifest.files)
            await self._note(coming, f"job {job} from archive {coming.ask.archive}")
            await self._insert(job, coming)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, files.folder, ignore_errors=True)
            raise
        self._server.queue.wake()
        return job

    async def _note(self, coming: Coming, about: str, *, refused: str = "") -> None:
        await self._door.note(coming.principal, "accept", about, refused=refused)

    async def _receive(self, ask: SubmitJob, stream: AsyncIterator[bytes], archive: Path) -> None:
        if not 0 < ask.archive_size <= MAX_ARCHIVE_BYTES:
            raise ResourceError(f"an archive of {ask.archive_size} bytes; {MAX_ARCHIVE_BYTES} are allowed")
        archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(archive.parent).free < 3 * ask.archive_size + DISK_RESERVE_BYTES:
            raise ResourceError("the server's disk is nearly full", code="DISK_FULL", hint="free some space there")
        part = archive.with_name(f"{archive.name}.{uuid.uuid4().hex}.part")
        digest, size = hashlib.sha256(), 0
        try:
            with _nameless(archive), part.open("xb") as file:
                async for chunk in in_time(stream, STALL_SECONDS):
                    size += len(chunk)
                    if size > ask.archive_size:
                        raise IntegrityError(f"more than the announced {ask.archive_size} bytes came")
                    await in_thread(file.write, chunk)
                    digest.update(chunk)
            if size != ask.archive_size or digest.hexdigest() != ask.archive:
                raise IntegrityError("the archive is not the announced one", hint="submit it again")
            part.rename(archive)
            with _nameless(archive):
                await in_thread(sync, archive)  # before anybody is told that the job is here
        finally:
            part.unlink(missing_ok=True)

    async def _drop_archive(self, sha256: str) -> None:
        """Delete an archive that no job has, and none is about to have."""
        query = "SELECT COUNT(*) FROM jobs WHERE archive=?"
        used = await self._server.store.read(lambda db: db.execute(query, (sha256,)).fetchone()[0])
        if not used and not self._coming[sha256]:
            self._server.files.archive(sha256).unlink(missing_ok=True)

    async def _insert(self, job: str, coming: Coming) -> None:
        who, ask, manifest = coming.who, coming.ask, coming.manifest
        spec, now = manifest.spec, time.time()
        values = {
            "id": job, "name": spec.name, "study": spec.study, "state": JobState.SUBMITTED.value,
            "submitter": who.name, "org": who.org, "role": who.role, "folder": manifest.folder,
            "manifest": ask.job.manifest, "signature": ask.job.signature, "certificate": ask.job.certificate,
            "archive": ask.archive, "archive_size": ask.archive_size, "submitted": now, "cloned": ask.cloned_from,
        }  # fmt: skip
        columns = ", ".join(values)
        marks = ", ".join("?" * len(values))
        query = f"INSERT INTO jobs (seq, {columns}) VALUES ((SELECT COALESCE(MAX(seq), 0) + 1 FROM jobs), {marks})"  # noqa: S608
        token = (coming.scope, ask.token, content_hash(manifest), job)
        submitted = RunEvent(job, "submitted", now, detail={"name": spec.name, "by": who.name})

        def act(db: Any) -> None:
            # while the archive came, the study may have been removed
            self._server.studies.must_be(db, spec.study)
            db.execute(query, tuple(values.values()))
            if ask.token:
                db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)", token)
            self._server.store.note(db, submitted)

        await self._server.store.write(act)

    async def job_of_token(self, who: Identity, study: str, token: str) -> str:
        """The job that was submitted with a token; empty if there is none."""
        query = "SELECT content FROM tokens WHERE scope=? AND token=?"
        scope = token_scope(who, study)
        row = await self._server.store.read(lambda db: db.execute(query, (scope, token)).fetchone())
        return "" if row is None else await self._existing(scope, token, row["content"])

    async def delete(self, row: JobRow) -> dict[str, Any]:
        """Delete a job with everything that is kept of it; its token stays taken."""
        now = time.time()

        def act(db: Any) -> int:
            state = db.execute("SELECT state FROM jobs WHERE id=?", (row.id,)).fetchone()
            if state is not None and JobState(state["state"]) in (JobState.DISPATCHED, JobState.RUNNING):
                message, hint = f"job {row.id} is {state['state']}", f"flpoc job abort {row.id}"
                raise JobError(message, code="JOB_NOT_DONE", hint=hint)
            for table in ("rounds", "updates", "ledger", "events"):
                db.execute(f"DELETE FROM {table} WHERE job=?", (row.id,))  # noqa: S608 - names of our tables
            db.execute("DELETE FROM jobs WHERE id=?", (row.id,))
            return int(db.execute("UPDATE tokens SET deleted=? WHERE job=?", (now, row.id)).rowcount)

        marked = await self._server.store.write(act)
        await self._server.metrics.forget(row.id)
        self._server.courier.ring()
        await asyncio.to_thread(shutil.rmtree, self._server.files.job(row.id).folder, ignore_errors=True)
        await self._drop_archive(row.archive)
        self._server.queue.forget(row.id)
        self._server.bell.ring(row.id)
        return {"job_id": row.id, "submit_records_marked_deleted": marked}


@contextlib.contextmanager
def _nameless(archive: Path, into: Path | None = None) -> Iterator[None]:
    """Errors about a user's archive, without where it lies at the server."""
    try:
        with refusals("the archive"):
            yield
    except FlpocError as error:
        message = error.message.replace(str(archive), "the archive").replace(archive.name, "the archive")
        if into is not None:
            message = message.replace(str(into), "the job's folder")
        log.info("%s is refused: %s", archive.name, error.message)
        raise type(error)(message, hint=error.hint, code=error.code, data=error.data) from None


def token_scope(who: Identity, study: str) -> str:
    """Tokens of other users or studies never meet."""
    return hashlib.sha256(canonical_json([study, who.name, who.org, who.role])).hexdigest()


def content_hash(manifest: Manifest) -> str:
    """What makes two submissions the same job: everything but the times of signing."""
    same = attrs.evolve(manifest, created="", expires="")
    return hashlib.sha256(canonical_json(same)).hexdigest()


async def in_time(stream: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Give what comes of a stream.

    Raises:
        DeadlineError: Nothing came for so many *seconds*.
    """
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise DeadlineError(
                f"nothing of the archive came for {seconds:g} s", hint="submit again; a submit token makes that safe"
            ) from None
        yield chunk
