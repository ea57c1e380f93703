"""Encryption under which updates can be added without being read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flpoc.models.tensors import TensorFile


class Cipher(ABC):
    """Encrypts at the sites, adds at the server, decrypts at the sites."""

    @abstractmethod
    def encrypt(self, update: TensorFile, into: Path) -> None:
        """Write the encrypted update to the file *into*; at a site, in its gate."""

    @abstractmethod
    def add(self, updates: Sequence[TensorFile], into: Path) -> None:
        """Add encrypted updates; at the server, in a child process of the controller."""

    @abstractmethod
    def decrypt(self, total: TensorFile, into: Path) -> None:
        """Write the decrypted sum to the file *into*; at a site, in its gate."""
