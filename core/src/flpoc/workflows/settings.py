"""Settings of the built-in workflows."""

from __future__ import annotations

import attrs


@attrs.frozen
class FedAvgSettings:
    """Settings of federated averaging.

    Attributes:
        evaluate_final: Have the final model evaluated at the sites, if their scripts handle evaluation.
    """

    evaluate_final: bool = True
