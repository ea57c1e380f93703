"""Changing or checking what leaves a site: clipping, noise, exclusion, compression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from flpoc.models.tensors import TensorFile


@attrs.frozen
class FilterSpec:
    """A filter that a job or a site's policy wants, by its name.

    Attributes:
        name: Name of an installed filter.
        settings: Its settings; what they mean is up to the filter.
    """

    name: str
    settings: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not self.name or len(self.name) > 128:
            raise ValueError(f"name: {self.name[:80]!r} is not the name of a filter")


@attrs.frozen
class Departure:
    """An update on its way out of a site: what a filter may know of it besides its tensors.

    Attributes:
        site: The site that it is about to leave.
        job: Id of the job.
        run: Number of the job's run; ``job resume`` begins another.
        round: The round, counted from 0.
        kind: ``train``, ``evaluate`` or ``submit_model``: what the script was asked to do.
        params_type: ``FULL`` for a model, ``DIFF`` for the difference to the received one.
        weight: Its weight in the mean.
        folder: A folder of this filter's own at the site, which stays. Several
            jobs may be filtered at once; job, run and round name an update.
        seed: Gives 32 bytes for whoever needs chance, for example for noise.
            They follow from a secret of the site, from the filter with its
            settings, and from the contents of update and received model: the
            same input gives the same output, also after a crash, and nobody
            else can foretell them.
    """

    site: str
    job: str
    run: int
    round: int
    kind: str
    params_type: str
    weight: float
    folder: Path
    seed: Callable[[], bytes]


class Filter(ABC):
    """Changes an update before it leaves its site, or refuses it.

    Runs in the site's gate, never beside a job's code. Whatever it raises is
    a refusal: nothing leaves the site, and the job fails there.
    """

    @abstractmethod
    def apply(self, update: TensorFile, received: TensorFile | None, into: Path, departure: Departure) -> None:
        """Write what may leave to the file *into*.

        Called again with the same update if the process died meanwhile; what
        was written once and is on its way is never asked for again.

        Args:
            update: What the script sent, or what the filter before made of
                it; mapped from a file that nobody else can write.
            received: The model it was trained from; None in a first round without one.
            into: A safetensors file to create.
            departure: Whose update it is, of which round, and a source of chance.
        """
