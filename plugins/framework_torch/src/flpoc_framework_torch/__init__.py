"""PyTorch and Lightning in flpoc."""

from __future__ import annotations

from flpoc_framework_torch.fedprox import PTFedProxLoss

__all__ = ["PTFedProxLoss"]
