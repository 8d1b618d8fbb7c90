"""A parent as a user writes it, and what is wrong with it."""

from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec

from trade2026.domain.instruments import Instrument, Instruments, UnknownInstrument
from trade2026.domain.numbers import Amount, to_text
from trade2026.domain.orders import Side
from trade2026.domain.parents import Algo, ParentSpec
from trade2026.kit.http import Problem
from trade2026.stack.units import basis_points, duration_ns

SLICES_MAX = 1_000
SLICE_NS_MIN = 100_000_000
TIME_NS_MAX = 7 * 86_400 * 10**9
_SLICES_DEFAULT = 10
_PROFILE_MAX = 1_440
_TEXT_MAX = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_MAX = 2200


class ParentInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One parent. Amounts are numbers or decimal text, times RFC 3339, durations as `10m`, shares as `10%`."""

    symbol: str
    side: str
    quantity: Amount
    algo: str
    price: Amount | None = None
    stop_price: Amount | None = None
    start_at: str | None = None
    end_at: str | None = None
    duration: str | None = None
    slices: int | None = None
    volume_profile: list[Amount] | None = None
    child_quantity_max: Amount | None = None
    participation_max: str | int | None = None
    catch_up: str | int | None = None
    account: str | None = None
    client_order_id: str | None = None
    strategy: str = ""
    trader: str = ""
    desk: str = ""
    client: str = ""


class AmendParentInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """New terms; what is absent stays as it is."""

    quantity: Amount | None = None
    price: Amount | None = None
    end_at: str | None = None
    child_quantity_max: Amount | None = None
    participation_max: str | int | None = None


class ReasonInput(msgspec.Struct, forbid_unknown_fields=True):
    """Why."""

    reason: str = ""


def _bad(code: str, detail: str, field: str) -> NoReturn:
    raise Problem(422, code, detail, field=field)


class ParentReader:
    """Turns inputs into specs for one stack's instruments."""

    def __init__(self, instruments: Instruments, default_account: str) -> None:
        self.instruments, self.default_account = instruments, default_account

    def read(self, parent: ParentInput, client_order_id: str, now: int) -> ParentSpec:
        """Return the parent's spec.

        Args:
            client_order_id: Used where the input names none.
            now: ns.

        Raises:
            Problem: 422 with the field and what to do.
        """
        try:
            instrument = self.instruments.resolve(parent.symbol)
        except UnknownInstrument as error:
            _bad("unknown_symbol", str(error), "symbol")
        algo = _algo(parent.algo)
        _check_names(parent)
        spec = ParentSpec(
            client_order_id=parent.client_order_id or client_order_id,
            account=parent.account or self.default_account,
            instrument=instrument.instrument_id,
            side=_side(parent.side),
            algo=algo,
            quantity=steps(parent.quantity, instrument.lot_size, "off_lot", "quantity"),
            price=steps(parent.price, instrument.tick_size, "off_tick", "price"),
            stop_price=steps(parent.stop_price, instrument.tick_size, "off_tick", "stop_price"),
            strategy=parent.strategy,
            trader=parent.trader,
            desk=parent.desk,
            client=parent.client,
            **(_timing(parent, instrument, now) if algo.is_sliced else {}),
        )
        _check_prices(spec)
        if not algo.is_sliced:
            _refuse_timing(parent)
        return spec


def _algo(word: str) -> Algo:
    try:
        return Algo(word.upper())
    except ValueError:
        _bad("bad_algo", f"algo is one of {', '.join(Algo)}", "algo")


def _side(word: str) -> Side:
    side = word.upper()
    if side == "BUY" or side == "SELL":
        return side
    _bad("bad_side", f"side is buy or sell, not {word[:20]!r}", "side")


def steps(value: Amount | None, step: int, code: str, field: str) -> int:
    """Return a positive multiple of a step in nanos, 0 where none was given."""
    if value is None:
        return 0
    if value.error is not None:
        _bad(value.error.fault, f"{field}: {value.error}", field)
    if value <= 0:
        _bad("not_positive", f"{field} must be above zero, not {to_text(value)}", field)
    if value % step:
        _bad(code, f"{field} {to_text(value)} is no multiple of {to_text(step)}", field)
    return int(value)


def moment(text: str | None, field: str) -> int:
    """Return an RFC 3339 time in ns, 0 where none was given."""
    if text is None:
        return 0
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        _bad("bad_time", f"{field} {text[:40]!r} is no RFC 3339 time, e.g. 2030-01-31T16:00:00Z", field)
    if found.tzinfo is None:
        _bad("bad_time", f"{field} needs an offset, e.g. a Z for UTC", field)
    if not _EPOCH.year < found.year <= _YEAR_MAX:
        _bad("bad_time", f"{field} is a year from 1971 to {_YEAR_MAX}", field)
    since = found - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def share(value: str | int | None, field: str, default: int, *, least: int = 0, most: int) -> int:
    """Return basis points, `default` where none were given."""
    if value is None:
        return default
    try:
        found = basis_points(value)
    except ValueError as error:
        _bad("bad_share", f"{field} {error}", field)
    if not least <= found <= most:
        _bad("bad_share", f"{field} is {'above' if least else 'from'} 0 and at most {most // 100}%", field)
    return found


def participation(value: str | int | None) -> int:
    """Return the greatest share of the market, basis points; 0, no limit, where none was given."""
    return share(value, "participation_max", 0, least=1, most=10_000)


def limit_amended(value: Amount | None, tick: int) -> int | None:
    """Return the new limit price, nanos: None leaves it as it is, 0 takes it away."""
    if value is None or (value.error is None and value == 0):
        return value if value is None else 0
    return steps(value, tick, "off_tick", "price")


def _timing(parent: ParentInput, instrument: Instrument, now: int) -> dict[str, Any]:
    start, end = moment(parent.start_at, "start_at"), moment(parent.end_at, "end_at")
    duration = 0
    if parent.duration is not None:
        try:
            duration = duration_ns(parent.duration)
        except ValueError as error:
            _bad("bad_duration", f"duration {error}", "duration")
    if (end == 0) == (duration == 0):
        _bad("missing_field", "give the end: either end_at or duration, e.g. 10m", "duration")
    time = (end or max(start, now) + duration) - max(start, now)
    slices = _SLICES_DEFAULT if parent.slices is None else parent.slices
    if not 0 < slices <= SLICES_MAX:
        _bad("bad_slices", f"slices is from 1 to {SLICES_MAX}", "slices")
    if not slices * SLICE_NS_MIN <= time <= TIME_NS_MAX or start > now + TIME_NS_MAX:
        detail = "it begins and ends within the next 7 days, and a slice has at least 0.1 s"
        _bad("bad_time", detail, "duration" if duration else "end_at")
    return {
        "start_at": start,
        "end_at": end,
        "duration": duration,
        "slices": slices,
        "profile": _profile(parent),
        "child_quantity_max": steps(parent.child_quantity_max, instrument.lot_size, "off_lot", "child_quantity_max"),
        "participation_bps": participation(parent.participation_max),
        "catch_up_bps": share(parent.catch_up, "catch_up", 10_000, most=100_000),
    }


def _profile(parent: ParentInput) -> tuple[int, ...]:
    if parent.volume_profile is None:
        return ()
    if parent.algo.upper() != Algo.VWAP:
        _bad("unexpected_field", "volume_profile goes with algo VWAP", "volume_profile")
    weights = parent.volume_profile
    if not 0 < len(weights) <= _PROFILE_MAX or any(w.error is not None or w < 0 for w in weights) or not any(weights):
        detail = f"volume_profile has 1 to {_PROFILE_MAX} weights that are not negative, and one above zero"
        _bad("bad_profile", detail, "volume_profile")
    return tuple(int(weight) for weight in weights)


def _refuse_timing(parent: ParentInput) -> None:
    names = (
        *("start_at", "end_at", "duration", "slices", "volume_profile"),
        *("child_quantity_max", "participation_max", "catch_up"),
    )
    for name in names:
        if getattr(parent, name) is not None:
            _bad("unexpected_field", f"{name} goes with algo TWAP or VWAP", name)


def _check_prices(spec: ParentSpec) -> None:
    if spec.algo is Algo.LIMIT and not spec.price:
        _bad("missing_field", "a LIMIT parent needs a price", "price")
    if spec.price and spec.algo in (Algo.MARKET, Algo.STOP):
        _bad("unexpected_field", f"a {spec.algo} parent has no price", "price")
    if (spec.algo is Algo.STOP) != bool(spec.stop_price):
        _bad("bad_stop_price", "a STOP parent, and only that, has a stop_price", "stop_price")


def _check_names(parent: ParentInput) -> None:
    for field in ("strategy", "trader", "desk", "client", "account", "client_order_id"):
        value = getattr(parent, field)
        if value and (len(value) > _TEXT_MAX or not value.isprintable()):
            _bad("bad_text", f"{field} has at most {_TEXT_MAX} printable characters", field)
    account = parent.account
    if account and ("/" in account or account.strip(". ") != account):
        _bad("bad_text", "account has no slash, and no dot or space at its ends", "account")
