"""The proximal term of FedProx."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class PTFedProxLoss:
    """What FedProx adds to a site's loss: ``mu/2 * ||w - w_received||^2`` (Li et al. 2020, arXiv:1812.06127, eq. 2).

        prox = PTFedProxLoss(mu=model.meta["fedprox_mu"])
        received = copy.deepcopy(net)
        ...
        loss = criterion(net(images), labels) + prox(net, received)

    Args:
        mu: Weight of the term, not negative; 0 is FedAvg.

    Raises:
        ValueError: *mu* is negative or no number.
    """

    def __init__(self, mu: float = 0.01) -> None:
        if not (mu >= 0 and math.isfinite(mu)):
            raise ValueError(f"mu is {mu!r}; a number that is not negative is needed")
        self.mu = mu

    def __call__(self, input: torch.nn.Module, target: torch.nn.Module) -> torch.Tensor:  # noqa: A002 - as documented
        """The term for the trained model *input* and the received one, *target*; a scalar with a gradient for *input*.

        Raises:
            ValueError: The two have other parameters, or there is none.
        """
        received = dict(target.named_parameters())
        trained = dict(input.named_parameters())
        if not trained or trained.keys() != received.keys():
            odd = sorted(trained.keys() ^ received.keys())
            raise ValueError(f"the two models differ: {odd[0]!r}" if odd else "there are no parameters")
        terms = [((one - received[name].detach()) ** 2).sum() for name, one in trained.items()]
        first = terms[0]
        return sum((term.to(first.device) for term in terms[1:]), first) * (self.mu / 2)
