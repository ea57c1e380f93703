"""What a site's policy puts into the environment of a study's scripts: settings, and secrets of the site."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from flpoc.errors import AuthError, ConfigError, JobError
from flpoc.jobs.secrets import NAME, PATH, file_variable, secret_files_in, secrets_in
from flpoc.jobs.spec import JobSpec
from flpoc.settings import structure

_WHERE: Final = "local/policy.json: environments"
_MOST_BYTES: Final = 1 << 16
#: What decides which code runs, or what a process is told by its owner.
_RESERVED: Final = frozenset({"PATH", "HOME", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"})
_RESERVED_BEGINNINGS: Final = ("FLPOC_", "PYTHON")


@attrs.frozen
class StudyEnvironment:
    """What scripts of one study find in their environment.

    Attributes:
        env: Values by variable.
        secrets: By variable the file, absolute, that has the value.
        secret_files: Files, absolute, that jobs may name as secrets themselves.
    """

    env: dict[str, str] = attrs.field(factory=dict)
    secrets: dict[str, str] = attrs.field(factory=dict)
    secret_files: tuple[str, ...] = ()

    def read(self, site: str) -> dict[str, str]:
        """All variables with their values; secrets are read anew each time.

        Raises:
            JobError: A secret cannot be read; what it is, and where, is not said to others.
        """
        named = {name: _value(name, Path(path), site) for name, path in self.secrets.items()}
        files = {file_variable(path): _value(path, Path(path), site) for path in self.secret_files}
        return {**self.env, **named, **files}


@attrs.frozen
class Environments:
    """The environments of all studies."""

    of_study: Mapping[str, StudyEnvironment]

    def of(self, study: str) -> StudyEnvironment:
        return self.of_study.get(study, StudyEnvironment())

    def refuse_unknown(self, spec: JobSpec, site: str) -> None:
        """Refuse a job whose script is to be given a secret that this site has not for its study.

        Raises:
            AuthError: There is such a one.
        """
        args, study = spec.script_for(site).args, self.of(spec.study)
        wanted = [f"secret {name!r}" for name in secrets_in(args) if name not in study.secrets]
        wanted += [f"secret file {path!r}" for path in secret_files_in(args) if path not in study.secret_files]
        if wanted:
            raise AuthError(
                f"{site} has no {wanted[0]} for study {spec.study!r}",
                hint="environments in the site's local/policy.json decides",
            )


def environments(found: Mapping[str, Any]) -> Environments:
    """Read ``environments`` of the site's policy.

    Raises:
        ConfigError: An entry is wrong.
    """
    studies = {name: structure(value, StudyEnvironment, where=f"{_WHERE}.{name}") for name, value in found.items()}
    for study, one in studies.items():
        for name in (*one.env, *one.secrets):
            if not NAME.fullmatch(name) or name in _RESERVED or name.startswith(_RESERVED_BEGINNINGS):
                raise ConfigError(f"{_WHERE}.{study}: {name!r} cannot be set", hint="use another name")
        if twice := sorted(set(one.env) & set(one.secrets)):
            raise ConfigError(f"{_WHERE}.{study}: {twice[0]!r} is both in env and in secrets", hint="keep one")
        for name, path in one.secrets.items():
            if not Path(path).is_absolute():
                raise ConfigError(f"{_WHERE}.{study}.secrets.{name}: {path!r} is not an absolute path")
        for path in one.secret_files:
            if not PATH.fullmatch(path):
                hint = "it is absolute, of letters, digits and ._@%+=:,-, without . and .."
                raise ConfigError(f"{_WHERE}.{study}.secret_files: {path!r} is no path that a job can name", hint=hint)
    return Environments(studies)


def _value(name: str, path: Path, site: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES or b"\0" in data:
            raise ValueError("it is not a short text")
        return data.decode().removesuffix("\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a short text in UTF-8"
        raise JobError(f"{site}: the secret {name!r} cannot be read: {why}") from None
