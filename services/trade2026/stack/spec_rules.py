"""What must hold between the parts of a stack: its names, and how many share which work."""

from trade2026.stack.facts import SERVICES
from trade2026.stack.rules import Rule

_VENUES = "[venue.name for venue in self.venues]"
_ID = 'one.symbol + "." + (one.venue if one.venue != "" else self.venues[0].name)'
_INSTRUMENTS = (
    f"[{_ID} for one in self.instruments]"
    ' + [one.symbol for one in self.instruments if one.venue == "" or one.venue == self.venues[0].name]'
)
"""Every name by which an instrument may be meant."""
_QUOTE = "(each.quote if each.quote is not None else self.base_currency)"
_SHARED = [facts.name for facts in SERVICES.values() if facts.by_account]
_ALONE = [name for name in _SHARED if sum(facts.group == SERVICES[name].group for facts in SERVICES.values()) == 1]
_MOST = "(self.services[each].replicas.max if self.services[each].replicas.max is not None else self.services[each].replicas.min)"


RULED_LIMITS = ("limits", "account_defaults", "strategy_defaults")
"""Those of `spec.risk` whose names the rules check; named accounts, strategies and so on are too many for that."""


def _listed(at: str, field: str, kind: str, known: str) -> Rule:
    """Names in a list of limits are those of this stack."""
    return Rule(
        f"each in {known}", f"'{{each}}' is no {kind} of this stack", over=f"self.risk.{at}.{field}",
        may_be_omitted=True, name="each", known=known,
    )  # fmt: skip


SPEC_RULES = (
    Rule(
        "each in " + repr([*SERVICES]), "'{each}' is no service",
        over="self.services", name="each", known=repr([*SERVICES]),
    ),
    Rule(
        'self.bus.type != "embedded" or self.placement == "compact"',
        "'{self.placement}' needs a bus that several machines share; the embedded bus runs compact",
        at="placement",
    ),
    Rule(
        f'each.venue == "" or each.venue in {_VENUES}',
        "'{each.venue}' is no venue of this stack",
        at="venue", over="self.instruments", name="each.venue", known=_VENUES,
    ),
    Rule(
        'disjoint([one.symbol for one in self.instruments if one.venue == ""], '
        "[one.symbol for one in self.instruments if one.venue == self.venues[0].name])",
        "an instrument is listed twice, with and without its venue; keep one of them",
        at="instruments",
    ),
    Rule(
        "each.quote is not None or each.symbol.endswith(self.base_currency)",
        "is missing, and '{each.symbol}' does not end with the base currency {self.base_currency}; "
        "say what it is priced in",
        at="quote", over="self.instruments",
    ),
    Rule(
        "each.base is not None or (each.quote is None and not each.symbol.endswith(self.base_currency)) "
        f"or (each.symbol.endswith({_QUOTE}) and each.symbol != {_QUOTE})",
        "is missing and can't be told from '{each.symbol}'; say what is bought",
        at="base", over="self.instruments",
    ),
    *(
        _listed(at, field, kind, known)
        for at in RULED_LIMITS
        for field, kind, known in (
            ("allowed_instruments", "instrument", _INSTRUMENTS),
            ("restricted", "instrument", _INSTRUMENTS),
            ("allowed_venues", "venue", _VENUES),
        )
    ),
    Rule(
        f"subset([name for name in self.risk.instruments], {_INSTRUMENTS})",
        "names what is no instrument of this stack",
        at="risk.instruments",
        name=f"[name for name in self.risk.instruments if name not in {_INSTRUMENTS}][0]", known=_INSTRUMENTS,
    ),
    Rule(
        f"{_MOST} == 1 or each in {_SHARED}",
        f"{{each}} runs once; more than one can be had of {', '.join(_SHARED)}",
        at="replicas", over="self.services",
    ),
    Rule(
        f'{_MOST} == 1 or self.bus.type != "embedded"',
        "the embedded bus is for one process a service; use bus.type kafka",
        at="replicas", over="self.services",
    ),
    Rule(
        f"{_MOST} == 1 or {_MOST} <= self.bus.partitions",
        "so many replicas can't share bus.partitions {self.bus.partitions}: some would have none",
        at="replicas", over="self.services",
    ),
    Rule(
        f'{_MOST} == 1 or self.placement == "spread" or each in {_ALONE}',
        "{each} shares its process with others; use placement: spread",
        at="replicas", over="self.services",
    ),
)  # fmt: skip

SPEC_TRANSITIONS = (
    {
        "rule": "self.version == oldSelf.version || self.eventFormat == oldSelf.eventFormat",
        "message": "is raised once the new version runs, in a change of its own: there is no way back to a version "
        "that can't read what was written",
        "fieldPath": ".eventFormat",
    },
)
