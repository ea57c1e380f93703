"""Settings of the built-in workflows."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class FedAvgSettings:
    """Settings of federated averaging.

    Attributes:
        evaluate_final: Have the final model evaluated at the sites, if their scripts handle evaluation.
    """

    evaluate_final: bool = True


@attrs.frozen
class CyclicSettings:
    """Settings of cyclic training.

    Attributes:
        order: ``fixed``: the sites in the order of their names in every round. ``random``: another order every round,
            which follows from the job's seed.
        evaluate_final: Have the final model evaluated at the sites, if their scripts handle evaluation.
    """

    order: Literal["fixed", "random"] = "fixed"
    evaluate_final: bool = True
