"""A running stack from a notebook or a script: bars, fills, equity, and anything that SQL can ask, as columns.

It needs nothing beyond the platform; `Columns.pandas` needs pandas, which the extra `notebook` brings. Prices and
amounts are floats here: this is for looking and research, not for books. A strategy has no use for it: what it may
know comes through its context, or a replay could not give it again.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trade2026.cli.target import Target, find, path_to
from trade2026.stack.facts import SERVICES, ports_of

if TYPE_CHECKING:
    from pandas import DataFrame

_PAGE = 1_000
_POINTS_MAX = 7_200
_STATE_VARIABLE = "TRADE2026_STATE_DIR"
_QUERY_SECONDS_MAX = 120.0


class Columns(Mapping[str, list[Any]]):
    """A table by column: `table["price"]` is a list. Times are `datetime` in UTC."""

    def __init__(self, columns: Mapping[str, list[Any]]) -> None:
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Columns({', '.join(self._columns)}; {self.rows} rows)"

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self._columns.values()), []))

    def pandas(self, index: str | None = None) -> "DataFrame":
        """Return a data frame.

        Args:
            index: The column that becomes its index.

        Raises:
            ImportError: pandas is not installed: pip install "trade2026[notebook]".
        """
        from pandas import DataFrame

        frame = DataFrame(self._columns)
        return frame if index is None else frame.set_index(index)


class Desk:
    """A stack that runs on this machine, or listens elsewhere.

    Without arguments it is the one of `TRADE2026_STATE_DIR`, or under `.trade2026` here, or, if there is none, whatever
    listens on the usual ports. Its key, if it asks for one, is in `TRADE2026_KEY`.

    Args:
        state_dir: State directory of a stack on this machine.
        host: Where a stack listens that is not known by its directory.
        port_offset: What was added to its ports.

    Every method raises `trade2026.cli.output.CliError` if nobody answers, or the platform refuses; the message says
    what to do.
    """

    def __init__(self, state_dir: str | Path | None = None, *, host: str = "", port_offset: int = 0) -> None:
        if host or port_offset:
            ports = {name: port + port_offset for service in SERVICES for name, port in ports_of(service).items()}
            self._target = Target(host or "127.0.0.1", None, host or "127.0.0.1", ports)
        else:
            place = state_dir or os.environ.get(_STATE_VARIABLE)
            self._target = find(Path(place) if place else None)

    def instruments(self) -> list[str]:
        """What is traded, `SYMBOL.VENUE`."""
        return [line["symbol"] for line in self._target.call("gateway", "GET", "/instruments")["instruments"]]

    def bars(self, symbol: str, interval: str = "1m", *, start: str = "", end: str = "") -> Columns:
        """Closed bars, oldest first: the newest 2,000 of an interval that the stack makes.

        Args:
            symbol: `SYMBOL.VENUE`, or `SYMBOL` at the first venue that has it.
            start: RFC 3339; no bar began before. `end` likewise.
        """
        name, _, venue = self._resolve(symbol).rpartition(".")
        query: dict[str, Any] = {"limit": _PAGE, "from": start or None, "to": end or None, "cursor": None}
        found: list[dict[str, Any]] = []
        while True:
            page = self._target.call("normalizer", "GET", path_to("bars", venue, name, interval), query=query)
            found += page["bars"]
            if page["cursor"] is None:
                return _bars(found)
            query["cursor"] = page["cursor"]

    def fills(self, *, account: str = "", strategy: str = "", symbol: str = "") -> Columns:
        """Executions, oldest first; `signed` is the quantity, negative for a sale.

        Above 100,000 the platform refuses: narrow it down, or ask `query` for a part.
        """
        wanted = {"account": account, "strategy": strategy, "symbol": self._resolve(symbol) if symbol else ""}
        where = " AND ".join(f"{name} = {_quoted(value)}" for name, value in wanted.items() if value)
        return self.query(
            "SELECT timestamp, account, strategy, symbol, side, quantity, price, fee, liquidity, order_id, exec_id,"
            " CASE WHEN side = 'BUY' THEN quantity ELSE -quantity END AS signed"
            f" FROM fills {f'WHERE {where} ' if where else ''}ORDER BY seq"
        )

    def equity(self, account: str) -> Columns:
        """An account's P&L since its first trade, over time, in the base currency, and how far below its best it was."""
        points = self._target.call("pnl", "GET", path_to("pnl", account, "series"), query={"limit": _POINTS_MAX})[
            "points"
        ]
        return _columns(points, {"time": _time, "equity": float, "drawdown": float})

    def query(self, sql: str) -> Columns:
        """What one SELECT in QuestDB's SQL gives: `SHOW TABLES` names the tables."""
        answer = self._target.call("questdb", "GET", "/exec", query={"query": sql}, timeout_seconds=_QUERY_SECONDS_MAX)
        columns: dict[str, list[Any]] = {}
        for place, column in enumerate(answer["columns"]):
            read = _time if column["type"].startswith("TIMESTAMP") else _same
            columns[column["name"]] = [None if row[place] is None else read(row[place]) for row in answer["dataset"]]
        return Columns(columns)

    def latest(self, *keys: str) -> dict[str, Any]:
        """The newest values of the cache by key, e.g. `tick:SIM:BTCUSDT`; a key without one is left out."""
        found = self._target.call("hot_cache", "POST", "/mget", {"keys": keys})["values"]
        return {key: entry["value"] for key, entry in zip(keys, found, strict=True) if entry is not None}

    def _resolve(self, symbol: str) -> str:
        if "." in symbol:
            return symbol
        known = self.instruments()
        return next((name for name in known if name.rpartition(".")[0] == symbol.upper()), f"{symbol}.{_venue(known)}")


def _bars(lines: list[dict[str, Any]]) -> Columns:
    amounts = dict.fromkeys(("open", "high", "low", "close", "volume", "value"), float)
    return _columns(
        lines,
        {"time": _time, "end": _time, **amounts, "trades": int, "missing": int, "shifted": int, "uncertain": bool},
    )


def _columns(lines: Iterable[Mapping[str, Any]], kinds: Mapping[str, Any]) -> Columns:
    return Columns({name: [read(line[name]) for line in lines] for name, read in kinds.items()})


def _venue(known: list[str]) -> str:
    return known[0].rpartition(".")[2] if known else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _same(value: Any) -> Any:
    return value


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
