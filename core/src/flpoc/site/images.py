"""Which images jobs may run in, at sites whose launcher has images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flpoc.errors import AuthError
from flpoc.jobs.spec import JobSpec
from flpoc.settings import structure


@attrs.frozen
class ImagePolicy:
    """What the site's policy says about images.

    Attributes:
        allowed: Images that jobs may ask for: names, or beginnings of names that end with ``*``.
        studies: The image of a study's jobs that ask for none.
    """

    allowed: tuple[str, ...] = ()
    studies: dict[str, str] = attrs.field(factory=dict)

    def choose(self, spec: JobSpec, site: str) -> str:
        """The image of a job: its own, else its study's; empty: as the launcher is set.

        Raises:
            AuthError: It may not have its own.
        """
        image = spec.script_for(site).image
        if not image:
            return self.studies.get(spec.study, "")
        if not any(image.startswith(one[:-1]) if one.endswith("*") else image == one for one in self.allowed):
            raise AuthError(
                f"{site} does not run jobs in the image {image!r}",
                hint="images.allowed in the site's local/policy.json decides",
            )
        return image


def image_policy(found: Mapping[str, Any]) -> ImagePolicy:
    """Read ``images`` of the site's policy.

    Raises:
        ConfigError: It is wrong.
    """
    return structure(dict(found), ImagePolicy, where="local/policy.json: images")
