"""How a verdict is worded: what was refused, by which limit of whom, and what to do about it."""

from trade2026.controls import rules as r
from trade2026.controls.ledger import Ledger
from trade2026.controls.plan import Plan
from trade2026.controls.rules import Check, Question, Rule
from trade2026.domain.numbers import to_text
from trade2026.domain.rejects import RejectCode


def verdict(rule: Rule, q: Question, plan: Plan, ledger: Ledger) -> Check:
    """Return what a rule says of an order."""
    actual = rule.measure(q)
    passed = actual <= rule.limit or (rule.spares_reducing and q.reduces)
    code, scope = rule.code, rule.scope
    message = f"no {rule.name} stops it" if rule.name in ("kill", "halt") else f"{rule.name} of {scope} is kept"
    if not passed:
        if rule.name in ("kill", "halt"):
            code, scope, message = _stopped(rule, plan, ledger)
        else:
            message = _advice(rule, q, plan, actual)
    return Check(
        rule=rule.name,
        code=code,
        scope=scope,
        limit=rule.show(rule.limit),
        actual=rule.show(actual),
        passed=passed,
        message=message,
        used_bps=max(0, actual) * r.BPS // rule.limit if rule.limit > 0 else 0,
    )


def _stopped(rule: Rule, plan: Plan, ledger: Ledger) -> tuple[str, str, str]:
    stopped = ledger.kills if rule.name == "kill" else {**ledger.tripped, **ledger.halts}
    event = next(event for scope, event in sorted(stopped.items()) if scope in plan.scopes)
    code = rule.code
    if rule.name == "halt":
        code = {"repeated_execution": RejectCode.REPEATED_EXECUTION, "breach": RejectCode.MAX_DAILY_LOSS}.get(
            event.cause, rule.code
        )
    word = "killed" if rule.name == "kill" else "halted"
    hint = "" if rule.name == "kill" else "; meanwhile only reduce_only orders pass"
    return (
        code,
        event.scope,
        f"{event.scope} was {word} by {event.by}: {event.reason}; a named person must resume it{hint}",
    )


def _advice(rule: Rule, q: Question, plan: Plan, actual: int) -> str:
    spec, scope, limit = q.spec, rule.scope, rule.show(rule.limit)
    shown = rule.show(actual)
    match rule.name:
        case "reduce_only":
            held = to_text(q.leaf.position.quantity)
            return f"a reduce-only order must be at most the position it reduces, which is {held}; send less"
        case "restricted":
            return f"{spec.instrument} is on the restricted list of {scope}; trade another instrument"
        case "allowed_instruments":
            return f"{scope} may not trade {spec.instrument}; ask for the permission"
        case "allowed_venues":
            return f"{scope} may not trade at {r.venue_of(spec.instrument)}; ask for the permission"
        case "max_order_quantity":
            return f"quantity {shown} is above {limit}, the most per order of {scope}; send less"
        case "max_order_value":
            return f"value {shown} is above {limit}, the most per order of {scope}; send less"
        case "order_rate":
            meter = next(meter for meter in plan.meters if meter.scope == scope)
            per = r.seconds(meter.slack + meter.interval)
            wait = r.seconds(meter.wait(q.now))
            return f"{scope} may send {limit} messages per {per}; wait {wait}"
        case "duplicate_window_ns":
            window = r.seconds(plan.duplicate_window_ns)
            return f"an order with the same content was accepted within {window}; wait, or change it"
        case "max_open_orders":
            return f"{scope} would have {shown} open orders, the most is {limit}; cancel one first"
        case "reference_price":
            return f"no price of {spec.instrument} is fresh enough for the collar of {scope}; wait for market data"
        case "known_price":
            return f"no price of {spec.instrument} is known to value the order with; wait for market data"
        case "price_collar_bps" | "passive_collar_bps":
            above = q.buy == (rule.name == "price_collar_bps")
            bound = q.market + q.market * rule.limit // r.BPS * (1 if above else -1)
            return (
                f"price {to_text(spec.price)} is {shown} bps {'above' if above else 'below'} the reference "
                f"{to_text(q.market)}, the most is {limit}; send at {'most' if above else 'least'} {to_text(bound)}"
            )
        case "price_window_bps":
            assert q.reference is not None
            low, high = to_text(q.reference.low), to_text(q.reference.high)
            return (
                f"price {to_text(spec.price)} is {shown} bps outside {low} to {high}, the most is {limit}; come nearer"
            )
        case "max_position":
            return f"the position of {scope} in {spec.instrument} could reach {shown}, the most is {limit}; send less"
        case "max_net_exposure" | "max_gross_exposure":
            side = rule.name.removeprefix("max_").replace("_", " ")
            return f"{side} of {scope} could reach {shown}, the most is {limit}; send less, cancel or reduce first"
        case _:
            assert rule.name == "max_daily_loss"
            return f"{scope} lost {shown} today, the most is {limit}; only reduce_only orders pass"
