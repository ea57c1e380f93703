"""What a session does with the server and its sites: looking, ordering, studies, certificates."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from flpoc import __version__
from flpoc.errors import DeadlineError, FlpocError, UsageError
from flpoc.session.connection import CALL_SECONDS, Connection, check_job_id

Target = Literal["server", "client", "all"]
SERVER: Final = "server"


class OperatorCalls(Connection):
    """Operating a server, its sites and studies."""

    # -- looking

    def status(self) -> dict[str, Any]:
        """Say which server this is, which sites of the study are connected and who the caller is."""
        from flpoc.wire.asks import Ask

        return dict(self.ask("Status", Ask(study=self.study)))

    def wait_ready(self, sites: Sequence[str], timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the server answers and all *sites* are connected; gives its status.

        A server that does not listen yet is waited for, too.

        Raises:
            ConnectionFailed: There is no server after *timeout* seconds.
            DeadlineError: They are not after *timeout* seconds; says which are missing.
        """
        from flpoc.wire.asks import Ask

        until = time.monotonic() + timeout
        self.await_first(timeout)
        left = max(0.1, until - time.monotonic())
        ask = Ask(tuple(sites), left, self.study)
        status = dict(self.ask("Ready", ask, seconds=left + CALL_SECONDS))
        if missing := sorted(set(sites) - {site["name"] for site in status["sites"]}):
            raise DeadlineError(
                f"after {timeout:g} s not connected: {', '.join(missing)}",
                hint="see the log of the site; `flpoc poc start` starts those of a proof of concept",
                code="SYSTEM_NOT_READY",
                data={"missing": missing},
            )
        return status

    def check_status(self, target: Target = "all", names: Sequence[str] = ()) -> dict[str, Any]:
        """The state of the server and its sites, as ``flpoc system status`` shows it.

        Raises:
            FlpocError: A site of *names* is not connected; code SITE_NOT_FOUND.
        """
        found = self.status()
        sites = _chosen(found, names)
        jobs = {job["job_id"]: job for job in found["jobs"]}
        data: dict[str, Any] = {}
        if target in ("server", "all"):
            data |= {
                "server_status": "running",
                "server_start_time": found["start_time"],
                "server_address": found["address"],
                "version": found["version"],
                "jobs": [
                    {"job_id": job["job_id"], "app_name": job["name"], "status": job["status"]} for job in jobs.values()
                ],
                "disabled_clients": found["disabled"],
            }
        clients = [
            {"client_name": site["name"], "fqcn": site["name"], "org": site["org"],
             "client_last_conn_time": site["last_seen_time"], "version": site["version"]}
            for site in sites
        ]  # fmt: skip
        if target in ("server", "all"):
            data["clients"] = clients
        if target in ("client", "all"):
            data["client_status"] = [
                {"client_name": site["name"], "status": "running a job" if site["jobs"] else "idle",
                 "app_name": jobs[job]["name"] if job else None, "job_id": job}
                for site in sites for job in (site["jobs"] or [None])
            ]  # fmt: skip
        return data

    def get_system_info(self) -> dict[str, Any]:
        """The server and its connected sites: the same as ``check_status("server")``."""
        return self.check_status("server")

    def get_client_job_status(self, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What each connected site, or each of *names*, works at: a row a site and job."""
        return list(self.check_status("client", names)["client_status"])

    def get_connected_client_list(self) -> list[dict[str, Any]]:
        """The connected sites of the study: name, organisation, when last heard of."""
        return list(self.check_status("server")["clients"])

    def report_resources(self, target: Target = "all", names: Sequence[str] = ()) -> dict[str, Any]:
        """Processors, memory, graphics processors, disk and load: ``{site: {...}}``."""
        return self._order("resources", target, names)

    def report_env(self, target: Target = "all", names: Sequence[str] = ()) -> dict[str, Any]:
        """Versions, platform and plugins: ``{site: {...}}``."""
        return self._order("env", target, names)

    def report_version(self, site: str = "all") -> dict[str, Any]:
        """Which flpoc runs where, and whether all is the same: sites, admin_version, compatible, mismatched_sites."""
        target, names = _target_of(site)
        answers = self._order("version", target, names)
        rows = [{"site": name, **_version(answer)} for name, answer in answers.items()]
        other = [row["site"] for row in rows if row["version"] != __version__]
        return {"sites": rows, "admin_version": __version__, "compatible": not other, "mismatched_sites": other}

    def get_site_log(self, site: str = SERVER, *, tail: int = 200) -> list[str]:
        """The last lines of the log of the server, or of a site's agent, since it began.

        Raises:
            AuthError: The user may not, at the server or at the site.
        """
        answer = self._order("log", *_target_of(site), count=tail)[site]
        if "error" in answer:
            raise _raised(answer["error"])
        return [str(line) for line in answer["lines"]]

    # -- ordering

    def configure_site_log(self, level: str, site: str = "all") -> dict[str, Any]:
        """Have the server, a site or all log as *level* says: ``{site: {mode}}``; until their next start."""
        from flpoc.log_modes import check_mode

        return self._order("log_mode", *_target_of(site), mode=check_mode(level))

    def configure_job_log(self, job: str, level: str, site: str = "all") -> dict[str, Any]:
        """Have a running job's processes log as *level* says: ``{site: {mode}}``.

        Raises:
            JobError: The job does not run; code JOB_NOT_RUNNING.
            FlpocError: The site is not connected, or has no part in it; code SITE_NOT_FOUND.
        """
        from flpoc.log_modes import check_mode

        mode = check_mode(level)
        stats = dict(self.ask("Stats", self.about(check_job_id(job))))
        part = list(stats["stats"])
        if site != "all" and site not in part:
            raise FlpocError(
                f"{site} has no part in job {stats['job_id']}",
                code="SITE_NOT_FOUND",
                hint=f"there are: {', '.join(part)}",
            )
        connected = {one["name"] for one in self.status()["sites"]} | {SERVER}
        targets = [name for name in (part if site == "all" else [site]) if name in connected or site != "all"]
        answers = self._give("job_log_mode", tuple(targets), mode=mode, job=str(stats["job_id"]))
        return {"job_id": stats["job_id"], "config": mode, "sites": targets, "answers": answers}

    def shutdown(
        self, target: Target, names: Sequence[str] = (), *, wait: bool = True, timeout: float = 30.0
    ) -> dict[str, Any]:
        """End the server, sites (all, or *names*), or everything; running jobs go on when they are started again.

        Raises:
            DeadlineError: They have not ended after *timeout* seconds.
        """
        return self._end("shutdown", target, names, wait, timeout)

    def restart(
        self, target: Target, names: Sequence[str] = (), *, wait: bool = True, timeout: float = 30.0
    ) -> dict[str, Any]:
        """End and begin anew, in the same process; running jobs go on.

        Raises:
            DeadlineError: They are not back after *timeout* seconds.
        """
        return self._end("restart", target, names, wait, timeout)

    def shutdown_system(self, *, timeout: float = 30.0) -> dict[str, Any]:
        """End the server and all its sites."""
        return self.shutdown("all", timeout=timeout)

    def disable_client(self, name: str, reason: str = "") -> dict[str, Any]:
        """Keep a site out until :meth:`enable_client`; its part in running jobs ends at once."""
        from flpoc.wire.asks_of_operators import BlockSite

        return dict(self.ask("Disable", BlockSite(check_site(name), reason, self.study)))

    def enable_client(self, name: str) -> dict[str, Any]:
        """Let a site in again; its agent connects by itself."""
        from flpoc.wire.asks_of_operators import BlockSite

        return dict(self.ask("Enable", BlockSite(check_site(name), "", self.study)))

    def _order(self, action: Any, target: Target, names: Sequence[str], **facts: Any) -> dict[str, Any]:
        return self._give(action, self._targets(target, names), **facts)

    def _give(self, action: Any, targets: tuple[str, ...], **facts: Any) -> dict[str, Any]:
        """Sign an order and give it; each answer is what was said, or has ``error`` with why not."""
        from flpoc.jobs.statements import new_order, sign_statement
        from flpoc.wire.statements import GiveOrder

        kit = self.kit
        order = new_order(action, kit.settings.project, targets, **facts)
        signed = sign_statement(order, key_pem=kit.key_pem, certificate_pem=kit.certificate_pem)
        answers = dict(self.ask("Order", GiveOrder(signed, self.study)))
        if len(answers) == 1 and "error" in (only := next(iter(answers.values()))):
            raise _raised(only["error"])
        return {name: answer.get("data", answer) for name, answer in answers.items()}

    def _targets(self, target: Target, names: Sequence[str]) -> tuple[str, ...]:
        if target == SERVER:
            if names:
                raise UsageError("the server has no other name", hint="for sites: client NAME ...")
            return (SERVER,)
        if target not in ("client", "all"):
            raise UsageError(f"{target!r} is not server, client or all", hint="for one site: client, and its name")
        if names:
            return tuple(dict.fromkeys(check_site(name) for name in names))
        sites = tuple(site["name"] for site in self.status()["sites"])
        if target == "client" and not sites:
            raise FlpocError("no site is connected", code="SYSTEM_NOT_READY", hint="wait until sites have connected")
        return sites if target == "client" else (SERVER, *sites)

    def _end(self, action: str, target: Target, names: Sequence[str], wait: bool, timeout: float) -> dict[str, Any]:
        from flpoc.session.ending import Ending

        targets = self._targets(target, names)
        before = self.status()
        answers = self._give(action, targets)
        refused = {name: one["error"] for name, one in answers.items() if isinstance(one, dict) and "error" in one}
        going = tuple(name for name in targets if name not in refused)
        if wait and going:
            Ending(self, going, before, again=action == "restart", timeout=timeout).wait()
        done = {"shutdown": "stopped", "restart": "restarted"}[action]
        under_way = {"shutdown": "stopping", "restart": "restarting"}[action]
        result = {name: refused.get(name) or (done if wait else under_way) for name in targets}
        return {"target": target, "targets": list(targets), "status": done if wait else under_way, "timeout": timeout,
                "wait": wait, "result": result, "refused": refused}  # fmt: skip

    # -- studies

    def list_studies(self) -> dict[str, Any]:
        """The studies that this user may know of: ``studies`` (names) and ``study_details``."""
        from flpoc.wire.asks_of_operators import AboutStudy

        return dict(self.ask("StudyList", AboutStudy()))

    def show_study(self, name: str) -> dict[str, Any]:
        """Sites, organisations and users of a study.

        Raises:
            FlpocError: There is none of this name; code STUDY_NOT_FOUND.
        """
        from flpoc.wire.asks_of_operators import AboutStudy

        return dict(self.ask("StudyShow", AboutStudy(name)))

    def register_study(self, name: str, site_orgs: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """Make a study with these sites, by organisation, or add them to it."""
        return self._change("StudyRegister", name, site_orgs or {})

    def add_study_site(self, name: str, site_orgs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Add sites, by organisation, to a study."""
        return self._change("StudyAdd", name, site_orgs)

    def remove_study_site(self, name: str, site_orgs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Take sites, by organisation, out of a study."""
        return self._change("StudyTake", name, site_orgs)

    def add_study_user(self, name: str, user: str) -> dict[str, Any]:
        """Let a user work in a study."""
        return self._change("StudyAdd", name, {}, user)

    def remove_study_user(self, name: str, user: str) -> dict[str, Any]:
        """Take a user out of a study."""
        return self._change("StudyTake", name, {}, user)

    def remove_study(self, name: str) -> dict[str, Any]:
        """Remove a study that has no jobs.

        Raises:
            FlpocError: It has jobs; code STUDY_HAS_JOBS.
        """
        from flpoc.wire.asks_of_operators import AboutStudy

        return dict(self.ask("StudyRemove", AboutStudy(name)))

    def _change(self, call: str, name: str, site_orgs: Mapping[str, Sequence[str]], user: str = "") -> dict[str, Any]:
        from flpoc.wire.asks_of_operators import ChangeStudy

        plain = {org: tuple(sites) for org, sites in site_orgs.items()}
        return dict(self.ask(call, ChangeStudy(name, plain, user)))

    # -- certificates

    def list_certificates(self) -> dict[str, Any]:
        """Certificates that the server has met (an org_admin sees those of their organisation), and what is revoked.

        Gives ``certificates``, a row each with ``revoked`` (null, or when and why); and ``list``, for a project_admin
        the newest list of revoked certificates, else null.

        Raises:
            AuthError: The user is neither project_admin nor org_admin.
        """
        from flpoc.session.revoking import known_list
        from flpoc.settings import plain
        from flpoc.wire.asks import Ask

        found = dict(self.ask("Revoked", Ask()))
        newest = known_list(self, found["signed"])
        return {"certificates": found["certificates"], "list": plain(newest) if newest is not None else None}

    def revoke_certificate(self, serial: str, *, name: str = "", reason: str = "") -> dict[str, Any]:
        """Lock a certificate out for good, by its serial number in hex; open connections of it end at once.

        Raises:
            AuthError: The user is no project_admin.
            UsageError: It is no serial number, or the user's own.
        """
        from flpoc.session.revoking import revoke

        return revoke(self, serial, name, reason)


def check_site(name: str) -> str:
    """Refuse what cannot be the name of a site, before anybody is asked."""
    from flpoc.jobs.names import SITE_NAME

    if not isinstance(name, str) or not SITE_NAME.match(name):
        raise UsageError(f"{str(name)[:80]!r} is not the name of a site", hint="letters, digits, - and _")
    return name


def _target_of(site: str) -> tuple[Target, tuple[str, ...]]:
    """``all``, ``server`` or one site, as target and names."""
    if site == "all":
        return "all", ()
    return (SERVER, ()) if site == SERVER else ("client", (site,))


def _chosen(status: Mapping[str, Any], names: Sequence[str]) -> list[Mapping[str, Any]]:
    sites = {site["name"]: site for site in status["sites"]}
    if missing := [name for name in names if name not in sites]:
        raise FlpocError(
            f"{', '.join(missing)}: not connected",
            code="SITE_NOT_FOUND",
            hint=f"connected: {', '.join(sites) or 'none'}",
            data={"missing": missing, "connected": list(sites)},
        )
    return [sites[name] for name in dict.fromkeys(names)] if names else list(sites.values())


def _version(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Mapping) and "error" in answer:
        return {"version": None, "error": answer["error"]["message"]}
    return {"version": answer["version"]}


def _raised(error: Mapping[str, Any]) -> FlpocError:
    from flpoc.errors import from_code

    return from_code(str(error["code"]), str(error["message"]), str(error.get("hint") or ""))
