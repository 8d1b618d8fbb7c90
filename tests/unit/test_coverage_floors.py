"""The floors of coverage: what counts for them, when they fail a run, and that they only rise."""

import fnmatch

import pytest
from tests.coverage_floors import (
    PACKAGE,
    ROOT,
    VARIABLE,
    File,
    Group,
    Part,
    from_environment,
    groups,
    percent,
    raised,
    sunk,
)

PURE, ALL = Group("pure parts", ["*/machine.py", "domain/*"], 90.0), Group("all", ["*"], 60.0)
FILES = {
    "oms/machine.py": File(60, [7]),
    "domain/orders.py": File(40, [3, 4, 5, 9]),
    "oms/api.py": File(100, list(range(40))),
}


def test_lines_are_added_up_over_the_files_of_a_group() -> None:
    assert percent(PURE.of(FILES).values()) == 95
    assert percent(ALL.of(FILES).values()) == 77.5
    assert sunk(FILES, {}, [PURE, ALL]) == []


def test_what_has_sunk_is_said_by_file_with_what_to_do() -> None:
    said = sunk(FILES, {"oms/machine.py": 1, "domain/orders.py": 1}, [Group("pure parts", PURE.patterns, 96.0)])
    assert said == [
        "coverage of pure parts is 95.00 %, the floor is 96.0 %. Not reached any more:",
        "  services/trade2026/domain/orders.py: 3 lines more, of 3-5, 9",
        "Write tests of what these lines do, or delete what nothing needs; then `make coverage`.",
    ]


def test_floors_are_raised_to_what_is_reached_and_never_sink() -> None:
    text = "# kept\npure_floor = 90.0\nall_floor = 99.0\n"
    wanted = [PURE, Group("all", ["*"], 99.0)]
    assert raised(text, FILES, wanted) == "# kept\npure_floor = 94.5\nall_floor = 99.0\n"


def test_a_group_without_files_has_sunk() -> None:
    assert sunk(FILES, {}, [Group("gone", ["gone/*"], 1.0)]) != []


def test_every_pattern_is_of_code_that_there_is() -> None:
    paths = [path.relative_to(ROOT / PACKAGE).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")]
    assert [pattern for group in groups() for pattern in group.patterns if not fnmatch.filter(paths, pattern)] == []


def test_no_floor_is_lower_than_what_was_promised() -> None:
    pure, everything = groups()
    assert pure.floor >= 95
    assert everything.floor >= 80


def test_a_word_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(ValueError, match="is check or raise, not 'yes'"):
        from_environment()


def test_of_two_processes_a_line_is_missed_that_both_have_missed() -> None:
    one = Part(True, ["unit"], {"oms/api.py": File(9, [3, 4, 5]), "kit/bus.py": File(2, [1])})
    two = Part(True, ["contract"], {"oms/api.py": File(9, [4, 5, 6]), "pnl/api.py": File(1, [])})
    both = {"oms/api.py": File(9, [4, 5]), "kit/bus.py": File(2, [1]), "pnl/api.py": File(1, [])}
    assert one.and_(two) == Part(True, ["contract", "unit"], both)


def test_what_one_of_two_processes_left_out_is_not_whole() -> None:
    assert not Part(True, [], {}).and_(Part(False, [], {})).whole
