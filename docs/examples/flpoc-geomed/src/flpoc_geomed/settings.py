"""What can be set."""

import attrs


@attrs.frozen
class GeometricMedianSettings:
    """Settings of the aggregator ``geometric-median``.

    Attributes:
        steps: How often the weights are corrected.
        smoothing: A distance below this part of the largest one counts as this: nobody's weight becomes infinite.
    """

    steps: int = attrs.field(default=20, validator=[attrs.validators.ge(1), attrs.validators.le(1000)])
    smoothing: float = attrs.field(default=1e-6, validator=[attrs.validators.gt(0), attrs.validators.lt(1)])
