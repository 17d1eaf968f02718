"""The README, the pages of docs and the changelog: short where they must be, and true.

No link leads nowhere, no file that is named is missing, no setting and no command is left out, and
the drawing of the layers shows what the code imports. What can be pasted from the pages is tested
by ``tests/acceptance/test_readme.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from tests.unit.test_architecture import SOURCES, imports_of, module_of, room_of
from worker.cli import main
from worker.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
ARCHITECTURE: Final = ROOT / "docs/architecture.md"
CHAPTERS: Final = sorted((ROOT / "docs").glob("*.md"))
PAGES: Final = [README, *CHAPTERS, ROOT / "CHANGELOG.md"]

README_BYTES_MAX: Final = 8000
"""What somebody with five minutes can read."""

FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_SPAN: Final = re.compile(r"`([^`\n]+)`")
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
OUTSIDE: Final = re.compile(r"[a-z]+:")

FOLDERS: Final = ("worker", "contracts", "tests", "docs", ".ci")
FILE: Final = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*")
FILE_OF_THE_ROOT: Final = re.compile(r"[\w-]+\.(?:md|toml|txt|yml)|Dockerfile|Makefile")
NAME_IN_A_FILE: Final = re.compile(r"`([\w/]+\.py)`, `(\w+)`")
"""As in ``worker/rules/decision.py``, ``decide``."""

NODE: Final = re.compile(r'(\w+)\["<b>(\w+)</b>(?:<br>([\w, ]+))?"\]')
ARROW: Final = re.compile(r"(\w+(?: & \w+)*) --> (\w+(?: & \w+)*)")
LAYOUT: Final = re.compile(r"%%\{.*\}%%|flowchart TD|subgraph .*|end|.* ~~~ .*")

Arrow = tuple[str, str]

every_page: Final = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What each heading can be linked by: lower case, without punctuation, a hyphen a space."""
    titles = (title.replace("`", "").lower() for title in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}


def named_files(page: Path) -> set[str]:
    spans = CODE_SPAN.findall(prose(page))
    return {span for span in spans if FILE.fullmatch(span) or FILE_OF_THE_ROOT.fullmatch(span)}


def drawn_arrows(drawing: str) -> set[Arrow]:
    """The arrows of a drawing, and those to what the second lines of its boxes name."""
    names: dict[str, str] = {}
    arrows: set[Arrow] = set()
    for line in filter(None, map(str.strip, drawing.splitlines())):
        if node := NODE.fullmatch(line):
            names[node[1]] = node[2]
            arrows |= {(node[2], room) for room in (node[3] or "").split(", ") if room}
        elif arrow := ARROW.fullmatch(line):
            pairs = product(arrow[1].split(" & "), arrow[2].split(" & "))
            arrows |= {(names.get(one, one), names.get(other, other)) for one, other in pairs}
        else:
            assert LAYOUT.fullmatch(line), f"the drawing has a line that no test reads: {line}"
    return arrows


def imported_arrows() -> Iterator[Arrow]:
    """From room to room, as the code imports them."""
    for path in SOURCES:
        here = room_of(module_of(path))
        for there in map(room_of, imports_of(path)):
            if there.partition(".")[0] in {"worker", "contracts"} and there not in {here, "worker"}:
                yield here.removeprefix("worker."), there.removeprefix("worker.")


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= README_BYTES_MAX


@every_page
def test_no_link_leads_nowhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if OUTSIDE.match(target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


@every_page
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    missing = [name for name in sorted(named_files(page)) if not any(ROOT.glob(name))]
    assert missing == []


@every_page
def test_every_name_beside_a_file_is_in_that_file(page: Path) -> None:
    for file, name in NAME_IN_A_FILE.findall(prose(page)):
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), f"{name} is not in {file}"


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.name)
def test_a_page_opens_with_a_sentence_that_says_for_whom(page: Path) -> None:
    title, opening, *_ = page.read_text().split("\n\n")
    assert title.startswith("# ")
    assert re.fullmatch(r"For [^.]+\.", opening)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page: Path) -> None:
    assert f"docs/{page.name}" in LINK.findall(prose(README))


def test_the_settings_that_are_described_are_those_there_are() -> None:
    rows = re.findall(
        rf"^\| `{PREFIX}(\w+)` \|", (ROOT / "docs/operating.md").read_text(), re.MULTILINE
    )
    assert [row.lower() for row in rows] == list(Settings.model_fields)


def test_the_commands_that_are_described_are_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    rows = re.findall(r"^\| `([a-z-]+)", (ROOT / "docs/commands.md").read_text(), re.MULTILINE)
    assert {"run", "audit"} <= commands <= set(rows)


def test_the_drawing_shows_what_the_code_imports() -> None:
    (drawing,) = (text for kind, text in FENCED.findall(ARCHITECTURE.read_text()) if kind)
    drawn, imported = drawn_arrows(drawing), set(imported_arrows())
    assert sorted(imported - drawn) == [], "imported, but not in the drawing"
    assert sorted(drawn - imported) == [], "in the drawing, but not imported"


def test_a_drawing_is_read_with_its_names_and_second_lines() -> None:
    drawing = (
        'flowchart TD\n    main["<b>__main__</b><br>errors, logs"]\n    main & cli --> rules\n'
    )
    assert drawn_arrows(drawing) == {
        ("__main__", "errors"),
        ("__main__", "logs"),
        ("__main__", "rules"),
        ("cli", "rules"),
    }
