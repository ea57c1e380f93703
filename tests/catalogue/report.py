"""Run the tests of the catalogue and print, row by row, what they found.

``--list`` prints the rows without running anything, ``--write`` writes the
page of the documentation. Ends with 1 if a row that applies has no test, or
one that fails. Other words go to pytest.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

# the first holds this package, the second is where pytest's own subprocesses find tests, as with `python -m pytest`
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from catalogue.page import PAGE, page
from catalogue.rows import ROOT, Row, Section, marks, sections

WIDTH = 64


class Outcomes:
    """A plugin of pytest that counts by row how tests have ended."""

    def __init__(self) -> None:
        self.by_row: dict[str, Counter[str]] = defaultdict(Counter)
        self._rows: dict[str, set[str]] = {}
        self._ended: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            found = {row for mark in item.iter_markers("row") for row in mark.args}
            # a case that begins with a row's name is of that row alone: [A5 bomb]
            case = re.search(r"\[([A-Z]\d+) [^]]*\]$", item.nodeid)
            self._rows[item.nodeid] = {case[1]} if case and case[1] in found else found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        worse = ("passed", "skipped", "failed")
        before = self._ended.get(report.nodeid, "passed")
        self._ended[report.nodeid] = max(before, report.outcome, key=worse.index)

    def pytest_sessionfinish(self) -> None:
        for test, outcome in self._ended.items():
            for row in self._rows[test]:
                self.by_row[row][outcome] += 1


def verdict(row: Row, counts: Counter[str]) -> str:
    if row.later:
        return "later"
    if counts["failed"]:
        return "FAILS"
    return "passes" if counts["passed"] else "NO TEST"


def print_section(section: Section, by_row: dict[str, Counter[str]]) -> None:
    print(f"\n{section.letter}. {section.title}")
    for row in section.rows:
        counts = by_row[row.id]
        tests = f"{counts['passed']} of {sum(counts.values())}" if counts else "-"
        print(f"  {row.id:<4} {shortened(row.what):<{WIDTH}} {verdict(row, counts):<8} {tests:>9}")


def shortened(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3].rstrip()}..."


def run(words: list[str]) -> int:
    """Run all tests of rows; the answer is the exit status."""
    outcomes = Outcomes()
    os.chdir(ROOT)
    pytest.main(["-m", "row", "-q", "--no-header", "-r", "fE", "--tb", "short", *words], plugins=[outcomes])
    found = sections()
    for section in found:
        print_section(section, outcomes.by_row)
    said = Counter(verdict(row, outcomes.by_row[row.id]) for section in found for row in section.rows)
    print(f"\n{said.total()} rows, {said.total() - said['later']} apply, {said['passes']} pass")
    return 1 if said["FAILS"] or said["NO TEST"] else 0


def print_list() -> int:
    """Print rows and how many places show each; ends with 1 if one that applies is shown nowhere."""
    places = Counter(mark.row for mark in marks())
    missing = 0
    for section in sections():
        print(f"\n{section.letter}. {section.title}")
        for row in section.rows:
            state = "later" if row.later else f"{places[row.id] or 'NO'} tests"
            missing += not row.later and not places[row.id]
            print(f"  {row.id:<4} {shortened(row.what):<{WIDTH}} {state:>9}")
    return 1 if missing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the rows, run nothing")
    parser.add_argument("--write", action="store_true", help="write the page of the documentation, run nothing")
    chosen, words = parser.parse_known_args()
    if chosen.write:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    return print_list() if chosen.list else run(words)


if __name__ == "__main__":
    sys.exit(main())
