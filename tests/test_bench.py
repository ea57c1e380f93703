"""The benches' table: one list of rows for every column, honest ratios, and a page that shows all of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "tests" / "bench"
PAGE = ROOT / "docs" / "explanation" / "benchmarks.md"
MODULES = ("figures", "page", "place", "rows", "run")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The modules of the benches, which are programs and no package."""
    import importlib

    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(BENCH))
        ours = {path.stem for path in BENCH.glob("*.py")}
        for name in (set(sys.modules) - before) & ours:
            del sys.modules[name]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(BENCH / "run.py"), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def measured(bench, tmp_path) -> Path:
    """A file as a whole run writes it: made-up figures of two subjects, one of which failed in one row."""
    Column, Figure = bench.figures.Column, bench.figures.Figure
    ours = Column("flpoc", [Figure("cli.help", 0.2), Figure("traffic.100x2.speed", 300.0, "5 rounds")], "flpoc")
    figures = [Figure("cli.help", 0.8), Figure("traffic.100x2.speed", 60.0), Figure("simulate.2x3", 18.0)]
    theirs = Column("nvflare", [*figures, Figure("poc.stop", None, error="it hangs\nfor ever")], "NVFlare 2.9.0")
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(bench.figures.document([ours, theirs], {"processors": "2"})), encoding="utf-8")
    return path


@pytest.fixture
def page(bench, tmp_path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{bench.page.BEGIN}\nold\n{bench.page.END}\nafter\n", encoding="utf-8")
    return path


def line_of(text: str, start: str) -> list[str]:
    """The cells of the line of a page's table that begins with this name."""
    line = next(one for one in text.splitlines() if one.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


# -- rows and figures


def test_every_bench_promises_rows_that_the_table_has(bench):
    promised = [
        (subject, name, key)
        for subject, one in bench.run.SUBJECTS.items()
        for name, measurement in one.benches.items()
        for key in measurement.keys
    ]
    assert len(promised) > 60
    assert [one for one in promised if one[2] not in bench.rows.ROWS] == []


def test_every_row_is_filled_by_one_bench_of_a_subject_at_most(bench):
    for subject, one in bench.run.SUBJECTS.items():
        keys = [key for measurement in one.benches.values() for key in measurement.keys]
        assert sorted(keys) == sorted(set(keys)), subject


def test_flpoc_has_a_bench_for_every_row(bench):
    filled = {key for one in bench.run.SUBJECTS["flpoc"].benches.values() for key in one.keys}
    assert filled == set(bench.rows.ROWS)


@pytest.mark.parametrize(("peer", "least"), [("nvflare", 9), ("flwr", 4)])
def test_a_bench_of_the_same_name_fills_no_row_of_another_bench(bench, peer, least):
    ours, theirs = bench.run.SUBJECTS["flpoc"].benches, bench.run.SUBJECTS[peer].benches
    both = sorted(set(ours) & set(theirs))
    assert len(both) >= least
    assert [name for name in both if not set(theirs[name].keys) <= set(ours[name].keys)] == []


def test_a_figure_of_an_unknown_row_is_refused(bench):
    with pytest.raises(ValueError, match=r"poc\.strat: the table has no such row"):
        bench.figures.Figure("poc.strat", 1.0)


def test_a_bench_that_fails_says_so_in_every_row_that_it_did_not_fill(bench):
    def half(_bench):
        yield bench.figures.Figure("poc.start", 2.0)
        raise bench.place.BenchError("stop hangs")

    measurement = bench.place.Measurement(half, ("poc.start", "poc.stop", "poc.stop_nothing"))
    found = list(bench.run.guarded("start", measurement, None))
    assert [(one.key, one.value, one.error) for one in found] == [
        ("poc.start", 2.0, ""),
        ("poc.stop", None, "stop hangs"),
        ("poc.stop_nothing", None, "stop hangs"),
    ]


def test_a_bench_that_forgets_a_row_or_fills_a_strange_one_has_failed(bench):
    def forgets(_bench):
        yield bench.figures.Figure("poc.start", 2.0)

    promised = bench.place.Measurement(forgets, ("poc.start", "poc.stop"))
    assert [one.key for one in bench.run.guarded("start", promised, None) if one.error] == ["poc.stop"]
    other = bench.place.Measurement(forgets, ("poc.stop",))
    (found,) = bench.run.guarded("start", other, None)
    assert "poc.start, which is not its row" in found.error


# -- ratios


@pytest.mark.parametrize(
    ("key", "ours", "theirs", "times"),
    [("cli.help", 0.2, 0.8, 4.0), ("traffic.100x2.speed", 300.0, 60.0, 5.0), ("cli.help", 0.8, 0.2, 0.25)],
    ids=["less is better", "more is better", "ours is worse"],
)
def test_a_ratio_says_how_many_times_better_flpoc_is(bench, key, ours, theirs, times):
    assert bench.rows.ROWS[key].times_better(ours, theirs) == pytest.approx(times)


def test_there_is_no_ratio_with_something_that_was_not_measured(bench):
    row = bench.rows.ROWS["cli.help"]
    assert [row.times_better(None, 1.0), row.times_better(1.0, None), row.times_better(1.0, 0.0)] == [None] * 3


def test_a_limit_is_kept_on_its_own_side(bench):
    rows = bench.rows.ROWS
    assert [rows["cli.help"].holds(value) for value in (0.19, 0.21, None)] == [True, False, None]
    assert [rows["traffic.100x2.speed"].holds(value) for value in (260.0, 240.0)] == [True, False]
    assert rows["poc.stop_nothing"].holds(1.0) is None


# -- what is shown


def test_what_a_subject_cannot_do_is_a_dash_and_what_it_failed_in_is_named(measured):
    done = run("--from", str(measured))
    assert done.returncode == 1, done.stderr
    lines = {re.split(r" {2,}", line)[0]: re.split(r" {2,}", line) for line in done.stdout.splitlines()}
    assert lines["trivial job, 2 sites, 3 rounds"][1:4] == ["-", "18", "-"]
    assert lines["--help"][1:4] == ["0.200", "0.800", "4"]
    assert lines["100 MB x 2 sites"][1:4] == ["300", "60", "5"]
    assert lines["poc stop, 2 sites"][1:4] == ["-", "failed", "-"]
    assert "nvflare: poc.stop:\nit hangs\nfor ever" in done.stdout


def test_the_page_gets_every_row_and_keeps_what_stands_around_them(bench, measured, page):
    run("--from", str(measured), "--markdown", str(page))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{bench.page.BEGIN}\n")
    assert text.endswith(f"{bench.page.END}\nafter\n")
    assert "old" not in text.splitlines()
    assert [row.what for row in bench.rows.ROWS.values() if f"\n| {row.what} | " not in text] == []
    assert line_of(text, "`--help`") == ["`--help`", "0.200", "0.800", "4", "s", "<= 0.2"]
    assert line_of(text, "`job list`, a server runs")[1:4] == ["-", "-", "-"]
    assert line_of(text, "`poc stop`, 2 sites")[1:4] == ["-", "failed", "-"]


def test_a_page_without_marks_is_left_alone(measured, tmp_path):
    page = tmp_path / "other.md"
    page.write_text("mine\n", encoding="utf-8")
    done = run("--from", str(measured), "--markdown", str(page))
    assert done.returncode == 2
    assert "there is no place for the table" in done.stderr
    assert page.read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--quick",), "--markdown is not for a --quick run"),
        (("--only", "mean"), "--markdown is for whole sections; measure machine tls stream, too"),
    ],
    ids=["quick", "half a section"],
)
def test_half_a_run_is_not_written_into_a_page(page, words, says):
    before = page.read_text(encoding="utf-8")
    done = run(*words, "--markdown", str(page))
    assert done.returncode == 2
    assert says in done.stderr
    assert page.read_text(encoding="utf-8") == before


def test_sections_that_were_measured_by_themselves_leave_the_others_as_they_are(bench, measured, page):
    run("--from", str(measured), "--markdown", str(page))
    before = page.read_text(encoding="utf-8")
    Column, Figure = bench.figures.Column, bench.figures.Figure
    columns = [Column("flpoc", [Figure("simulate.2x3", 0.5)]), Column("flwr", [Figure("simulate.2x3", 15.0)], "Flower")]
    bench.page.write_page(page, columns, {"kind": "only simulate-2", "date": "2026-11-28", "took": "3 s"})
    after = page.read_text(encoding="utf-8")
    assert line_of(after, "trivial job, 2 sites, 3 rounds") == [
        "trivial job, 2 sites, 3 rounds", "0.500", "15", "30", "s", "<= 1",
    ]  # fmt: skip
    assert "Measured by itself: date 2026-11-28.\n" in after
    first, second = (text.partition("### Simulation\n") for text in (before, after))
    assert first[0] == second[0]
    assert first[2].partition("### ")[1:] == second[2].partition("### ")[1:]
    bench.page.write_page(page, columns, {"kind": "only simulate-2", "date": "2026-11-28", "took": "3 s"})
    assert page.read_text(encoding="utf-8") == after


def test_a_section_has_columns_of_those_who_have_something_in_it(bench, measured, page):
    run("--from", str(measured), "--markdown", str(page))
    sections = page.read_text(encoding="utf-8").split("### ")
    named = {one.partition("\n")[0] for one in sections if "| NVFlare 2.9.0 | times better |" in one}
    assert named == {"Commands", "Proof of concept", "Model traffic", "Simulation"}


def test_a_bench_measures_for_real(bench, tmp_path):
    done = run("--quick", "--only", "mean", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    columns, circumstances = bench.figures.read_document(json.loads((tmp_path / "out.json").read_text()))
    assert [(one.subject, [figure.key for figure in one.figures]) for one in columns] == [("flpoc", ["machine.mean"])]
    assert columns[0].value("machine.mean") > 0
    assert circumstances["kind"] == "quick: nothing to publish"


def test_the_documentation_shows_every_row_of_the_table(bench):
    text = PAGE.read_text(encoding="utf-8")
    inside = text.partition(bench.page.BEGIN)[2].partition(bench.page.END)[0]
    assert [row.what for row in bench.rows.ROWS.values() if f"\n| {row.what} | " not in inside] == []
    peers = [one.title for name, one in bench.run.SUBJECTS.items() if name != "flpoc"]
    assert [title for title in peers if f" {title} | times better |" not in inside] == []
