"""What users order of this site: checked by the site itself, then done at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.audit.records import Decision, Principal
from flpoc.errors import AuthError, FlpocError, InternalError, JobError
from flpoc.introspection import answer
from flpoc.jobs.statements import RIGHT_OF, Order, Orders
from flpoc.log_modes import check_mode
from flpoc.provision.rights import About
from flpoc.wire.messages import Instruct, Told

if TYPE_CHECKING:
    from flpoc.provision.identity import Identity
    from flpoc.site.agent import Agent

log = logging.getLogger("flpoc.site")

#: Where orders that came are written down, in the state folder.
RECORD: Final = "orders.json"
#: Seconds in which an answer leaves before the agent ends as it was told.
_LAST_WORDS: Final = 0.2


class SiteOrders:
    """Carries out the orders that the server passes on."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._orders = Orders(agent.state / RECORD)

    async def carry_out(self, message: Instruct) -> Told:
        """Do what is ordered, or say why not; never raises."""
        try:
            return Told(message.number, await self._act(message))
        except FlpocError as error:
            return Told(message.number, None, error.code, error.message, error.hint)
        except Exception:
            log.exception("an order could not be carried out")
            ours = InternalError("the site failed to do it", hint="see the site's log")
            return Told(message.number, None, ours.code, ours.message, ours.hint)

    async def _act(self, message: Instruct) -> Any:
        kit = self._agent.kit
        decision = Decision(Principal.claimed(message.order.certificate), "order", "this site", "allow")
        try:
            order, who = self._orders.accept(message.order, root_pem=kit.root_pem, project=kit.settings.project)
            decision = Decision(Principal.of(who), order.action, _about(order), "allow")
            self._check(order, who)
        except FlpocError as error:
            with contextlib.suppress(FlpocError):  # the audit log says itself that it could not
                await self._agent.audit.write(attrs.evolve(decision, outcome="deny", reason=error.message))
            raise
        await asyncio.to_thread(self._orders.keep)
        await self._agent.audit.write(decision, durable=order.action in ("shutdown", "restart"))
        return self._do(order)

    def _check(self, order: Order, who: Identity) -> None:
        agent = self._agent
        agent.revocations.refuse(who.serial, who.name)
        if agent.name not in order.targets:
            raise AuthError(f"the order is for {', '.join(order.targets)[:200]}, not for {agent.name}")
        about = About(site_org=agent.kit.settings.org)
        if order.job:
            signer = agent.signer_of(order.job)
            about = About(agent.kit.settings.org, signer.name, signer.org)
        agent.permissions.check(who, RIGHT_OF[order.action], about)

    def _do(self, order: Order) -> Any:
        agent = self._agent
        found = answer(
            order, state=agent.state, plugins=agent.plugins, launcher=agent.attempts.launcher_name,
            allowed=agent.kit.settings.plugins,
        )  # fmt: skip
        match order.action:
            case "resources":
                return {**(found or {}), **agent.resource_report()}
            case "job_log_mode":
                agent.set_job_log_mode(order.job, check_mode(order.mode))
                return {"mode": order.mode}
            case "shutdown" | "restart":
                log.warning("%s was ordered", order.action)
                agent.end(order.action == "restart", after=_LAST_WORDS)
                return {"status": "stopping" if order.action == "shutdown" else "restarting"}
        if found is None:
            raise JobError(f"{order.action} is not known here", code="INVALID_ARGS")
        return found


def _about(order: Order) -> str:
    return f"job {order.job}" if order.job else order.mode or "this site"
