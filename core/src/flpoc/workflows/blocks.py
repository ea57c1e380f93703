"""Tensors block by block: what every aggregator has to know about kinds of numbers.

bfloat16 is computed with as float32, float8 not at all; whole numbers are
rounded, ties to even, and stay within their dtype; a change of truth values
is an exclusive or.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from flpoc.aggregating import Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import Header, TensorFile, TensorSpec, narrow, numpy_dtype, widen

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Elements taken at once: two buffers of this many doubles stay in a processor's cache.
BLOCK = 1 << 16

_OPAQUE = ("F8_E4M3", "F8_E5M2")


def check_kinds(updates: Sequence[Update], base: TensorFile | None) -> bool:
    """Say whether all updates are changes (DIFF).

    Raises:
        IntegrityError: There are none, some are models and others are changes, a weight is none, or there is nothing
            to change.
    """
    if not updates:
        raise IntegrityError("there are no updates to aggregate")
    for update in updates:
        if not 1e-100 < update.weight < 1e100:
            raise IntegrityError(
                f"{update.site}: weight {update.weight} is not greater than 0, or not finite",
                hint="send the number of steps or samples that the update is made of",
            )
    changes = [update.site for update in updates if update.params_type == "DIFF"]
    if changes and len(changes) < len(updates):
        models = [update.site for update in updates if update.params_type != "DIFF"]
        raise IntegrityError(
            f"sent a change (DIFF): {', '.join(changes)}; sent a model (FULL): {', '.join(models)}",
            hint="use the same params_type at every site",
        )
    if changes and base is None:
        raise IntegrityError(f"{changes[0]}: sent a change (DIFF), but there is no model that it changes")
    return bool(changes)


def check_alike(updates: Sequence[Update], base: TensorFile | None) -> bool:
    """Say whether the updates are changes; all must have the same tensors, those of the model if they change it.

    Raises:
        IntegrityError: They do not fit together; names the site and what is different.
    """
    is_change = check_kinds(updates, base)
    if is_change and base is not None and (differs := base.header.same_layout(updates[0].model.header)):
        raise IntegrityError(f"{updates[0].site}: its change does not fit the model: {differs}")
    for update in updates[1:]:
        if differs := updates[0].model.header.same_layout(update.model.header):
            raise IntegrityError(f"{update.site}: not the tensors of {updates[0].site}: {differs}")
    return is_change


def misfit(whole: Header, part: Header) -> str:
    """Say which tensor of *part* is not in *whole*, or not of that shape and dtype; empty if all are."""
    names = {spec.name for spec in part.tensors}
    return Header(tuple(s for s in whole.tensors if s.name in names), 0, 0).same_layout(part)


def spans(elements: int, block: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Start and stop of each block of a tensor."""
    for start in range(0, elements, block):
        yield start, min(start + block, elements)


def is_opaque(dtype: str) -> bool:
    """Whether there is no arithmetic for such a dtype (float8)."""
    return dtype in _OPAQUE


def is_real(dtype: str) -> bool:
    """Whether its numbers are real ones, for which distances and steps have a meaning."""
    return dtype == "BF16" or numpy_dtype(dtype).kind == "f"


def wide(block: Array) -> Array:
    """A block with which NumPy can compute; bfloat16 as float32."""
    return widen(block) if block.dtype.kind == "V" else block


def stored(numbers: Array, dtype: str) -> Array:
    """Doubles as a tensor's dtype: rounded to the nearest, whole numbers within what the dtype holds."""
    if dtype == "BF16":
        return narrow(numbers.astype(np.float32))
    into = numpy_dtype(dtype)
    if into.kind not in "iu":
        return numbers if into == numbers.dtype else numbers.astype(into)
    limits = np.iinfo(into)
    # the largest double that the dtype still holds: 2**63 - 1 itself is no double
    highest = float(limits.max) if into.itemsize < 8 else np.nextafter(float(limits.max), 0)
    return np.clip(np.rint(numbers), float(limits.min), highest).astype(into)


def first_sites(spec: TensorSpec, block: Array, site: str, base: Array | None) -> Array:
    """What becomes of truth values and float8: the first site's; *base* is what a change of theirs is applied to.

    Raises:
        IntegrityError: A change of float8 cannot be added.
    """
    if base is None:
        return block
    if is_opaque(spec.dtype):
        raise IntegrityError(
            f"{site}: a change (DIFF) of {spec.dtype} cannot be added",
            hint="send the model itself (FULL), or wider numbers",
        )
    return np.logical_xor(base, block)


def all_finite(block: Array) -> bool:
    """Whether a block holds neither NaN nor infinity; of float8 nothing is known."""
    if block.dtype.kind == "f":
        return bool(np.isfinite(block).all())
    if "bfloat16" in (block.dtype.names or ()):
        return bool(np.isfinite(widen(block)).all())
    return True


def check_finite(spec: TensorSpec, start: int, block: Array, site: str) -> None:
    """Refuse NaN and infinity in a block that begins at element *start*.

    Raises:
        IntegrityError: There are some; names site, tensor and element.
    """
    if not all_finite(block):
        place = start + int(np.argmin(np.isfinite(wide(block))))
        raise IntegrityError(
            f"{site}: tensor {spec.name!r} holds NaN or infinity (element {place} of {spec.elements})",
            hint="look at the learning rate and the loss of this site",
            data={"site": site, "tensor": spec.name},
        )


def too_large(spec: TensorSpec) -> IntegrityError:
    """The error for finite numbers whose result is none."""
    return IntegrityError(f"tensor {spec.name!r}: the result is too large for {spec.dtype}", data={"tensor": spec.name})
