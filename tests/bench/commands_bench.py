"""How long every command takes: its help, and what it says about a running proof of concept."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from figures import Figure
from place import Bench, BenchError, Measurement, Place, in_turn, place, poc
from poc_bench import NUMBERS, completed, write_job

#: Commands that look, and that a job which has ended cannot answer.
NOT_ASKED = {"flpoc job stats": "is about running jobs only"}


def leaves() -> dict[str, click.Command]:
    """All commands of core that do something, by their words."""
    from flpoc.cli.command import Group
    from flpoc.cli.main import COMMANDS

    found: dict[str, click.Command] = {}
    waiting: list[tuple[str, click.Command]] = [("flpoc", Group("flpoc", table=COMMANDS))]
    while waiting:
        path, command = waiting.pop()
        if isinstance(command, click.Group):
            inner = click.Context(command)
            for name in command.list_commands(inner):
                one = command.get_command(inner, name)
                assert one is not None
                waiting.append((f"{path} {name}", one))
        else:
            found[path] = command
    return dict(sorted(found.items()))


def looking(commands: Mapping[str, click.Command], words: Mapping[str, str]) -> Iterator[list[str]]:
    """The words of every command that asks a server and changes nothing, without the program's name."""
    for path, command in commands.items():
        options = {one.name for one in command.params if isinstance(one, click.Option)}
        if "startup_kit" not in options or getattr(command, "mutating", True) or path in NOT_ASKED:
            continue
        needed = [one.name for one in command.params if isinstance(one, click.Argument) and one.required]
        if missing := [name for name in needed if name not in words]:
            raise BenchError(f"{path}: nobody says what its {missing[0]} is")
        yield [*path.split()[1:], *(words[str(name)] for name in needed)]


def every_command(bench: Bench) -> Iterator[Figure]:
    """The help of every command, and every command that looks at a server; medians of each, the slowest named."""
    from flpoc.session import Session

    commands, times = leaves(), 3 if bench.quick else 5
    with place() as where, poc(where) as kit, Session.open(kit) as session:
        helps = [[*path.split()[1:], "--help"] for path in commands]
        yield from _summary("cli.helps", where, helps, times)
        folder = write_job(where.folder / "job", numbers=NUMBERS, rounds=2, sites=2)
        job = str(completed(session, session.submit_job(folder))["job_id"])
        asked = list(looking(commands, {"job_id": job, "name": "default", "study": "default"}))
        yield from _summary("cli.asks", where, asked, times)


def _summary(key: str, where: Place, lines: Sequence[Sequence[str]], times: int) -> Iterator[Figure]:
    acts: list[Any] = [lambda words=words: where.flpoc(*words) for words in lines]
    took = [one.seconds for one in in_turn(acts, times)]
    slowest = max(range(len(took)), key=took.__getitem__)
    yield Figure(key, statistics.median(took), f"median of the medians of {len(lines)} commands, {times} times each")
    yield Figure(f"{key}.slowest", took[slowest], f"`{' '.join(lines[slowest][:3])}`; median of {times}")


BENCHES: Mapping[str, Measurement] = {
    "commands": Measurement(every_command, ("cli.helps", "cli.helps.slowest", "cli.asks", "cli.asks.slowest")),
}
