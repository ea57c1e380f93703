"""What every launcher must keep, whatever engine is behind it."""

from __future__ import annotations

from flpoc.testing.launcher_ends import LauncherEnds
from flpoc.testing.launcher_starts import LauncherStarts
from flpoc.testing.launcher_stops import LauncherStops


class LauncherSuite(LauncherStarts, LauncherEnds, LauncherStops):
    """Tests of a launcher; a subclass gives the fixture ``launcher``.

    Attributes:
        knows_exit_codes: Whether ``Status.code`` is known after the end.
        runs_on_host: Whether what it launches are processes of this host that can launch others themselves. False for
            containers and other machines: what needs that is skipped.
        python: The interpreter, as the launched process finds it.
        engine_env: Names that the engine itself puts into every environment.
        patience: Seconds after which something that should happen counts as not happening. A test that takes
            five times as long has failed.
        at_once: Seconds that ``poll`` may take.
        maker: Python that makes the same launcher in another process, as ``launcher``. Needed only if
            the class is not made from nothing, or from one attrs object that it keeps as an attribute.
    """
