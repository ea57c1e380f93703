"""What operators do with the server and its sites: orders, sites kept out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from flpoc.errors import AuthError, FlpocError, JobError, UsageError, did_you_mean
from flpoc.introspection import answer
from flpoc.jobs.statements import RIGHT_OF, Order, Orders, SignedStatement
from flpoc.log_modes import check_mode
from flpoc.provision.rights import About
from flpoc.server.peers import Case, Door
from flpoc.server.views import iso
from flpoc.wire.messages import Instruct, Told

if TYPE_CHECKING:
    from flpoc.server.service import Server
    from flpoc.server.sites import SiteSession

log = logging.getLogger("flpoc.server")

#: What orders call the server.
SERVER: Final = "server"
#: Seconds in which a site must answer an order.
ANSWER_WITHIN: Final = 15.0
#: Seconds in which answers leave before the server ends as it was told.
_LAST_WORDS: Final = 0.3


class Operations:
    """Carries out what operators want."""

    def __init__(self, server: Server, door: Door) -> None:
        self._server = server
        self._door = door
        self._orders = Orders()

    # -- orders

    async def check(self, case: Case, signed: SignedStatement, study: str) -> tuple[Order, dict[str, SiteSession]]:
        """Check an order before anything of it is done; gives it, and the sites that it goes to.

        Raises:
            FlpocError: It cannot be carried out: the user may not, or a site is not connected.
        """
        kit = self._server.kit
        order, signer = self._orders.accept(signed, root_pem=kit.root_pem, project=kit.settings.project)
        if (signer.name, signer.serial) != (case.who.name, case.who.serial):
            raise AuthError(f"the order is signed by {signer.name}, but {case.who.name} gives it")
        case.about = f"{order.action} {' '.join(order.targets)}"
        if order.action not in RIGHT_OF:
            raise UsageError(f"{order.action} is not known here")
        if not order.targets:
            raise UsageError("the order names nobody who is to do it", hint="server, or names of sites")
        if order.mode:
            check_mode(order.mode)
        sites = self._sites(order.targets, study)
        # each target's own organisation counts for the rule that an operator acts at home only
        orgs = {SERVER: kit.settings.org, **{name: one.org for name, one in sites.items()}}
        job = await self._job(order, study) if order.job else None
        for target in order.targets:
            about = About(orgs[target])
            if job is not None:
                about = About(orgs[target], job.submitter, job.org)
            self._door.permissions.check(case.who, RIGHT_OF[order.action], about)
        return order, sites

    async def _job(self, order: Order, study: str) -> Any:
        row = await self._server.store.job(order.job)
        if row is None or row.study != study:
            raise JobError(f"no job {order.job} in study {study!r}", code="JOB_NOT_FOUND")
        if row.id not in self._server.runs:
            raise JobError(f"job {row.id} is {row.state}", code="JOB_NOT_RUNNING", data={"status": row.state})
        return row

    def _sites(self, targets: Iterable[str], study: str) -> dict[str, SiteSession]:
        connected = self._server.sites_of(study)
        wanted = [name for name in targets if name != SERVER]
        if missing := [name for name in wanted if name not in connected]:
            there = sorted(connected)
            raise FlpocError(
                f"{', '.join(missing)}: not connected" if study == "default" else f"{missing[0]}: no such site here",
                code="SITE_NOT_FOUND",
                hint=did_you_mean(missing[0], there, " ").strip() or f"connected: {', '.join(there) or 'none'}",
                data={"missing": missing, "connected": there},
            )
        return {name: connected[name] for name in wanted}

    async def carry_out(self, order: Order, signed: SignedStatement, sites: dict[str, SiteSession]) -> dict[str, Any]:
        """Do what was found good; gives each target's answer: data, or an error."""
        asked = {name: self._instruct(session, signed) for name, session in sites.items()}
        answers = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
        if SERVER in order.targets:
            answers = {SERVER: {"data": self._do(order)}, **answers}
        return answers

    async def _instruct(self, session: SiteSession, signed: SignedStatement) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                told: Told = await session.ask(lambda number: Instruct(number, signed))
        except TimeoutError:
            return _error("TIMEOUT", f"{session.name} has not answered within {ANSWER_WITHIN:g} s")
        except ConnectionError:
            return _error("SITE_NOT_FOUND", f"{session.name} has gone away")
        return _error(told.code, told.message, told.hint) if told.code else {"data": told.data}

    def _do(self, order: Order) -> Any:
        server = self._server
        settings = server.kit.settings
        found = answer(
            order, state=server.files.state, plugins=server.plugins, launcher=server.attempts.launcher_name,
            allowed=settings.plugins,
        )  # fmt: skip
        match order.action:
            case "resources":
                return {**(found or {}), "jobs": sorted(server.runs)}
            case "job_log_mode":
                server.set_job_log_mode(order.job, check_mode(order.mode))
                return {"mode": order.mode}
            case "shutdown" | "restart":
                log.warning("%s was ordered", order.action)
                server.end(order.action == "restart", after=_LAST_WORDS)
                return {"status": "stopping" if order.action == "shutdown" else "restarting"}
        if found is None:
            raise UsageError(f"{order.action} is not known here")
        return found

    # -- sites kept out

    async def disable(self, case: Case, site: str, study: str) -> None:
        """Check whether the caller may keep a site out, or let it in again.

        Of sites that are not in the *study* nothing is said.

        Raises:
            FlpocError: They may not, or nobody knows such a site.
        """
        session = self._server.sites.connected.get(site)
        org = session.org if session is not None else await self._server.acquaintances.org_of_site(site)
        if not org or not self._server.studies.has_site(study, site, org):
            met = [one for one in await self._server.acquaintances.all() if one["kind"] == "site"]
            known = [one["name"] for one in met if self._server.studies.has_site(study, one["name"], one["org"])]
            hint = did_you_mean(site, known, f"sites that have connected: {', '.join(sorted(set(known))) or 'none'}")
            raise FlpocError(f"no site {site!r} has ever connected", code="SITE_NOT_FOUND", hint=hint)
        case.check(About(org))

    async def block(self, who: str, site: str, reason: str) -> dict[str, Any]:
        """Keep a site out; its part in running jobs ends."""
        fresh = await self._server.blocked.block(site, who, reason)
        why = f"{site} was disabled by {who}" + (f": {reason}" if reason else "")
        for run in list(self._server.runs.values()):
            run.shut_out(site, "disabled", why)
        if (session := self._server.sites.connected.get(site)) is not None:
            session.close()  # after what ends its part in jobs has been said
        return self._state(site, already_disabled=not fresh)

    async def unblock(self, site: str) -> dict[str, Any]:
        """Let a site in again; an agent that waits is let in at once."""
        fresh = await self._server.blocked.unblock(site)
        return self._state(site, already_enabled=not fresh)

    def _state(self, site: str, **more: Any) -> dict[str, Any]:
        block = self._server.blocked.get(site)
        found = {
            "client_name": site,
            "state": "disabled" if block is not None else "enabled",
            "credential_revoked": False,
            "rejoin_allowed": block is None,
            **more,
        }
        if block is not None:
            found |= {"disabled_by": block.by, "disabled_time": iso(block.time), "reason": block.reason or None}
        return found


def _error(code: str, message: str, hint: str = "") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "hint": hint}}
