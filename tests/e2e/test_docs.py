"""Every command in the pages works as written, one page after the other in the order of the README, on one state.

A page must leave things so that the next works, and must not count on being the first.

A fenced `sh` block is run; if a `text` block follows, its lines must come in the output in that order, with anything
where `…` stands, and any amount of space. A comment before the block may say how:

    <!-- test: skip -->    is not run: it needs what a test has not
    <!-- test: detach -->  runs until it is stopped; the test starts it in the background
    <!-- test: until -->   is asked again until its output is as expected: what it shows takes a moment

What a test changes: every port is moved by an offset that is free, in the commands and in what is expected.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.stack import ROOT, environment, wait_for
from tests.e2e.stack import QUICKSTART, WAIT_SECONDS, free_port_offset

from trade2026.stack.facts import SERVICES, ports_of

README = ROOT / "README.md"
GUIDES = {
    path for place in ("docs/tutorial*.md", "docs/tutorial/*.md", "docs/how-to/*.md") for path in ROOT.glob(place)
}
PAGES = [
    README,
    *(page for link in re.findall(r"\]\((docs/[\w/-]+\.md)\)", README.read_text()) if (page := ROOT / link) in GUIDES),
]
_BLOCK = re.compile(
    r"(?:<!-- test: (?P<how>\w+) -->\n)?^```sh\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_PORT = re.compile(rf"\b({'|'.join(str(port) for name in SERVICES for port in ports_of(name).values())})\b")
_BLOCK_SECONDS_MAX = 240
# What a command would leave behind is taken along to the next block: variables and the working directory.
_SCRIPT = """set -eo pipefail; set -a
[ ! -f {memory}/variables ] || . {memory}/variables
[ ! -f {memory}/folder ] || cd "$(cat {memory}/folder)"
{code}
export -p > {memory}/variables; pwd > {memory}/folder
"""


@dataclass
class Block:
    """Commands of a page, how to run them, and what they must print."""

    line: int
    code: str
    how: str
    output: str


def blocks(text: str) -> Iterator[Block]:
    """Every `sh` block of a page."""
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        yield Block(line, match["code"], match["how"] or "", match["output"] or "")


def missing(expected: str, printed: str) -> str:
    """The first expected line that was not printed after those before it; empty if all were."""
    rest = " ".join(printed.split())
    for line in expected.splitlines():
        parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
        found = re.search(r".*?".join(parts), rest)
        if found is None:
            return line
        rest = rest[found.end() :]
    return ""


class Folder:
    """A clone as a newcomer has it after `make up` has installed everything, and a shell in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.memory = path / "trade2026", path / "memory"
        self.path.mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements", "manifests", "services", "README.md"):
            (self.path / name).symlink_to(ROOT / name)
        self._install()
        self.offset, self._claim = free_port_offset(QUICKSTART)

    def _install(self) -> None:
        """What `make up` leaves behind. Not the environment of these tests itself: `make` could install into it."""
        programs = self.path / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in (("python", ""), ("python3", ""), ("pytest", "-m pytest"), ("trade2026", "-m trade2026")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            (programs / name).chmod(0o755)
        for stamp in (".base", ".dev"):
            (self.path / ".venv" / stamp).touch()

    def moved(self, text: str) -> str:
        """The same with every port moved."""
        text = _PORT.sub(lambda port: str(int(port[1]) + self.offset), text)
        text = re.sub(r"--port-offset (\d+)", lambda option: f"--port-offset {int(option[1]) + self.offset}", text)
        return re.sub(
            r"(trade2026 (?:up|plan|doctor) (?:(?!--port-offset).)*?)$",
            rf"\1 --port-offset {self.offset}",
            text,
            flags=re.MULTILINE,
        )

    def run(self, block: Block) -> "subprocess.CompletedProcess[str]":
        """Run a block; standard error is part of what it prints."""
        code = self.moved(re.sub(r" +# .*$", "", block.code, flags=re.MULTILINE))
        flags = f"--port-offset {self.offset}"
        if block.how == "detach":
            code = re.sub(r"^(.*trade2026 up .*)$", r"\1 --detach", code, flags=re.MULTILINE)
            flags += " --detach"
        return subprocess.run(
            [
                "bash",
                "-c",
                _SCRIPT.format(memory=self.memory, code=re.sub(r"UP_FLAGS=(\S+)", rf'UP_FLAGS="\1 {flags}"', code)),
            ],
            cwd=self.path,
            env=environment() | {"UP_FLAGS": flags, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BLOCK_SECONDS_MAX,
        )

    def open_terminal(self) -> None:
        """Forget the variables and the working directory of the page before."""
        shutil.rmtree(self.memory, ignore_errors=True)
        self.memory.mkdir()

    def stop(self) -> None:
        """Stop every stack that a page has left running."""
        for state in self.path.glob("**/.trade2026/*"):
            subprocess.run(
                [sys.executable, "-m", "trade2026", "down", "--state-dir", str(state)],
                cwd=ROOT,
                env=environment(),
                capture_output=True,
                timeout=_BLOCK_SECONDS_MAX,
            )

    def close(self) -> None:
        """Stop what still runs, and let go of the ports."""
        self.stop()
        self._claim.close()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """The folder of all pages."""
    made = Folder(tmp_path_factory.mktemp("clone"))
    yield made
    made.close()


@pytest.fixture
def folder(clone: Folder, request: pytest.FixtureRequest) -> Iterator[Folder]:
    """The folder of all pages as one reads on, in a new terminal."""
    clone.open_terminal()
    failed = request.session.testsfailed
    yield clone
    if request.session.testsfailed > failed:
        clone.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_the_page_works_as_written(page: Path, folder: Folder) -> None:
    found = [block for block in blocks(page.read_text()) if block.how != "skip"]
    for block in found:
        expected, place = folder.moved(block.output), f"{page.relative_to(ROOT)}:{block.line}"
        if block.how == "until":
            wait_for(
                f"{place} prints what it should",
                lambda block=block, expected=expected: not missing(expected, folder.run(block).stdout),
                WAIT_SECONDS,
            )
            continue
        done = folder.run(block)
        assert done.returncode == 0, f"{place} ended with {done.returncode}:\n{block.code}\n{done.stdout}"
        lost = missing(expected, done.stdout)
        assert not lost, f"{place} did not print {lost!r} but:\n{done.stdout}"


def test_the_readme_names_every_guide_so_that_each_is_tried_in_its_place() -> None:
    assert len(PAGES) == len(set(PAGES))
    assert set(PAGES) == {README, *GUIDES}


def test_a_page_is_read_with_its_directives_and_outputs() -> None:
    text = "<!-- test: until -->\n```sh\na\n```\n\n```text\nx … z\n```\n\n```sh\nb\n```\n\nText.\n\n```text\nno\n```\n"
    first, second = blocks(text)
    assert (first.code, first.how, first.output, first.line) == ("a\n", "until", "x … z\n", 3)
    assert (second.code, second.how, second.output) == ("b\n", "", "")


def test_outputs_are_compared_line_by_line_with_anything_where_an_ellipsis_stands() -> None:
    assert missing("a … c\nd", "a  b c\n d") == ""
    assert missing("d\na", "a\nd") == "a"
    assert missing("a.c", "abc") == "a.c"
