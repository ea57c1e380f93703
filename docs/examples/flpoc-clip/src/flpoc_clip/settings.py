"""What can be set."""

import attrs


@attrs.frozen
class ClipSettings:
    """Settings of the filter ``clip``.

    Attributes:
        norm: The largest L2 norm of the change, over all tensors together.
    """

    norm: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
