"""Stacks for end-to-end tests. A failing test shows the ends of the logs of every stack that is up."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import stack as stacks
from tests.e2e.stack import QUIET, Stack

MakeStack = Callable[..., Stack]
_TIMEOUT_SECONDS = 600
_LONGEST = ("test_docs.py", "test_strategies.py", "test_crash.py")
"""Files of minutes: begun last, one process would work on one of them long after the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes start, die and recover here: a test has longer than a unit test. The longest files come first."""
    here = Path(__file__).parent
    items.sort(key=lambda item: here in item.path.parents and 1 + (item.path.name not in _LONGEST))
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Attach logs to the report of a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for stack in stacks.running:
            report.sections.append((f"logs of the stack in {stack.state_dir}", stack.logs(lines=40)))


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The quickstart's stack, shared by tests that leave it as they found it: each uses an account of its own."""
    stack = Stack(QUIET, tmp_path_factory.mktemp("shared") / "state")
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[MakeStack]:
    """Make stacks that are up, of this test only: `make_stack()` is the quickstart without its strategies.

    `make_stack(text=…)` runs another manifest, `services=[…]` only a part, `state_dir=…` an earlier state.
    """
    made: list[Stack] = []

    def make(manifest: Path = QUIET, *, text: str = "", state_dir: Path | None = None, **options: Any) -> Stack:
        if text:
            manifest = tmp_path / f"manifest{len(made)}.yaml"
            manifest.write_text(text)
        stack = Stack(manifest, state_dir or tmp_path / f"state{len(made)}", **options)
        made.append(stack)
        stack.up()
        return stack

    try:
        yield make
    finally:
        failures = []
        for stack in reversed(made):
            try:
                stack.close()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    """The quickstart's stack, of this test only: it may be killed, stopped, flooded."""
    return make_stack()
