"""Studies: which sites and users work together, unseen by others.

The study ``default`` always exists, and everybody is in it. All others are
rows in the server's database, and change while it runs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from flpoc.errors import AuthError, FlpocError, UsageError
from flpoc.jobs.names import STUDY_NAME
from flpoc.provision.identity import Identity
from flpoc.provision.names import name_problem
from flpoc.provisioning import ProjectStudy
from flpoc.server.store import Store

DEFAULT: Final = "default"
ADMIN: Final = "project_admin"
_INSERT: Final = "INSERT OR REPLACE INTO studies (name, sites, users, created, by) VALUES (?, ?, ?, ?, ?)"


@attrs.frozen
class Study:
    """One study.

    Attributes:
        name: Its name.
        site_orgs: Organisation to the names of its sites.
        users: Names of the users who may work in it.
        created: Seconds since 1970.
        by: Who registered it.
    """

    name: str
    site_orgs: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    users: tuple[str, ...] = ()
    created: float = 0.0
    by: str = ""

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(site for sites in self.site_orgs.values() for site in sites))

    def has_site(self, site: str, org: str) -> bool:
        """Whether a connected site is in it: name and organisation as its certificate says."""
        return site in self.site_orgs.get(org, ())

    def has_user(self, who: Identity) -> bool:
        """Whether somebody may work in it."""
        return who.role == ADMIN or who.name in self.users

    def is_seen_by(self, who: Identity) -> bool:
        """Whether somebody may know of it."""
        return self.has_user(who) or (who.role == "org_admin" and who.org in self.site_orgs)


class Studies:
    """The studies of a server, in memory and in its database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._studies: dict[str, Study] = {}
        #: One change at a time: each is made of what the one before has left.
        self._changing = asyncio.Lock()

    async def restore(self, first: Iterable[ProjectStudy] = ()) -> None:
        """Read the studies; a server that starts for the first time begins with those of its project."""
        begin = [Study(one.name, one.site_orgs, one.users, time.time()) for one in first]

        def act(db: Any) -> list[Any]:
            # the row of the default study says that this is not the first time
            if not db.execute("SELECT 1 FROM studies WHERE name=?", (DEFAULT,)).fetchone():
                db.executemany(_INSERT.replace("REPLACE", "IGNORE"), map(_row_of, [Study(DEFAULT), *begin]))
            return list(db.execute("SELECT * FROM studies WHERE name<>?", (DEFAULT,)).fetchall())

        self._studies = {row["name"]: _of_row(row) for row in await self._store.write(act)}

    # -- who is in

    def enter(self, name: str, who: Identity) -> None:
        """Let somebody into a study, or say why not.

        Whoever is not in a study is not told whether it exists.

        Raises:
            AuthError: There is no such study for them; ``data`` has a code that says which reason.
        """
        if name == DEFAULT:
            return
        if not STUDY_NAME.match(name):
            raise AuthError(f"{name[:80]!r} is not the name of a study", data={"auth_code": "AUTH_INVALID_STUDY_NAME"})
        study = self._studies.get(name)
        if study is not None and study.has_user(who):
            return
        if who.role == ADMIN:
            raise AuthError(
                f"there is no study {name!r}",
                hint="`flpoc study list` shows those there are; `flpoc study register` makes one",
                data={"auth_code": "AUTH_UNKNOWN_STUDY", "study": name},
            )
        raise AuthError(
            f"there is no study {name!r} that {who.name} may work in",
            hint=f"`flpoc study list` shows yours; a project_admin adds you: flpoc study add-user {name} {who.name}",
            data={"auth_code": "AUTH_STUDY_USER_NOT_MAPPED", "study": name},
        )

    def has_site(self, name: str, site: str, org: str) -> bool:
        """Whether a site works in a study."""
        study = self._studies.get(name)
        return name == DEFAULT or (study is not None and study.has_site(site, org))

    def sites(self, name: str) -> tuple[str, ...]:
        """The sites that a study names; ``default`` names none."""
        study = self._studies.get(name)
        return study.sites if study is not None else ()

    def foreign(self, name: str, sites: Iterable[str]) -> list[str]:
        """Which of these sites are not in the study."""
        if name == DEFAULT:
            return []
        return sorted(set(sites) - set(self.sites(name)))

    def seen_by(self, who: Identity) -> list[Study]:
        """The studies that somebody may know of, ``default`` not among them."""
        return sorted((one for one in self._studies.values() if one.is_seen_by(who)), key=lambda one: one.name)

    def find(self, name: str, who: Identity) -> Study:
        """A study by its name.

        Raises:
            FlpocError: There is none that they may know of; code STUDY_NOT_FOUND.
        """
        if name == DEFAULT:
            return Study(DEFAULT)
        study = self._studies.get(check_name(name))
        if study is None or not study.is_seen_by(who):
            raise FlpocError(
                f"there is no study {name!r}", code="STUDY_NOT_FOUND", hint="`flpoc study list` shows them"
            )
        return study

    # -- changes

    def registered(self, name: str, site_orgs: Mapping[str, Iterable[str]], who: Identity) -> Study:
        """A new study, or one with more sites: decides, and changes nothing yet.

        Raises:
            FlpocError: It is another's, or sites are not the caller's to give.
        """
        self._refuse_default(check_name(name), "registered")
        check_sites(site_orgs, who)
        known = self._studies.get(name)
        if known is not None and not known.is_seen_by(who):
            raise FlpocError(
                f"the name {name!r} is taken",
                code="STUDY_ALREADY_EXISTS",
                hint="choose another, or ask a project_admin",
            )
        study = known or Study(name, {}, (who.name,), time.time(), who.name)
        return attrs.evolve(study, site_orgs=_joined(study.site_orgs, site_orgs))

    def added(self, name: str, site_orgs: Mapping[str, Iterable[str]], user: str, who: Identity) -> Study:
        """A study with more sites, or one more user: decides, and changes nothing yet.

        Raises:
            FlpocError: The study is unknown, or they are not the caller's to add.
        """
        study = self._mine(name, who)
        check_sites(site_orgs, who)
        if user:
            if problem := name_problem("user", user):
                raise UsageError(problem)
            if user in study.users:
                raise FlpocError(f"{user} is in study {name!r} already", code="USER_ALREADY_IN_STUDY", hint=_look(name))
            study = attrs.evolve(study, users=tuple(sorted({*study.users, user})))
        return attrs.evolve(study, site_orgs=_joined(study.site_orgs, site_orgs))

    def taken(self, name: str, site_orgs: Mapping[str, Iterable[str]], user: str, who: Identity) -> Study:
        """A study without some sites, or a user: decides, and changes nothing yet.

        Raises:
            FlpocError: The study is unknown, they are not in it, or not the caller's to remove.
        """
        study = self._mine(name, who)
        check_sites(site_orgs, who)
        if user:
            if user not in study.users:
                raise FlpocError(f"{user} is not in study {name!r}", code="USER_NOT_IN_STUDY", hint=_look(name))
            study = attrs.evolve(study, users=tuple(one for one in study.users if one != user))
        for org, sites in site_orgs.items():
            if missing := sorted(set(sites) - set(study.site_orgs.get(org, ()))):
                message = f"{', '.join(missing)} of {org}: not in study {name!r}"
                raise FlpocError(message, code="INVALID_SITE", hint=f"`flpoc study show {name}` shows its sites")
        return attrs.evolve(study, site_orgs=_without(study.site_orgs, site_orgs))

    @staticmethod
    def must_be(db: Any, name: str) -> None:
        """Refuse what belongs to a study that is not in the database any more."""
        if name != DEFAULT and db.execute("SELECT 1 FROM studies WHERE name=?", (name,)).fetchone() is None:
            raise FlpocError(f"study {name!r} was removed meanwhile", code="STUDY_NOT_FOUND")

    async def change(self, decide: Callable[[], Study]) -> Study:
        """Keep what one of the above gives: asked again, as the study may have changed meanwhile."""
        async with self._changing:
            return await self._keep(decide())

    async def remove(self, name: str, who: Identity) -> Study:
        """Remove a study that has no jobs.

        Raises:
            FlpocError: It is unknown, or has jobs; code STUDY_HAS_JOBS.
        """
        async with self._changing:
            study = self.removable(name, who)
            await self._delete(name)
            return study

    def removable(self, name: str, who: Identity) -> Study:
        """A study that can be removed if it has no jobs.

        Raises:
            FlpocError: There is none that the caller may know of, or it always is.
        """
        self._refuse_default(check_name(name), "removed")
        return self.find(name, who)

    async def _delete(self, name: str) -> None:
        def act(db: Any) -> int:
            jobs = int(db.execute("SELECT COUNT(*) FROM jobs WHERE study=?", (name,)).fetchone()[0])
            if not jobs:
                db.execute("DELETE FROM studies WHERE name=?", (name,))
            return jobs

        if jobs := await self._store.write(act):
            raise FlpocError(
                f"study {name!r} has {jobs} job{'s' if jobs > 1 else ''}",
                code="STUDY_HAS_JOBS",
                hint=f"delete them first: flpoc job list --study {name}",
                data={"jobs": jobs},
            )
        self._studies.pop(name, None)

    def _mine(self, name: str, who: Identity) -> Study:
        self._refuse_default(name, "changed")
        return self.find(name, who)

    @staticmethod
    def _refuse_default(name: str, what: str) -> None:
        if name == DEFAULT:
            message = f"the study {DEFAULT!r} cannot be {what}: it always is, and everybody is in it"
            raise FlpocError(message, code="INVALID_STUDY_NAME", hint="choose another name")

    async def _keep(self, study: Study) -> Study:
        await self._store.write(lambda db: db.execute(_INSERT, _row_of(study)))
        self._studies[study.name] = study
        return study


def check_name(name: str) -> str:
    """Give the name, if a study can have it.

    Raises:
        FlpocError: It cannot; code INVALID_STUDY_NAME.
    """
    if not STUDY_NAME.match(name):
        raise FlpocError(
            f"{name[:80]!r} is not the name of a study",
            code="INVALID_STUDY_NAME",
            hint="lower case letters, digits, _ and -, at most 63, a letter or digit at both ends",
        )
    return name


def check_sites(site_orgs: Mapping[str, Iterable[str]], who: Identity) -> None:
    """Check names, and that an org_admin gives only sites of their own organisation.

    Raises:
        FlpocError: They are not right; code INVALID_SITE.
    """
    for org, sites in site_orgs.items():
        if problem := name_problem("org", org):
            raise FlpocError(problem, code="INVALID_SITE")
        if who.role != ADMIN and org != who.org:
            raise FlpocError(
                f"{who.name} ({who.role}) may only speak for sites of {who.org}, not of {org}",
                code="INVALID_SITE",
                hint="give sites of your own organisation, or ask a project_admin",
            )
        for site in sites:
            if problem := name_problem("site", site):
                raise FlpocError(problem, code="INVALID_SITE")


def _look(name: str) -> str:
    return f"`flpoc study show {name}` shows its users"


def _joined(old: Mapping[str, Iterable[str]], more: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    orgs = sorted({*old, *more})
    return {org: tuple(sorted({*old.get(org, ()), *more.get(org, ())})) for org in orgs}


def _without(old: Mapping[str, Iterable[str]], less: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    left = {org: tuple(site for site in sites if site not in set(less.get(org, ()))) for org, sites in old.items()}
    return {org: sites for org, sites in left.items() if sites}


def _row_of(study: Study) -> tuple[str, str, str, float, str]:
    sites = {org: list(names) for org, names in study.site_orgs.items()}
    return study.name, json.dumps(sites), json.dumps(study.users), study.created, study.by


def _of_row(row: Any) -> Study:
    sites = {org: tuple(names) for org, names in json.loads(row["sites"]).items()}
    return Study(row["name"], sites, tuple(json.loads(row["users"])), row["created"], row["by"])
