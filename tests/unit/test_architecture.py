"""Dependencies point down, and files stay small: held by reading every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = sorted(
    path.relative_to(ROOT)
    for folder in ("contracts", "worker")
    for path in (ROOT / folder).rglob("*.py")
)
TESTS: Final = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))

MONGODB_DRIVERS: Final = {"motor", "pymongo", "bson", "gridfs"}
RABBITMQ_CLIENTS: Final = {"aio_pika", "aiormq", "pamqp"}
DRIVERS: Final = MONGODB_DRIVERS | RABBITMQ_CLIENTS

LEVELS: Final = (
    {"contracts", "worker.errors", "worker.redaction"},
    {"worker.rules", "worker.settings", "worker.logs"},
    {"worker.broker", "worker.store"},
    {"worker.service"},
    {"worker.commands"},
    {"worker.devtools"},
    {"worker.cli"},
    {"worker.__main__"},
)
"""From the bottom to the top: a room imports itself and rooms further down, nothing else."""

LINES_MAX: Final = 300
FUNCTION_LINES_MAX: Final = 40
TEST_NAME_CHARACTERS_MAX: Final = 62
FUNCTION: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """``worker.store.documents`` is in the room ``worker.store``; the contracts are one room."""
    parts = module.split(".")
    return parts[0] if parts[0] == "contracts" else ".".join(parts[:2])


def level_of(room: str) -> int:
    levels = [level for level, rooms in enumerate(LEVELS) if room in rooms]
    assert levels, f"LEVELS does not say how high {room} stands"
    return levels[0]


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a file imports, also inside functions and for types only."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield node.module
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if node.module == "worker"
            )


def roots_of(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports_of(path)}


def every(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=str)


@every(SOURCES)
def test_nothing_imports_upwards(path: Path) -> None:
    here = room_of(module_of(path))
    if here == "worker":
        assert not [module for module in imports_of(path) if module.startswith("worker.")]
        return
    for module in imports_of(path):
        there = room_of(module)
        if there.partition(".")[0] in {"worker", "contracts"} and there not in {here, "worker"}:
            assert level_of(there) < level_of(here), f"{here} imports {there}"


@every([path for path in SOURCES if path.parts[0] == "contracts"])
def test_the_contracts_know_neither_the_worker_nor_a_driver(path: Path) -> None:
    assert not roots_of(path) & (DRIVERS | {"worker", "tenacity", "pydantic_settings"})


@every([path for path in SOURCES if path.parts[:2] != ("worker", "store")])
def test_only_the_store_imports_the_driver_of_mongodb(path: Path) -> None:
    allowed = {"pymongo"} if path.parts[:2] == ("worker", "devtools") else set[str]()
    assert roots_of(path) & MONGODB_DRIVERS <= allowed


@every([path for path in SOURCES if path.parts[:2] != ("worker", "broker")])
def test_only_the_broker_imports_the_client_of_rabbitmq(path: Path) -> None:
    assert not roots_of(path) & RABBITMQ_CLIENTS


@every([path for path in SOURCES if path.parts[:2] in {("worker", "store"), ("worker", "broker")}])
def test_store_and_broker_do_not_know_each_other(path: Path) -> None:
    other = "worker.broker" if path.parts[1] == "store" else "worker.store"
    assert not [module for module in imports_of(path) if module.startswith(other)]


@every([path for path in SOURCES if path.parts[:2] == ("worker", "rules")])
def test_the_rules_import_the_contracts_and_nothing_else_of_ours(path: Path) -> None:
    ours = [m for m in imports_of(path) if m.partition(".")[0] in {"worker", "contracts"}]
    assert not [m for m in ours if not m.startswith(("contracts", "worker.rules"))]


MAY_IMPORT_DEVTOOLS: Final = {("worker", "devtools"), ("worker", "cli.py")}


@every([path for path in SOURCES if path.parts[:2] not in MAY_IMPORT_DEVTOOLS])
def test_only_the_command_line_imports_the_development_tools(path: Path) -> None:
    assert not [module for module in imports_of(path) if module.startswith("worker.devtools")]


def test_no_two_modules_of_the_worker_have_the_same_file_name() -> None:
    names = Counter(path.name for path in SOURCES if path.parts[0] == "worker")
    assert [name for name, count in names.items() if count > 1] == ["__init__.py"]


SERVICE_WITHOUT_DRIVERS: Final = ("announcement", "contention", "pipeline", "recording")
VALUES_OF_THE_BROKER: Final = ("worker.broker.messages", "worker.broker.reply_address")


@pytest.mark.parametrize("name", SERVICE_WITHOUT_DRIVERS)
def test_the_service_knows_no_driver_and_no_module_that_does(name: str) -> None:
    path = Path("worker/service") / f"{name}.py"
    assert not roots_of(path) & DRIVERS
    rooms = [m for m in imports_of(path) if m.startswith(("worker.store", "worker.broker"))]
    assert not [m for m in rooms if not m.startswith(VALUES_OF_THE_BROKER)]


def test_the_decision_does_no_io_and_knows_no_clock() -> None:
    modules = set(imports_of(Path("worker/rules/decision.py")))
    assert not modules & {"asyncio", "time", "random", "logging", "os", "socket", "tenacity"}
    assert ".now(" not in (ROOT / "worker/rules/decision.py").read_text()


def test_importing_the_contracts_loads_no_driver_and_no_worker() -> None:
    heavy = ("pymongo", "motor", "bson", "aio_pika", "aiormq", "worker", "pydantic_settings")
    program = f"import contracts, sys; print([m for m in {heavy!r} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_the_help_of_the_command_loads_no_driver() -> None:
    program = (
        "import sys\nfrom worker.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('pymongo', 'motor', 'aiormq', 'rich') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.splitlines()[-1] == "[]"


@every(SOURCES + TESTS)
def test_a_file_has_a_docstring_and_no_more_than_300_lines(path: Path) -> None:
    text = (ROOT / path).read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is for"
    assert len(text.splitlines()) <= LINES_MAX


@every(SOURCES + TESTS)
def test_a_function_has_no_more_than_40_lines(path: Path) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, FUNCTION) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            documented = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
            assert lines - ((documented or node.lineno) - node.lineno) <= FUNCTION_LINES_MAX, (
                node.name
            )


@every([path for path in SOURCES if path.name == "__init__.py" and len(path.parts) > 2])
def test_a_package_says_what_it_refuses_to_know(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    assert "refuses" in docstring.lower()


@every(TESTS)
def test_the_name_of_a_test_has_no_more_than_62_characters(path: Path) -> None:
    functions = ast.walk(ast.parse((ROOT / path).read_text()))
    names = [node.name for node in functions if isinstance(node, FUNCTION)]
    tests = [name for name in names if name.startswith("test_")]
    assert [name for name in tests if len(name) > TEST_NAME_CHARACTERS_MAX] == []
