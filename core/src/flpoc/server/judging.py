"""Whether an update is one that was asked for, and what is said of a site whose update is not."""

from __future__ import annotations

from flpoc.errors import IntegrityError
from flpoc.jobs.states import Cause
from flpoc.models.header import Header


def check_layout(header: Header, params_type: str, given: Header | None, *, known: bool, partial: bool) -> None:
    """Whether an update has the tensors that it must have.

    Args:
        header: What it has.
        params_type: Whether it is a model or a change of one.
        given: What the site was given; None for nothing.
        known: Whether it is known what the site was given.
        partial: A subset of the tensors will do.

    Raises:
        IntegrityError: It has not.
    """
    if given is None:
        if params_type == "DIFF" and known:
            raise IntegrityError("a DIFF without a model that it is a change of")
        return
    if partial:
        return
    if difference := given.same_layout(header):
        raise IntegrityError(f"not the tensors of the model that was sent: {difference}")


def has_model(kind: str, header: Header) -> bool:
    """Whether an answer brings a model: an evaluation has none, nor has a site that has no model of its own."""
    return kind != "evaluate" and (kind != "submit_model" or bool(header.tensors))


def check_kind(kind: str, asked: str) -> None:
    """Whether an answer is to the task that was given.

    Raises:
        IntegrityError: It is not.
    """
    if kind != asked:
        raise IntegrityError(f"the answer is to {kind}, the task was to {asked}")


def rejected(site: str, round_number: int, reason: str) -> Cause:
    """Why a site takes no further part whose update cannot be used."""
    return Cause(
        site=site,
        phase="sending its update",
        round=round_number,
        message=reason,
        hint="the script must send the tensors that it received, with the same names, shapes and dtypes",
    )


def nothing_came(round_number: int, absent: list[str]) -> Cause:
    """Why a job fails of whose round too little has come when its time is up."""
    message = f"no update from {', '.join(absent)}"
    return Cause(site=absent[0] if absent else "", phase="waiting", round=round_number, message=message)
