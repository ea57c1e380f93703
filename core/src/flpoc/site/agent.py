"""The agent as a whole: it dials the server, and does what is wanted of the site."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import grpc

from flpoc import API, __version__
from flpoc.audit.log import AuditLog
from flpoc.audit.records import Decision, Principal
from flpoc.errors import ConfigError, Disagreement, FlpocError, IntegrityError, JobError, from_code
from flpoc.filtering import FilterSpec
from flpoc.jobs.attempts import Attempt, Attempts
from flpoc.jobs.revocations import Revocations
from flpoc.jobs.statements import outdated
from flpoc.plugins import Plugins
from flpoc.provision.identity import Identity
from flpoc.provision.kit_settings import LOCAL, POLICY
from flpoc.provision.kits import Kit
from flpoc.provision.rights import read_permissions
from flpoc.serving import Background
from flpoc.settings import structure, structure_named
from flpoc.site.consent import Consents
from flpoc.site.contact import Contact
from flpoc.site.datasets import granted
from flpoc.site.environments import environments
from flpoc.site.images import image_policy
from flpoc.site.jobs import SiteJob
from flpoc.site.orders import SiteOrders
from flpoc.site.resources import Resources, resource_policy
from flpoc.wire.codec import encode
from flpoc.wire.messages import PROTOCOL, TO_SITE, Answer, Hello, Instruct, JobWant, LogsHave, Revocation, Welcome
from flpoc.wire.options import SITE_SERVICE, channel_options
from flpoc.wire.vocabulary import Refused

log = logging.getLogger("flpoc.site")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class Agent:
    """One site of a project."""

    def __init__(self, kit: Kit, plugins: Plugins, state: Path) -> None:
        self.kit = kit
        self.name = kit.settings.name
        self.state = state
        self.policy = kit.policy
        self.filters = site_filters(kit, plugins)
        self.plugins = plugins
        self.audit = AuditLog(state)
        self.permissions = read_permissions(kit.folder / LOCAL, self.name)
        self.revocations = Revocations(state, root_pem=kit.root_pem, project=kit.settings.project)
        self.loop = asyncio.get_running_loop()
        self.resources = Resources(resource_policy(self.policy["resources"]), self.policy["max_jobs"])
        self._orders = SiteOrders(self)
        #: Whether the agent was told to begin anew after its end.
        self.again = False
        self._ending = False
        self.ended: Callable[[], Any] = lambda: None
        name = self.policy.get("launcher") or kit.settings.launcher
        launcher = plugins.create("launchers", name, self.policy["launcher_settings"])
        self.attempts = Attempts(state, launcher, name, hidden=(kit.folder,))
        self.datasets = granted(self.policy["datasets"])
        self.environments = environments(self.policy["environments"])
        images = image_policy(self.policy["images"])
        self.images = images if launcher.has_images else None
        self.consents = Consents(kit, self.policy, self.audit, self.permissions, self.revocations, images=self.images)
        self._inventory = plugins.inventory()
        self._jobs: dict[tuple[str, int], SiteJob] = {}
        self._queue: asyncio.Queue[Any] | None = None
        self._background = Background(log)
        self.later = self._background.later
        self._contact = Contact(kit, self.audit, self.later)
        self._credentials = grpc.ssl_channel_credentials(kit.root_pem, kit.key_pem, kit.certificate_pem)
        self._control = self._channel(separate=False)
        self._bulk = self._channel(separate=True)
        bulk = f"/{SITE_SERVICE}/"
        self._fetch = self._bulk.unary_stream(bulk + "Fetch")
        self._push = self._bulk.stream_unary(bulk + "Push")

    def _channel(self, *, separate: bool) -> grpc.aio.Channel:
        options = channel_options(self.kit.certificate_name, separate=separate)
        return grpc.aio.secure_channel(self.kit.server_address, self._credentials, options)

    # -- life

    async def _restore(self) -> None:
        """Take up the jobs in the state folder, and the processes of a former agent."""
        left: dict[tuple[str, int], list[Attempt]] = {}
        for attempt in self.attempts.recorded():
            left.setdefault((attempt.job, attempt.run), []).append(attempt)
        for signed in sorted((self.state / "jobs").glob("*/signed.json")):
            job, _, run = signed.parent.name.rpartition(".")
            key = (job, int(run))
            self._jobs[key] = SiteJob(self, job, int(run), signed.parent, left.pop(key, []))
        for attempts in left.values():
            for attempt in attempts:
                await asyncio.to_thread(self.attempts.stop, attempt, 1.0)
                self.attempts.forget(attempt)
        await self._sweep()

    async def _sweep(self) -> None:
        """Delete folders without a job: one was just being deleted, or begun, when the former agent was killed."""
        known = {job.files.folder for job in self._jobs.values()}
        for folder in (self.state / "jobs").glob("*"):
            if folder not in known:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def run(self) -> None:
        """Go on with what a former agent left, and keep a connection to the server until cancelled.

        Raises:
            FlpocError: The server refuses this site for good.
        """
        await self._restore()
        while True:
            why = "the server has ended the connection"
            try:
                await self._connect()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    refusal = from_code("AUTH_FAILED", f"the server refuses {self.name}: {error.details()}")
                    await self._contact.refused(refusal)
                    raise refusal from None
                why = f"{error.code().name} {error.details()}"
            self._contact.lost(why)
            for job in self._jobs.values():
                job.disconnected()
            # reconnecting is paced, so that a server that comes back is not run over by all its sites
            await asyncio.sleep(min(max(_FIRST_PAUSE, self._contact.away / 10), _LONGEST_PAUSE))

    async def _connect(self) -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        reports = tuple(job.report for job in self._jobs.values())
        hello = Hello(
            PROTOCOL, __version__, API, self._inventory, reports, self.resources.capacity, self.revocations.number
        )  # fmt: skip
        queue.put_nowait(hello)

        async def outgoing() -> AsyncIterator[bytes]:
            while (message := await queue.get()) is not None:
                yield encode(message)

        call = self._control.stream_stream(f"/{SITE_SERVICE}/Connect")(outgoing())
        try:
            async for data in call:
                await self._take(TO_SITE.decode(data), queue)
        finally:
            self._queue = None
            queue.put_nowait(None)
            call.cancel()

    async def stop(self) -> None:
        """Stop all trainers and the connection; jobs can go on at the next start."""
        stops = [job.stop() for job in list(self._jobs.values())]
        for one in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(one, BaseException):
                log.error("not all could be stopped: %s", one)
        await self._background.cancel()
        await asyncio.gather(self._control.close(None), self._bulk.close(None))
        await asyncio.to_thread(self.audit.close)

    # -- what jobs use

    def send(self, message: Any) -> None:
        """Send if connected; what matters is said again at the next connection."""
        if self._queue is not None:
            self._queue.put_nowait(message)

    def fetch(self, request: bytes) -> Any:
        return self._fetch(request)

    async def push(self, start: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        """Upload a file; nothing of it is sent before the server has a place for it."""
        placed = asyncio.Event()

        async def stream() -> AsyncIterator[bytes]:
            yield start
            await placed.wait()
            async for chunk in chunks:
                yield chunk

        call = self._push(stream())
        try:
            await call.initial_metadata()  # comes when this upload's turn has come
            placed.set()
            return bytes(await call)
        finally:
            call.cancel()

    def forget(self, job: SiteJob) -> None:
        if self._jobs.get((job.job, job.run)) is job:
            del self._jobs[(job.job, job.run)]
            self.consents.forget(job.job, job.run)

    # -- what the server says

    async def _take(self, message: Any, queue: asyncio.Queue[Any]) -> None:
        match message:
            case Welcome():
                self._queue = queue
                self._contact.made()
                where = self.kit.server_address
                log.info("site %s: registered with project %s at %s", self.name, message.project, where)
                for job in self._jobs.values():
                    job.connected()
            case Refused():
                if message.code == "VERSION_MISMATCH":
                    raise Disagreement(message.message, hint=message.hint)
                raise FlpocError(message.message, code=message.code, hint=message.hint)
            case JobWant():
                self._wanted(message)
            case Answer():
                if (found := self._jobs.get((message.job, message.run))) is not None:
                    found.outgoing.answered(message)
            case LogsHave():
                if (found := self._jobs.get((message.job, message.run))) is not None:
                    found.logs_have(message)
            case Instruct():
                self.later(self._instructed(message))
            case Revocation():
                await self._revoke(message)

    async def _instructed(self, message: Instruct) -> None:
        self.send(await self._orders.carry_out(message))

    async def _revoke(self, message: Revocation) -> None:
        """Take a newer list of revoked certificates; jobs of those who are in it end here."""
        decision = Decision(
            Principal.claimed(message.signed.certificate), "revoke", "a list that cannot be used", "deny"
        )
        try:
            found, who = self.revocations.check(message.signed)
            if found == self.revocations.newest:
                return
            if why := outdated(found, self.revocations.newest):
                raise IntegrityError(f"the list of revoked certificates that the server sends: {why}")
        except FlpocError as error:
            log.warning("%s", error.message)
            with contextlib.suppress(FlpocError):  # the audit log says itself that it could not
                await self.audit.write(attrs.evolve(decision, reason=error.message))
            return
        self.revocations.take(message.signed)  # from now on, whatever becomes of the disk
        log.warning("certificates are revoked by %s: list %d, %d in all", who.name, found.number, len(found.serials))
        for job in list(self._jobs.values()):
            job.check_signer()
        about = f"list {found.number}: {' '.join(sorted(found.serials))}"
        try:
            await asyncio.to_thread(self.revocations.keep, message.signed)
            await self.audit.write(Decision(Principal.of(who), "revoke", about, "allow"))
        except FlpocError as error:
            log.error("%s; it holds until this agent ends", error.message)

    # -- what orders are about

    def resource_report(self) -> dict[str, Any]:
        """What jobs may have here, and have."""
        return {
            "for_jobs": {**attrs.asdict(self.resources.capacity), "gpus": list(self.resources.gpus)},
            "gpus_in_use": self.resources.held_by(),
            "jobs": sorted({job for job, _ in self._jobs}),
        }

    def signer_of(self, job: str) -> Identity:
        """Who submitted a job that is here.

        Raises:
            JobError: It is not here.
        """
        return self._job(job).signer

    def set_job_log_mode(self, job: str, mode: str) -> None:
        """Have a job's script log as *mode* says."""
        self._job(job).set_log_mode(mode)

    def _job(self, job: str) -> SiteJob:
        found = [one for (name, _), one in sorted(self._jobs.items()) if name == job]
        if not found:
            raise JobError(f"job {job} does not run at {self.name}", code="JOB_NOT_RUNNING")
        return found[-1]

    def end(self, again: bool, *, after: float = 0.0) -> None:
        """End this agent *after* some seconds; and begin anew, if *again* and nobody ends it for good meanwhile."""
        self.again = again and (self.again or not self._ending)
        self._ending = True
        self.loop.call_later(after, self.ended)

    def _wanted(self, want: JobWant) -> None:
        key = (want.job, want.run)
        job = self._jobs.get(key)
        if job is None:
            if want.phase != "run":
                return
            folder = self.state / "jobs" / f"{want.job}.{want.run}"
            job = self._jobs[key] = SiteJob(self, want.job, want.run, folder, [])
            self.send(job.report)
        job.want(want)


def site_filters(kit: Kit, plugins: Plugins) -> tuple[FilterSpec, ...]:
    """The filters that the site's policy wants for every update, whatever a job says.

    Raises:
        ConfigError: One of them is not there or its settings are wrong: a site does not run without its filters.
    """
    where = f"{kit.folder / LOCAL / POLICY}: filters"
    found = structure_named(kit.policy["filters"], FilterSpec, where)
    for place, one in enumerate(found):
        try:
            offer = plugins.find("filters", one.name)
        except FlpocError as error:
            raise ConfigError(f"{where}[{place}]: {error.message}", hint=error.hint) from None
        structure(one.settings, offer.component.settings, where=f"{where}[{place}].settings")
    return found
