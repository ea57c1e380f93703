"""Performing the tasks of simulated sites elsewhere: on a cluster, for example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator


class Simulator(ABC):
    """Takes the place of the processes that ``flpoc simulator`` would start by itself.

    Workflow, aggregator, ledger and results stay where the simulation was
    started; what is done here are single tasks of single sites. A task is
    text, and so is what comes of it: both can be sent anywhere.
    """

    @abstractmethod
    def perform(self, work: Callable[[str], str], tasks: Iterable[str]) -> Iterator[str]:
        """Call ``work(task)`` for every task; give what it returns, in any order, as it comes.

        Each call runs a site's script. It needs the main thread of a process
        that does nothing else meanwhile, and may be followed by another in
        the same process, which then has its modules loaded. The process needs
        the files of the simulation at the same paths: the job's folder, and
        the workspace.

        Args:
            work: A function of flpoc that can be pickled; it raises only if it could not be carried out.
            tasks: Taken one by one, as there is room for them: there may be tens of thousands.

        Raises:
            Exception: Something is wrong with the place where tasks are performed; the job fails with it.
        """

    def close(self) -> None:
        """Nothing more will be performed."""
