"""Names that people give reach the platform as they are, and what can't be done is said in a line."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import trade2026.cli
from trade2026.cli.output import USAGE, CliError
from trade2026.cli.target import path_to
from trade2026.client import Desk

NAMES = ["main#1", "ü", "m a i n", "a/b", "ma%69n", "%69", "main?", "x?y=1", "..", "\udce4"]
COMMANDS = [
    (("positions", "NAME"), "GET /positions/NAME"),
    (("pnl", "NAME"), "GET /pnl/NAME"),
    (("trace", "NAME"), "GET /trace/NAME"),
    (("order", "show", "NAME"), "GET /orders/NAME"),
    (("order", "cancel", "NAME"), "DELETE /orders/NAME"),
    (("order", "amend", "NAME", "--price", "1"), "PATCH /orders/NAME"),
    (("parent", "show", "NAME"), "GET /parents/NAME"),
    (("parent", "pause", "NAME"), "POST /parents/NAME/pause"),
    (("parent", "amend", "NAME", "--price", "1"), "PATCH /parents/NAME"),
    (("strategy", "show", "NAME"), "GET /strategies/NAME"),
    (("cache", "delete", "NAME"), "DELETE /keys/NAME"),
    (("lake", "query", "NAME"), "GET /query/NAME"),
]


@pytest.mark.parametrize(("words", "asked"), COMMANDS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_name_is_one_part_of_the_path_whatever_is_in_it(
    cli: Any, stack: Any, words: tuple[str, ...], asked: str
) -> None:
    for name in NAMES:
        assert cli(*(name if word == "NAME" else word for word in words)).code in (0, 4)
        path = stack.asked.pop()[0].partition("?")[0]
        assert path.isascii()
        escaped = path.split("/")[2]
        assert asked.replace("NAME", escaped) == path
        assert unquote(escaped, errors="surrogateescape") == name


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS])
def test_an_empty_name_is_refused_before_anything_is_sent(cli: Any, stack: Any, words: tuple[str, ...]) -> None:
    result = cli(*("" if word == "NAME" else word for word in words))
    assert (result.code, "is empty" in result.err, stack.asked) == (2, True, [])


def test_a_notebook_asks_for_the_account_that_it_names(stack: Any) -> None:
    desk = Desk(stack.state.path)
    stack.answers["GET /pnl/main%231/series?limit=7200"] = (200, {"points": []})
    assert desk.equity("main#1").rows == 0
    with pytest.raises(CliError):
        desk.bars("A/B.SIM#", "1m")
    assert stack.asked[-1][0] == "GET /bars/SIM%23/A%2FB/1m?limit=1000"


def test_no_path_is_put_together_from_names_but_by_the_one_who_escapes_them() -> None:
    places = [*Path(trade2026.cli.__file__).parent.glob("*.py"), Path(trade2026.__file__).with_name("client.py")]
    assert [path.name for path in places if re.search(r'call\([^)]*f"/', path.read_text())] == []
    with pytest.raises(CliError) as refused:
        path_to("orders", "")
    assert refused.value.exit_code == USAGE


# ── what nobody has foreseen ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words",
    [
        ("strategy", "new", "foo", "--dir", "PLACE"),
        ("strategy", "backtest", "trade2026.sdk.examples.momentum:Momentum", "--out", "PLACE"),
        ("backup", "PLACE"),
        ("keys", "new", "ann", "--role", "trader", "--keys-file", "PLACE"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("place", ["a-file", "a-file/below", "/proc/nothing"])
def test_a_place_that_is_no_good_is_said_in_a_line(
    cli: Any, stack: Any, words: tuple[str, ...], place: str, tmp_path: Path
) -> None:
    (tmp_path / "a-file").write_text("")
    result = cli(*(place if word == "PLACE" else word for word in words))
    assert result.code in (1, 2)
    assert result.err.startswith("error: ")
    assert place in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("a\nb"), "error: this should not happen: ZeroDivisionError: a b; please report it"),
        (PermissionError(13, "Permission denied", "/x"), "error: /x: Permission denied: name another place"),
        (KeyError(), "no more is known"),
    ],
)
def test_what_was_not_foreseen_ends_in_a_line_that_says_what_to_do(
    cli: Any, stack: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("trade2026.cli.accounts.find", fail)
    result = cli("positions")
    assert (result.code, told in result.err, len(result.err.splitlines())) == (1, True, 1)
    monkeypatch.setenv("TRADE2026_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli("positions")
