"""Words that parameters of recipes take."""

from __future__ import annotations

import enum


class FrameworkType(enum.StrEnum):
    """What a script's models are made of."""

    PYTORCH = "pytorch"
    TENSORFLOW = "tensorflow"
    NUMPY = "numpy"
    RAW = "raw"


class ExchangeFormat(enum.StrEnum):
    """How parameters travelled in comparable systems; here they are always safetensors files."""

    NUMPY = "numpy"
    PYTORCH = "pytorch"
    KERAS_LAYER_WEIGHTS = "keras_layer_weights"
    RAW = "raw"


class TransferType(enum.StrEnum):
    """Whether a script's answer is sent as the model (FULL) or as its change of the received one (DIFF)."""

    FULL = "FULL"
    DIFF = "DIFF"


class DataKind(enum.StrEnum):
    """What an aggregator gets: models, or changes of them."""

    WEIGHTS = "WEIGHTS"
    WEIGHT_DIFF = "WEIGHT_DIFF"
