"""A backtest: strategies over recorded days, into a directory with every event and a summary.

The directory is the run: the same command again continues one that was interrupted, and finds one that is
complete unchanged. Another manifest, strategy or recording needs another directory.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.backtest.engine import WRITTEN, Engine
from trade2026.backtest.journal import NotReproducible, TopicFile
from trade2026.controls.limits import LimitBook
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Trade
from trade2026.domain.numbers import to_text
from trade2026.gateway.recording import load_bitstamp
from trade2026.gateway.replay import Recording, Replay
from trade2026.normalizer.machine import Rules
from trade2026.sdk.types import decimal
from trade2026.stack.manifest import Manifest
from trade2026.stack.planner import plan
from trade2026.strategies.loading import StrategySettings, load
from trade2026.strategies.machine import Loaded

FLUSH_TRADES = 500
_SECOND = 10**9
_DAY_SECONDS = 86_400


class BacktestError(Exception):
    """A backtest can't be run as asked; the message says what to change."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run depends on, beside the code of the platform and of the strategies."""

    stack: str
    instruments: list[Instrument]
    limits: LimitBook
    strategies: list[StrategySettings]
    base_currency: str
    default_account: str
    scale: str = "56"
    """Factor on the recorded prices."""
    seed: int = 7
    """Of the derived book."""
    latency_ns: int = 1_000_000
    rules: Rules = Rules()
    """Of the normalizer."""
    first_day: str
    days: int = 1
    trades_max: int = 0
    """Only the first so many; 0 for all."""


def setup_of(manifest: Manifest, first_day: str, *, days: int = 1, latency_ns: int = 1_000_000) -> Setup:
    """Return the setup of a stack and its strategies as a manifest describes them."""
    planned = plan(manifest.stack, manifest.strategies)
    orders, strategies = planned.release("orders"), planned.release("strategies")
    venue = planned.release("venue")
    if strategies is None:
        raise BacktestError("the manifest has no Strategy: there is nothing to test")
    assert orders is not None
    assert venue is not None
    replays = [venue for venue in manifest.stack.spec.venues if venue.type == "replay"]
    if not replays:
        raise BacktestError("the stack has no venue of type replay: nothing is recorded for it")
    config = replays[0].config
    return Setup(
        stack=planned.stack,
        instruments=msgspec.convert(orders.settings["instruments"], list[Instrument]),
        limits=msgspec.convert(orders.settings["risk"], LimitBook),
        strategies=msgspec.convert(strategies.settings["config"]["strategies"]["strategies"], list[StrategySettings]),
        base_currency=manifest.stack.spec.base_currency,
        default_account=manifest.stack.spec.default_account,
        scale=str(config.get("scale", 56)),
        seed=int(config.get("seed", 7)),
        latency_ns=latency_ns,
        rules=msgspec.convert(venue.settings["config"].get("normalizer", {}), Rules, strict=False),
        first_day=first_day,
        days=days,
    )


def run(setup: Setup, directory: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Run, or go on with, a backtest; return its summary.

    Args:
        say: Told how far it is.

    Raises:
        BacktestError: a strategy can't be loaded, the day is not recorded, or the directory is of another run.
        NotReproducible: the run does otherwise than the interrupted one that it continues.
    """
    loaded = _load(setup)
    recording = _cut(load_bitstamp(), setup)
    if not len(recording):
        raise BacktestError(f"no trade is recorded on {setup.first_day}; the recording has {_recorded()}")
    directory.mkdir(parents=True, exist_ok=True)
    _claim(directory, setup, loaded)
    files = {topic: TopicFile(directory / f"{topic}.jsonl") for topic in WRITTEN}
    engine = Engine(
        tenant=setup.stack,
        instruments=setup.instruments,
        limits=setup.limits,
        loaded=loaded,
        sinks=files,
        base_currency=setup.base_currency,
        default_account=setup.default_account,
        latency_ns=setup.latency_ns,
        seed=setup.seed,
        rules=setup.rules,
    )

    def every() -> None:
        if engine.trades % FLUSH_TRADES == 0:
            for file in files.values():
                file.flush()
            say(f"{_time(engine.now)}: {engine.trades} trades, {files['orders.events'].records} order events")

    engine.run(_trades(recording, setup), every=every)
    digests = {topic: file.close() for topic, file in files.items()}
    summary = _summary(engine, files, digests)
    _write(directory / "summary.json", json.dumps(summary, indent=2).encode() + b"\n")
    return summary


def _load(setup: Setup) -> dict[str, Loaded]:
    loaded = {one.name: load(one, setup.instruments) for one in setup.strategies}
    for name, one in loaded.items():
        if one.trouble:
            raise BacktestError(f"strategy {name} can't run: {one.trouble}")
    return loaded


def _recorded() -> str:
    seconds = load_bitstamp().seconds
    first, last = (datetime.fromtimestamp(second, UTC).date() for second in (seconds[0], seconds[-1]))
    return f"{first} to {last}"


def _cut(recording: Recording, setup: Setup) -> Recording:
    try:
        begin = datetime.combine(date.fromisoformat(setup.first_day), datetime.min.time(), UTC)
    except ValueError as error:
        raise BacktestError(f"{setup.first_day!r} is no day; write 2013-11-26") from error
    first, end = begin.timestamp(), begin.timestamp() + setup.days * _DAY_SECONDS
    if setup.days > 1 and end - _DAY_SECONDS > recording.seconds[-1]:
        raise BacktestError(f"{setup.days} days from {setup.first_day} go beyond the recording; it has {_recorded()}")
    rows = [n for n, second in enumerate(recording.seconds) if first <= second < end]
    if setup.trades_max:
        rows = rows[: setup.trades_max]
    span = slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
    return Recording(recording.name, recording.seconds[span], recording.prices[span], recording.quantities[span])


def _trades(recording: Recording, setup: Setup) -> Iterator[tuple[int, Trade]]:
    """The recorded trades of every instrument at the times at which they were made."""
    replays = [
        Replay(recording, instrument, scale=Decimal(setup.scale), loop=False, gap_seconds_max=10**6)
        for instrument in setup.instruments
    ]
    times = recording.source_times()
    for position, ts in enumerate(times):
        for replay in replays:
            yield ts, replay.trade_at(position)


def _claim(directory: Path, setup: Setup, loaded: Mapping[str, Loaded]) -> None:
    """The directory is of one run: the same setup, code of strategies, and version."""
    codes = {name: one.code for name, one in sorted(loaded.items())}
    identity = msgspec.json.encode({"version": __version__, "setup": setup, "codes": codes}, order="sorted")
    path = directory / "run.json"
    if not path.exists():
        _write(path, identity)
    elif path.read_bytes() != identity:
        raise BacktestError(f"{directory} has another run (other settings, strategies or version): name another one")


def _write(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _summary(engine: Engine, files: Mapping[str, TopicFile], digests: Mapping[str, str]) -> dict[str, Any]:
    strategies = {}
    for name, hosted in sorted(engine.strategies.hosted.items()):
        ctx = hosted.ctx
        strategies[name] = {
            "status": hosted.status,
            "reason": hosted.reason,
            "decisions": hosted.decided,
            "fills": sum(fold.fills for fold in ctx._orders.positions.values()),
            "position": {symbol: str(p.quantity) for symbol, p in sorted(ctx.account.positions.items())},
            "fees": str(sum((p.fees for p in ctx.account.positions.values()), start=decimal(0))),
            "pnl": str(ctx.account.pnl),
        }
    return {
        "end": _time(engine.now),
        "trades": engine.trades,
        "orders": engine.oms.fold.order_count,
        "executions": engine.venue.executions,
        "last_prices": {name: to_text(mark) for name, mark in sorted(engine.pnl.marks.items())},
        "strategies": strategies,
        "records": {topic: file.records for topic, file in files.items()},
        "sha256": dict(digests),
    }


def _time(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // _SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}"


__all__ = ["BacktestError", "NotReproducible", "Setup", "run", "setup_of"]
