"""The catalogue is whole: every row is shown by a test or says what it waits for."""

from __future__ import annotations

import re

import pytest

from .page import PAGE, page
from .rows import ROWS, SECTIONS, marks, rows, sections


def test_every_marker_names_a_row():
    known = rows()
    assert [f"{mark.path.name}:{mark.line}: {mark.row}" for mark in marks() if mark.row not in known] == []


def test_every_row_that_applies_has_a_test():
    shown = {mark.row for mark in marks()}
    assert [row.id for row in rows().values() if not row.later and row.id not in shown] == []


def test_every_row_says_what_is_given_and_what_comes_of_it():
    assert [row.id for row in rows().values() if len(row.what) < 10 or len(row.expect) < 5] == []


def test_a_row_that_waits_says_for_what():
    assert [row.id for row in rows().values() if row.later and len(row.later.split()) < 2] == []


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.letter)
def test_rows_are_numbered_without_gaps(section):
    assert [row.id for row in section.rows] == [f"{section.letter}{n}" for n in range(1, len(section.rows) + 1)]


def test_every_file_of_rows_is_read():
    assert sorted(path.stem for path in ROWS.iterdir()) == sorted(SECTIONS)


def test_the_page_of_the_documentation_is_current():
    # run `python tests/catalogue/report.py --write` if it is not
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_page_promises_no_row_twice():
    ids = re.findall(r"^\| ([A-Z]\d+) \|", page(), re.MULTILINE)
    assert len(ids) == len(set(ids)) == len(rows())
