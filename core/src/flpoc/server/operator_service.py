"""What operators call: orders, sites kept out, studies, revoked certificates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import grpc

from flpoc.cancelling import to_the_end
from flpoc.server.operations import Operations
from flpoc.server.peers import Case, Door, telling
from flpoc.server.replies import expect, reply
from flpoc.server.revoking import Revoking
from flpoc.server.service import Server
from flpoc.server.studies import DEFAULT, Study
from flpoc.server.views import iso
from flpoc.wire.asks import Ask
from flpoc.wire.asks_of_operators import AboutStudy, BlockSite, ChangeStudy
from flpoc.wire.codec import encode
from flpoc.wire.statements import GiveOrder, Revoke

#: Decides about a call, with all that can be against it, and gives what is then done.
Decider = Callable[[Case, Any], Awaitable[Callable[[], Coroutine[Any, Any, Any]]]]


class OperatorService:
    """The remote procedures of operators; each is decided about, written down, then done."""

    def __init__(self, server: Server, door: Door) -> None:
        self._server = server
        self._door = door
        self._operations = Operations(server, door)
        self._revoking = Revoking(server, door)
        self._calls: Mapping[str, tuple[type, Decider]] = {
            "Order": (GiveOrder, self._order),
            "Disable": (BlockSite, self._disable),
            "Enable": (BlockSite, self._enable),
            "StudyList": (AboutStudy, self._list),
            "StudyShow": (AboutStudy, self._show),
            "StudyRegister": (ChangeStudy, self._register),
            "StudyAdd": (ChangeStudy, self._add),
            "StudyTake": (ChangeStudy, self._take),
            "StudyRemove": (AboutStudy, self._remove),
            "Revoked": (Ask, self._revoked),
            "Revoke": (Revoke, self._revoke),
        }

    @property
    def calls(self) -> frozenset[str]:
        return frozenset(self._calls)

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {name: grpc.unary_unary_rpc_method_handler(telling(self._answering(name))) for name in self._calls}

    def _answering(self, name: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        kind, decide = self._calls[name]

        async def answer(request: bytes, context: Any) -> bytes:
            async def work() -> Any:
                async with self._door.deciding(context, name, lambda: _about(expect(request, kind))) as case:
                    act = await decide(case, expect(request, kind))
                # a caller who goes away meanwhile leaves nothing half done
                return await to_the_end(act())

            return encode(await reply(work))

        return answer

    # -- orders, sites

    async def _order(self, case: Case, ask: GiveOrder) -> Callable[[], Coroutine[Any, Any, Any]]:
        self._server.studies.enter(ask.study, case.who)
        order, sites = await self._operations.check(case, ask.order, ask.study)
        return lambda: self._operations.carry_out(order, ask.order, sites)

    async def _disable(self, case: Case, ask: BlockSite) -> Callable[[], Coroutine[Any, Any, Any]]:
        self._server.studies.enter(ask.study, case.who)
        await self._operations.disable(case, ask.site, ask.study)
        return lambda: self._operations.block(case.who.name, ask.site, ask.reason)

    async def _enable(self, case: Case, ask: BlockSite) -> Callable[[], Coroutine[Any, Any, Any]]:
        self._server.studies.enter(ask.study, case.who)
        await self._operations.disable(case, ask.site, ask.study)
        return lambda: self._operations.unblock(ask.site)

    # -- studies

    async def _list(self, case: Case, ask: AboutStudy) -> Callable[[], Coroutine[Any, Any, Any]]:
        studies = [Study(DEFAULT), *self._server.studies.seen_by(case.who)]
        permissions, who = self._door.permissions, case.who

        async def act() -> Any:
            rows = []
            for study in studies:
                row: dict[str, Any] = {"name": study.name, "role": who.role}
                reason = "" if study.name == DEFAULT or study.has_user(who) else "you are not among its users"
                reason = reason or permissions.why_not(who, "submit_job")
                row |= {"capabilities": {"submit_job": not reason}, "can_submit_job": not reason}
                rows.append({**row, "reason": reason} if reason else row)
            return {"studies": [study.name for study in studies], "study_details": rows}

        return act

    async def _show(self, case: Case, ask: AboutStudy) -> Callable[[], Coroutine[Any, Any, Any]]:
        study = self._server.studies.find(ask.name, case.who)

        async def act() -> Any:
            return self._shown(study)

        return act

    async def _register(self, case: Case, ask: ChangeStudy) -> Callable[[], Coroutine[Any, Any, Any]]:
        return self._change(lambda: self._server.studies.registered(ask.name, ask.site_orgs, case.who))

    async def _add(self, case: Case, ask: ChangeStudy) -> Callable[[], Coroutine[Any, Any, Any]]:
        return self._change(lambda: self._server.studies.added(ask.name, ask.site_orgs, ask.user, case.who))

    async def _take(self, case: Case, ask: ChangeStudy) -> Callable[[], Coroutine[Any, Any, Any]]:
        return self._change(lambda: self._server.studies.taken(ask.name, ask.site_orgs, ask.user, case.who))

    async def _remove(self, case: Case, ask: AboutStudy) -> Callable[[], Coroutine[Any, Any, Any]]:
        self._server.studies.removable(ask.name, case.who)

        async def act() -> Any:
            study = await self._server.studies.remove(ask.name, case.who)
            return {"name": study.name, "removed": True}

        return act

    def _change(self, decide: Callable[[], Study]) -> Callable[[], Coroutine[Any, Any, Any]]:
        decide()  # what is refused is refused before it is written down as allowed

        async def act() -> Any:
            study = await self._server.studies.change(decide)
            self._server.queue.wake()  # a job may wait for a site that has just come in
            return self._shown(study)

        return act

    def _shown(self, study: Study) -> dict[str, Any]:
        connected = self._server.sites_of(study.name)
        everybody = study.name == DEFAULT
        sites = sorted(connected) if everybody else list(study.sites)
        return {
            "name": study.name,
            "site_orgs": {org: list(names) for org, names in study.site_orgs.items()},
            "sites": sites,
            "connected": sorted(connected),
            "users": ["*"] if everybody else list(study.users),
            "created": iso(study.created) if study.created else None,
            "registered_by": study.by or None,
        }

    # -- revoked certificates

    async def _revoked(self, case: Case, ask: Ask) -> Callable[[], Coroutine[Any, Any, Any]]:
        return lambda: self._revoking.known(case.who)

    async def _revoke(self, case: Case, ask: Revoke) -> Callable[[], Coroutine[Any, Any, Any]]:
        found = self._revoking.check(case, ask.signed)
        return lambda: self._revoking.revoke(found, ask.signed)


def _about(ask: Any) -> str:
    """What a request is about, in words for the audit log."""
    match ask:
        case BlockSite():
            return f"site {ask.site}" + (f": {ask.reason}" if ask.reason else "")
        case AboutStudy():
            return f"study {ask.name}" if ask.name else "studies"
        case ChangeStudy():
            sites = " ".join(f"{org}:{','.join(names)}" for org, names in ask.site_orgs.items())
            return " ".join(filter(None, (f"study {ask.name}", sites, ask.user)))
        case Revoke():
            return "a list of revoked certificates"
        case GiveOrder():
            return f"an order, study {ask.study}"
    return "server"
