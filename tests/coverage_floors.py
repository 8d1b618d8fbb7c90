"""How much of the code its tests reach: measured while they run, and never less than the floors in `pyproject.toml`.

Measured are the suites that run the code in their own process (`SUITES`). What their child processes run, and what
end-to-end tests reach, is not counted: those start whole stacks, whose every line these suites may reach as well.

`make coverage` measures and compares, `make floors` raises the floors to what is reached. `coverage.json` beside this
file keeps, by file, how many lines were not reached when the floors were last raised: so a run that has sunk says where.
"""

import fnmatch
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from slipcover import Slipcover
from slipcover.importer import FileMatcher, ImportManager

ROOT = Path(__file__).parents[1]
PACKAGE = "services/trade2026/"
SUITES = ("unit", "contract", "integration")
VARIABLE = "COVERAGE_FLOORS"
"""Environment variable: `check` or `raise`; without it nothing is measured."""
SLACK_PERCENT = 0.5
"""Between what is reached and a raised floor: which retry runs, and how often, is up to the machine."""
_FILES_SHOWN = 20
_RECORD = Path(__file__).with_name("coverage.json")


@dataclass(frozen=True)
class File:
    """One file of the package: how many lines it has, and which of them no test has run."""

    lines: int
    missed: list[int]


@dataclass(frozen=True)
class Group:
    """Files that have a floor together: percent of their lines."""

    name: str
    patterns: list[str]
    floor: float

    def of(self, files: dict[str, File]) -> dict[str, File]:
        """Those of the files that belong to it."""
        return {
            path: file
            for path, file in files.items()
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in self.patterns)
        }


def groups() -> list[Group]:
    """The floors, as `pyproject.toml` has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["trade2026"]["coverage"]
    return [Group("pure parts", settings["pure"], settings["pure_floor"]), Group("all", ["*"], settings["all_floor"])]


def percent(files: Iterable[File]) -> float:
    """Of all their lines together; 0 without any."""
    found = list(files)
    lines = sum(file.lines for file in found)
    return 100 * (1 - sum(len(file.missed) for file in found) / lines) if lines else 0.0


def sunk(files: dict[str, File], before: dict[str, int], wanted: Iterable[Group]) -> list[str]:
    """What has sunk below its floor: in which files more is missed than before, and what to do.

    Args:
        before: By file, how many lines were missed when the floors were last raised.
    """
    said: list[str] = []
    for group in wanted:
        chosen = group.of(files)
        if (reached := percent(chosen.values())) >= group.floor:
            continue
        said.append(f"coverage of {group.name} is {reached:.2f} %, the floor is {group.floor} %. Not reached any more:")
        grown = {path: len(file.missed) - before.get(path, 0) for path, file in chosen.items()}
        worst = sorted((path for path, more in grown.items() if more > 0), key=lambda path: -grown[path])
        for path in worst[:_FILES_SHOWN]:
            said.append(f"  {PACKAGE}{path}: {grown[path]} lines more, of {ranges(chosen[path].missed)}")
        said.append("Write tests of what these lines do, or delete what nothing needs; then `make coverage`.")
    return said


def ranges(lines: list[int]) -> str:
    """Line numbers as a person reads them: 3-5, 9."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def raised(text: str, files: dict[str, File], wanted: Iterable[Group]) -> str:
    """`pyproject.toml` with floors at what is reached, less the slack; a floor never sinks."""
    for group in wanted:
        reached = math.floor(10 * (percent(group.of(files).values()) - SLACK_PERCENT)) / 10
        name = f"{group.name.split()[0]}_floor"
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {max(reached, group.floor)}", text)
    return text


@dataclass(frozen=True)
class Part:
    """What one process of a run has seen of it. Several share out the tests with `-n`, and each part goes to the first."""

    whole: bool
    """None of the tests of the measured suites was left out."""
    suites: list[str]
    files: dict[str, File]

    def and_(self, other: "Part") -> "Part":
        """Both together: a line is missed that both have missed."""
        files = dict(self.files)
        for path, file in other.files.items():
            mine = files.get(path, file)
            files[path] = File(file.lines, sorted(set(mine.missed) & set(file.missed)))
        return Part(self.whole and other.whole, sorted({*self.suites, *other.suites}), files)


class Measurement:
    """A plug-in that measures the suites, and lets a run fail that has sunk below a floor.

    Args:
        raises: Write the floors anew instead.
    """

    def __init__(self, raises: bool) -> None:
        self._raises = raises
        # In the bytecode, as it is imported: a trace function would double the time of the tests.
        self._lines = Slipcover(immediate=True, source=[str(ROOT / PACKAGE)])
        ImportManager(self._lines, FileMatcher(sources=[ROOT / PACKAGE])).__enter__()
        self._whole = True
        self._suites: set[str] = set()
        self._others: list[Part] = []
        self.said: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._suites = {_suite(item) for item in items}

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._whole = self._whole and not any(_suite(item) in SUITES for item in items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """One of several processes has ended: take its part, if it came to its end."""
        if (part := getattr(node, "workeroutput", {}).get(VARIABLE)) is not None:
            self._others.append(msgspec.convert(part, Part))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        part = Part(self._whole, sorted(self._suites), measured(self._lines))
        for other in self._others:
            part = part.and_(other)
        if (to_the_first := getattr(session.config, "workeroutput", None)) is not None:
            to_the_first[VARIABLE] = msgspec.to_builtins(part)
        else:
            self._compare(part, session)

    def _compare(self, part: Part, session: pytest.Session) -> None:
        if session.exitstatus != 0 or not part.whole or not set(SUITES) <= set(part.suites):
            self.said = ["coverage is not compared: not every test of the measured suites ran, or one failed"]
            return
        files, wanted = part.files, groups()
        if self._raises:
            project = ROOT / "pyproject.toml"
            project.write_text(raised(project.read_text(), files, wanted))
            missed = {path: len(file.missed) for path, file in sorted(files.items()) if file.missed}
            _RECORD.write_text(json.dumps(missed, indent=1) + "\n")
            wanted = groups()
        else:
            self.said = sunk(files, json.loads(_RECORD.read_text()), wanted)
            if self.said:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for group in wanted:
            reached = percent(group.of(files).values())
            self.said.append(f"coverage of {group.name}: {reached:.2f} %, the floor is {group.floor} %")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.said:
            terminalreporter.line(line)


def _suite(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT / "tests").parts[0]


def measured(lines: Slipcover) -> dict[str, File]:
    """By file below the package, also those that no test has loaded."""
    found: dict[str, Any] = lines.get_coverage()["files"]
    return {
        Path(name).resolve().relative_to(ROOT / PACKAGE).as_posix(): File(
            len(file["executed_lines"]) + len(file["missing_lines"]), file["missing_lines"]
        )
        for name, file in found.items()
    }


def from_environment() -> Measurement | None:
    """What `COVERAGE_FLOORS` asks for; raises `ValueError` for a word that it does not know."""
    word = os.environ.get(VARIABLE, "")
    if word not in ("", "check", "raise"):
        raise ValueError(f"{VARIABLE} is check or raise, not {word!r}")
    return Measurement(word == "raise") if word else None


measurement = from_environment()
"""Begun when this module is imported first of all, before what is to be measured."""
