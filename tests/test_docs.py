"""The pages say what is so: printed pages are current, and what a page names exists."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs import make_cli_page, make_picture, make_reference_pages
from sdwatch.cli import COMMANDS, parser
from sdwatch.cli.shared.exit_codes import ExitCode
from tests.test_structure import ROOT, files_of_the_repository

PAGES = [path for path in files_of_the_repository() if path.suffix == ".md"]
GUARANTEES = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
PROMISES = re.split(r"^## (?=\d)", GUARANTEES, flags=re.MULTILINE)[1:]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_page_of_commands_is_current() -> None:
    stale = "docs/cli.md is stale: python -m docs.make_cli_page"
    assert text_of("docs/cli.md") == make_cli_page.page(), stale


def test_the_page_of_commands_has_every_command_and_exit_code() -> None:
    page = text_of("docs/cli.md")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(COMMANDS)
    rows = re.findall(r"^\| (\d+) \| (\w+) \| \S", page, re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [(c.value, c.name) for c in ExitCode]


def test_the_references_of_jobs_and_of_the_config_are_current() -> None:
    stale = "stale: python -m docs.make_reference_pages"
    assert text_of("docs/job-reference.md") == make_reference_pages.job_page(), stale
    assert text_of("docs/config-reference.md") == make_reference_pages.config_page(), stale


def test_the_references_have_every_field_with_what_it_takes() -> None:
    for page in ("docs/job-reference.md", "docs/config-reference.md"):
        rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text_of(page), re.MULTILINE)
        assert len(rows) > 50
        assert not [name for name, rest in rows if "any value" in rest]
    row_of_four = r"^\| (.*) \| (.*) \| (.*) \| (.*) \|$"
    rows = re.findall(row_of_four, text_of("docs/config-reference.md"), re.MULTILINE)
    assert not [row for row in rows if not row[3] and "a section" not in row[2]]


def test_each_of_the_ten_promises_names_tests_that_exist() -> None:
    assert [int(promise.split(".")[0]) for promise in PROMISES] == list(range(1, 11))
    for promise in PROMISES:
        title, _, self_test = promise.partition("Proved by:")
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", self_test)
        assert named, f"{title.splitlines()[0]} names no test"
        for file, test in named:
            path = ROOT / "tests" / file
            assert path.is_file(), f"docs/guarantees.md names tests/{file}, which does not exist"
            found = not test or re.search(rf"^def {test}\(", path.read_text("utf-8"), re.MULTILINE)
            assert found, f"docs/guarantees.md names {test}, which is not in tests/{file}"


def test_the_readme_has_a_line_for_each_promise() -> None:
    _, _, section = text_of("README.md").partition("## Promises")
    lines = re.findall(r"^(\d+)\. \*\*(.+?)\*\*", section, re.MULTILINE)
    titles = [re.match(r"(\d+)\. (.+)", promise) for promise in PROMISES]
    expected = [(title[1], title[2]) for title in titles if title]
    assert [(number, line.rstrip(".")) for number, line in lines] == expected


def test_the_readme_is_short() -> None:
    prose = re.sub(r"```.*?```", "", text_of("README.md"), flags=re.DOTALL)
    assert len(prose.split()) < 700, "move what is not needed at the front door to docs/"


def test_the_readmes_excerpt_is_of_the_recorded_explanation() -> None:
    why = " ".join(text_of("docs/WHY.txt").split())
    excerpt = re.search(r"`WHY\.txt`:\n\n```\n(.+?)\n```", text_of("README.md"), re.DOTALL)
    assert excerpt is not None
    for part in re.split(r"…|\n\n", excerpt[1]):
        shown = " ".join(part.split()).rstrip(")")
        assert shown in why, "python -m docs.make_picture, then copy the lines"


def test_the_picture_is_drawn_from_the_recording() -> None:
    drawn = make_picture.picture(make_picture.Recording.load(make_picture.RECORDING))
    assert make_picture.PICTURE.read_text("utf-8") == drawn, "python -m docs.make_picture"


def test_the_picture_is_small_and_needs_nothing_from_elsewhere() -> None:
    """A page that shows it runs no script and fetches nothing."""
    text = make_picture.PICTURE.read_text("utf-8")
    assert len(text) < 20_000
    tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(text).iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "circle", "text", "tspan", "g"}
    assert "url(" not in text
    assert "href" not in text
    assert "prefers-reduced-motion" in text


def test_the_recording_is_of_a_demo_that_kept_its_promise() -> None:
    recording = make_picture.Recording.load(make_picture.RECORDING)
    ends = {job.name: job.outcome for job in recording.jobs}
    assert ends == {"castle": "done", "lighthouse": "done", "mistake": "failed"}
    assert recording.working < recording.crash < recording.again < recording.seconds


def test_the_list_of_decisions_names_each_with_its_title_and_date() -> None:
    folder = ROOT / "docs/decisions"
    rows = re.findall(
        r"^\| (\d+) \| \[(.+)\]\((\S+)\) \| (\S+) \|$",
        text_of("docs/decisions/README.md"),
        re.MULTILINE,
    )
    files = sorted(p.name for p in folder.glob("[0-9]*.md"))
    assert [name for _, _, name, _ in rows] == files
    for position, (number, title, name, date) in enumerate(rows, 1):
        text = text_of(f"docs/decisions/{name}")
        assert name.startswith(f"{position:03d}-")
        assert text.startswith(f"# {number}. {title}\n\nDate: {date}")
        parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "Instead of"], name


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}"


# -- commands in the pages

_PROGRAMS = (r"(?:\.venv[\\/](?:bin|Scripts)[\\/])?sdwatch", "uv run sdwatch", r'sudo "\$\(.*?\)"')
_COMMAND = re.compile(rf"(?:^ *|&& |; |exec .*?)(?:{'|'.join(_PROGRAMS)}) ([a-z].*)")
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[str]:
    """The commands that a page shows, in blocks and between backticks, without `sdwatch`. A single
    word, as in `sdwatch retry`, names a command and is none."""
    text = page.read_text("utf-8")
    lines = [line for block in _FENCE.findall(text) for line in block.splitlines()]
    shown = [*lines, *re.findall(r"`([^`]+)`", _FENCE.sub("", text))]
    found = []
    for line in shown:
        for words in _COMMAND.findall(" ".join(line.split("\n"))):
            # After two blanks and behind # comes what it does.
            found.append(re.split(r"\s{2,}| #|; | && | 2?> ?| >> | \| ", words)[0].rstrip(" .,:"))
    return [command for command in found if command not in COMMANDS]


def as_typed(command: str) -> list[str]:
    """A command of a page as words: of what it leaves open, an example."""
    command = command.replace("…", "x").replace("...", "x")
    words = shlex.split(command.replace("\\", "/"))
    words = [re.sub(r"^\[|\]$", "", word) for word in words]
    example = {
        "SHELL": "bash",
        "TIME": "12 h",
        "DIAGNOSIS": "crash",
        "URL": "http://127.0.0.1:7860",
    }
    return [example.get(word, word.partition("|")[0]) for word in words]


def mistake_in(command: str) -> str:
    """What the real parser says against a command; "" for nothing."""
    said = io.StringIO()
    try:
        words = as_typed(command)
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser(*words[:1]).parse_args(words)
    except ValueError as error:
        return f"{command}: {error}"
    except SystemExit as end:
        return "" if end.code == 0 else said.getvalue()
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_command_of_a_page_is_one_of_ours(page: Path) -> None:
    if page.is_relative_to(ROOT / "docs/decisions") or page.name in ("CHANGELOG.md", "cli.md"):
        return  # they say what was so; it is printed from the parser
    mistakes = [mistake for command in commands_of(page) if (mistake := mistake_in(command))]
    assert mistakes == []


def test_the_commands_of_the_pages_are_found_and_mistakes_in_them_too() -> None:
    first_night = commands_of(ROOT / "docs/first-night.md")
    named = {command.split()[0] for command in first_night}
    assert {"submit", "status", "show", "logs", "retry", "init"} <= named
    assert 'list --since "12 h" --state failed' in first_night
    assert mistake_in("list --nonsense")
    assert mistake_in("frobnicate now")
    assert not mistake_in("retry RUN")
