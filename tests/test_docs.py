"""The README and docs say what is so: every block is run, and what users meet is described."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import attrs
import engine as engines
import pytest

from flpoc import hookspecs
from flpoc.jobs.folder import read_job
from flpoc.settings import read_file

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
#: Blocks that cannot be run here; each says why, in a comment before it.
MOST_NOT_RUN = 2
#: Pages for which there must be a Docker engine.
WITH_ENGINE = (DOCS / "how-to" / "run-in-docker.md",)
#: Languages that are run, or written to the file that the line before names.
RUN = ("bash", "console", "python", "hocon", "toml", "yaml")
#: Languages of blocks that are run as they stand.
SHELL = ("bash", "console", "python")

_MARK = "\x1e"


@attrs.frozen
class Block:
    """A fenced block of a page.

    Attributes:
        language: What follows the fence.
        text: Its lines.
        line: Number of its first line in the page.
        file: The file that the text before it names, if it ends with one; empty otherwise.
        excuse: Why it is not run; empty if it is.
    """

    language: str
    text: str
    line: int
    file: str
    excuse: str


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start = 0
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if not start:
            start = number + 1
            continue
        before = [one for one in lines[: start - 1] if one]
        last = before[-1] if before else ""
        language = lines[start - 1].removeprefix("```")
        named = re.search(r"`([^`]+)`:$", last) if language not in ("bash", "console") else None
        excuse = re.fullmatch(r"<!-- not run: (.+) -->", last)
        yield Block(
            language,
            "\n".join(lines[start:number]) + "\n",
            start + 1,
            named.group(1) if named else "",
            excuse.group(1) if excuse else "",
        )
        start = 0


# -- running a page


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Somebody with an empty home and working folder, and an environment with flpoc that they may change."""
    for name in ("home", "here", "temporary"):
        (tmp_path / name).mkdir()
    programs = make_environment(tmp_path / "venv")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLPOC_STARTUP", "FLPOC_CONFIG"))}
    environment = {
        **kept,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "FLPOC_POC_WORKSPACE": str(tmp_path / "poc"),
        "COLUMNS": "200",
        # packages are made of what is there, nothing is fetched
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_DEPS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    yield environment
    for workspace in [one.parent for one in tmp_path.rglob("project.yml") if (one.parent / "state").is_dir()]:
        more = {**environment, "FLPOC_POC_WORKSPACE": str(workspace)}
        subprocess.run(["flpoc", "poc", "clean", "--force"], env=more, check=False, capture_output=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[engines.Engine]:
    """A Docker engine that has the official image of this Python: another with the same interpreter, under its name."""
    with engines.engine_for_tests() as found:
        found.api.tag(engines.BASE, "python", f"{sys.version_info.major}.{sys.version_info.minor}-slim")
        yield found


def make_environment(folder: Path) -> Path:
    """An environment on top of this interpreter's; gives the folder with its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    ours = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "lib" / version / "site-packages" / "ours.pth").write_text(ours, encoding="utf-8")
    program = folder / "bin" / "flpoc"
    program.write_text(f"#!{python}\nimport sys\nfrom flpoc.cli.main import main\nsys.exit(main())\n", encoding="utf-8")
    program.chmod(0o755)
    return folder / "bin"


#: Remembers the job that was submitted last, which pages call JOB_ID.
_PROLOGUE = r"""
set -euo pipefail
flpoc() {
    case "$*" in
        "job submit "*) ;;
        *) command flpoc "$@"; return ;;
    esac
    command flpoc "$@" > "$TMPDIR/said"
    cat "$TMPDIR/said"
    JOB_ID=$(sed -n 's/^Submitted.*: //p' "$TMPDIR/said")
}
"""


def script_of(found: list[Block]) -> str:
    """One shell script that does what the page says; it prints the number of each step before it."""
    parts = [_PROLOGUE]
    for number, block in enumerate(found):
        parts.append(f"printf '{_MARK}%s\\n' {number}\n")
        text = re.sub(r"\bJOB_ID\b", "$JOB_ID", block.text) if block.language in ("bash", "console") else block.text
        if block.file:
            path = block.file.replace("~", "$HOME", 1) if block.file.startswith("~") else block.file
            parts.append(f'mkdir -p "$(dirname "{path}")"\ncat > "{path}" <<\'END OF BLOCK\'\n{text}END OF BLOCK\n')
        elif block.language == "bash":
            parts.append(text)
        elif block.language == "python":
            parts.append(f"python - <<'END OF BLOCK'\n{text}END OF BLOCK\n")
        elif block.language == "console":
            commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
            steps = [f"{command}\nprintf '{_MARK}$\\n'\n" for command in commands]
            parts += ["set +e\n", *steps, "set -e\n"]
    return "".join(parts)


def expected(block: Block) -> str:
    """A pattern for what the commands of a console block print; ``...`` is anything."""
    parts = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            parts.append(f"{_MARK}\\$\n" if parts else "")
        elif line == "...":
            parts.append("(?:.*\n)*?")
        else:
            parts.append(re.escape(line).replace(r"\.\.\.", ".*") + "\n")
    return "".join([*parts, f"{_MARK}\\$\n"])


def pages_with(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(one.language in languages and not one.excuse for one in blocks(page))]


@pytest.mark.parametrize(
    "page", sorted({*pages_with(*SHELL)} - {*WITH_ENGINE}), ids=lambda page: str(page.relative_to(ROOT))
)
@pytest.mark.timeout(500)
def test_what_a_page_says_works(page, reader, tmp_path):
    run_page(page, reader, tmp_path, 400)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", WITH_ENGINE, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_works_on_a_docker_engine(page, engine, reader, tmp_path):
    run_page(page, {**reader, "DOCKER_HOST": engine.address}, tmp_path, 400)
    assert engine.api.containers(all=True) == []


def run_page(page, reader, tmp_path, seconds):
    found = [one for one in blocks(page) if not one.excuse and (one.file or one.language in SHELL)]
    (tmp_path / "page.sh").write_text(script_of(found), encoding="utf-8")
    done = subprocess.run(
        ["bash", str(tmp_path / "page.sh")],
        cwd=tmp_path / "here",
        env=reader,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    steps = re.findall(rf"{_MARK}\d+\n(.*?)(?={_MARK}\d+\n|\Z)", done.stdout, re.DOTALL)
    for block, said in zip(found, steps, strict=False):  # the last may not have been reached
        wanted = expected(block) if block.language == "console" else "(.|\n)*"
        assert re.fullmatch(wanted, said), f"{page.name}, line {block.line}: it says\n{said}"
    assert done.returncode == 0, f"{page.name}, line {found[len(steps) - 1].line}:\n{steps[-1][-3000:]}"


@pytest.mark.parametrize("page", pages_with("hocon"), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_job_file_shown_is_one(page, tmp_path):
    for number, block in enumerate(
        one
        for one in blocks(page)
        if one.language == "hocon" and Path(one.file).name not in ("config.conf", "info.conf")
    ):
        folder = tmp_path / str(number)
        (folder / "code").mkdir(parents=True)
        for name in ("train.py", "train_small.py", "start.safetensors"):
            (folder / "code" / name).touch()
        (folder / "job.conf").write_text(block.text, encoding="utf-8")
        given = read_file(folder / "job.conf")
        missing = [] if "name" in given else ["name = shown"]
        missing += [] if "script" in given or "scripts" in given else ["script = train.py"]
        (folder / "job.conf").write_text("\n".join([*missing, block.text]), encoding="utf-8")
        read_job(folder)


def test_every_key_of_the_job_file_is_explained_by_an_example():
    from flpoc.jobs.spec import JobSpec, ScriptSpec, TimeoutSpec

    shown = "".join(one.text for one in blocks(DOCS / "how-to" / "write-a-job.md") if one.language == "hocon")
    keys = [field.name for cls in (JobSpec, ScriptSpec, TimeoutSpec) for field in attrs.fields(cls)]
    assert [key for key in keys if not re.search(rf"\b{key}\b", shown)] == []


def test_few_blocks_are_not_run():
    excused = [f"{page.name}:{one.line}: {one.excuse}" for page in PAGES for one in blocks(page) if one.excuse]
    assert len(excused) <= MOST_NOT_RUN, excused


def test_every_block_says_its_language():
    known = {*RUN, "text"}
    wrong = [
        f"{page.relative_to(ROOT)}:{one.line}: {one.language!r}"
        for page in PAGES
        for one in blocks(page)
        if one.language not in known or (one.language in ("toml", "yaml") and not (one.file or one.excuse))
    ]
    assert wrong == []


def test_every_link_leads_somewhere():
    wrong = []
    for page in [*PAGES, *sorted(ROOT.glob("plugins/*/README.md")), ROOT / "core" / "README.md", ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert wrong == []


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_text_of_a_terminal_becomes_a_picture():
    shown = "\x1b[1mJOB ID\x1b[0m  STATUS\n\x1b[2m------\x1b[0m\n12 <&>  \x1b[32mFINISHED\x1b[39m\n"
    done = subprocess.run(
        [sys.executable, str(DOCS / "images" / "terminal.py"), "A list"],
        input=shown, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    import xml.etree.ElementTree as Xml

    texts = {one.text: one.attrib for one in Xml.fromstring(done.stdout).iter("{http://www.w3.org/2000/svg}text")}
    assert list(texts) == ["JOB ID", "STATUS", "------", "12 <&>", "FINISHED"]
    assert texts["JOB ID"]["font-weight"] == "bold"
    assert texts["STATUS"]["x"] == texts["FINISHED"]["x"]
    assert "fill" in texts["FINISHED"]
    assert "opacity" in texts["------"]


def test_pictures_fetch_nothing_and_say_what_they_show():
    pictures = [one.read_text(encoding="utf-8") for one in (DOCS / "images").glob("*.svg")]
    assert pictures
    for one in pictures:
        assert "<title>" in one
        assert re.findall(r"https?://[^\s\"']+", one) == ["http://www.w3.org/2000/svg"]


# -- what users meet is described


def reference(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def test_the_reference_is_what_the_source_says():
    done = subprocess.run(
        [sys.executable, str(DOCS / "reference" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_hook_is_described():
    hooks = [name for name in vars(hookspecs) if name.startswith("flpoc_")]
    assert [name for name in hooks if f"### {name}\n" not in reference("hooks.md")] == []


def test_every_command_and_option_is_described():
    page = reference("commands.md")
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import click, generate
print(json.dumps({path: [name for one in command.params for name in (*one.opts, *one.secondary_opts)]
                  for path, command in generate.command_tree()}))
"""
    argv = [sys.executable, "-c", code, str(DOCS / "reference")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    tree = json.loads(done.stdout)
    assert len(tree) > 10
    for path, names in tree.items():
        assert f"## {path}\n" in page, path
        section = page.partition(f"## {path}\n")[2].partition("\n## ")[0]
        assert [f"{path} {name}" for name in names if f"`{name}`" not in section] == []


def test_every_setting_is_described():
    import ast

    page = reference("settings.md")
    sources = [ROOT / "core" / "src", *ROOT.glob("plugins/*/src")]
    found = [
        (node.name, item.target.id)
        for folder in sources
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings") and not node.name.startswith("_")
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    assert [f"{cls}.{name}" for cls, name in found if f"`{name}`" not in page] == []


def test_every_environment_variable_is_described():
    sources = [path for folder in (ROOT / "core" / "src", *ROOT.glob("plugins/*/src")) for path in folder.rglob("*.py")]
    used = {name for path in sources for name in re.findall(r"\"(FLPOC_[A-Z_]+)\"", path.read_text(encoding="utf-8"))}
    known = {"FLPOC_API", "FLPOC_SUITE_LEAK"}  # a constant of plugins, and a variable of a suite's own test
    page = reference("files-and-environment.md")
    assert [name for name in sorted(used - known) if f"`{name}`" not in page] == []
