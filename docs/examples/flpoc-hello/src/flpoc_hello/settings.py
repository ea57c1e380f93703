"""What can be set."""

from __future__ import annotations

import attrs


@attrs.frozen
class HelloSettings:
    """Settings of the launcher ``hello``.

    Attributes:
        nice: How much its processes give way to others: 0 not at all, 19 wherever possible.
    """

    nice: int = attrs.field(
        default=0,
        validator=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(19)),
    )
