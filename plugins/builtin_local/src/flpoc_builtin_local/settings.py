"""What can be set for the ``local`` launcher."""

from __future__ import annotations

import attrs


@attrs.frozen
class LocalSettings:
    """Settings of the ``local`` launcher: there are none.

    Everything comes with the request. Of a request this launcher honours
    the memory limit; it shares processors, graphics processors, files and
    the network with the rest of the machine and confines nothing: a request
    for ``network = none`` starts a process that can reach the network.
    """
