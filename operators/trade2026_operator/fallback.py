"""What a stack is planned from: what is asked for, or what ran before where that has failed.

A desk that has failed is not tried again, whatever is said of its limits and its strategies meanwhile: these hold for
what runs instead. What a person had written for that is kept in Helm's records, and read once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trade2026_operator.desired import Builder
from trade2026_operator.helm.records import Record, RecordUnreadable, from_secret
from trade2026_operator.inputs import desk_of
from trade2026_operator.kube import Kube
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.objects import Manifest, Ref, digest_of
from trade2026_operator.way_back import GaveWay, again, failed_inputs, gave_way


class Planned(NamedTuple):
    """A stack as it is to be planned."""

    stack: Manifest
    instead_of: str = ""
    """The input that has failed, if this is not what is asked for."""


class Fallbacks:
    """Finds what is to be planned; what it costs to know that is paid once."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._desks: dict[Key, tuple[str, str]] = {}
        self._specs: dict[Key, tuple[str, Mapping[str, Any]]] = {}

    async def planned(
        self, key: Key, stack: Manifest, builder: Builder, records: Mapping[str, Sequence[Record]]
    ) -> Planned:
        """The stack, or what ran before it with the limits of now."""
        if not any(failed_inputs(each[-1]) for each in records.values()):
            self.forget(key)
            return Planned(stack)
        found = gave_way(records, self._desk(key, stack, builder))
        spec = await self._spec(key, found) if found is not None else None
        if found is None or spec is None:
            return Planned(stack)
        return Planned({**stack, "spec": again(stack["spec"], spec)}, found.failed)

    def forget(self, key: Key) -> None:
        """The stack is gone, or nothing of it has failed."""
        self._desks.pop(key, None)
        self._specs.pop(key, None)

    def _desk(self, key: Key, stack: Manifest, builder: Builder) -> str:
        digest = digest_of({"spec": stack["spec"]})
        known = self._desks.get(key)
        if known is None or known[0] != digest:
            known = self._desks[key] = digest, builder.desk_of(stack)
        return known[1]

    async def _spec(self, key: Key, found: GaveWay) -> Mapping[str, Any] | None:
        """What a person had written; None where the record does not say so any more."""
        desk, known = desk_of(found.to), self._specs.get(key)
        if known is not None and known[0] == desk:
            return known[1]
        secret = await self._kube.get(Ref("v1", "Secret", key.namespace, found.secret))
        try:
            spec = from_secret(secret).specs.get(desk) if secret is not None else None
        except RecordUnreadable:
            return None
        if spec is not None:
            self._specs[key] = desk, spec
        return spec
