"""What watches have told of every stack: nothing is asked of the API server to look at one."""

import pickle
import time
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from trade2026_operator.answers import Answers
from trade2026_operator.helm.manifests import FIELD_MANAGER, RELEASE_NAME, annotations_of
from trade2026_operator.helm.records import SECRET_TYPE, Record, RecordUnreadable, from_secret
from trade2026_operator.lists import Listed
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.ignoring import pointers_of
from trade2026_operator.reconcile.objects import (
    STACK_LABEL,
    Manifest,
    Ref,
    is_older,
    labels_of,
    ref_of,
    resource_version_of,
    uid_of,
)
from trade2026_operator.reconcile.ownership import owned_digest
from trade2026_operator.reconcile.sharing import shared_log
from trade2026_operator.reconcile.state import Child, Observed, Refusal, Settled
from trade2026_operator.slim import slim_child, slim_stack
from trade2026_operator.strategies import Strategies

REFUSAL_SECONDS = 30.0
"""What the API server has refused may be taken by then, e.g. because a quota was raised."""
MANAGER = "trade2026-operator"
"""Of what belongs to no release, and of status."""


def manager_of(manifest: Manifest) -> str:
    """The field manager by which an object is applied: that of Helm for what is part of a release."""
    return FIELD_MANAGER if labels_of(manifest).get("app.kubernetes.io/managed-by") == "Helm" else MANAGER


class Cache:
    """Fed by watches, asked by the workers, in one event loop.

    Args:
        changed: Called with each stack of which something has become different.
        time: Seconds, for how long a refusal is believed.
        strategy_changed: Called with each strategy of which something has become different.
        changed_soon: Called with each stack that is new, and of which the strategies have become others: a file has a
            stack and its strategies, which come one after the other and are meant together.
    """

    def __init__(
        self,
        changed: Callable[[Key], None],
        time: Callable[[], float] = time.monotonic,
        strategy_changed: Callable[[Key], None] = lambda key: None,
        changed_soon: Callable[[Key], None] | None = None,
    ) -> None:
        self.stacks: dict[Key, Manifest] = {}
        self.strategies = Strategies(self.stacks, changed_soon or changed, strategy_changed)
        self._changed_soon = changed_soon or changed
        self._changed, self._time = changed, time
        self._children: dict[Key, dict[Ref, Child]] = {}
        self._records: dict[Key, dict[Ref, Record]] = {}
        self._contents: dict[Key, dict[str, bytes]] = {}
        """Of revisions that were read: packed, for they are looked at seldom."""
        self._settled: dict[Key, dict[Ref, Settled]] = {}
        self._refused: dict[Key, dict[Ref, tuple[float, Refusal]]] = {}
        self._scaling: dict[Key, tuple[Observation, ...]] = {}
        self._answers: dict[Key, Answers] = {}
        self.cancelled: set[Key] = set()
        """Stacks whose working orders are cancelled."""

    def stack_seen(self, manifest: Manifest) -> None:
        """A watch told of a stack."""
        key, kept = _key(manifest), slim_stack(manifest)
        before = self.stacks.get(key)
        if before is not None and uid_of(before) != uid_of(kept):
            if is_older(kept, before):
                return
            self._forget_life(key)
        if before != kept:
            self.stacks[key] = kept
            if before is not None and before["spec"] != kept["spec"]:
                self._out_of_the_way(before)
            (self._changed_soon if before is None else self._changed)(key)
            self.strategies.stack_changed(key)

    def stack_gone(self, manifest: Manifest) -> None:
        """It is deleted; what is left of it is nobody's. Of one that was made again meanwhile nothing is forgotten."""
        key = _key(manifest)
        gone = self.stacks.pop(key, None)
        if gone is not None and uid_of(gone) != uid_of(manifest):
            self.stacks[key] = gone
            return
        for known in (self._children, self._records, self._settled, self._refused, self._contents, self._answers):
            known.pop(key, None)
        self._forget_life(key)
        self._changed(key)
        self.strategies.stack_changed(key)
        if gone is not None:
            self._out_of_the_way(gone)

    def _out_of_the_way(self, stack: Manifest) -> None:
        """One that has gone, or become another, had a log that its namesakes wanted."""
        for key, other in self.stacks.items():
            if shared_log(other, (stack,)):
                self._changed(key)

    def _forget_life(self, key: Key) -> None:
        """What was known of a stack itself, and not of what lies in the cluster for one of its name."""
        self.cancelled.discard(key)
        self._scaling.pop(key, None)
        self._refused.pop(key, None)

    def child_seen(self, manifest: Manifest) -> None:
        """A watch told of an object with a stack's label."""
        key = _key_of_child(manifest)
        if key is None:
            return
        ref = ref_of(manifest)
        if key in self._answers and self._answers[key].is_late(ref, manifest):
            return
        if manifest.get("type") == SECRET_TYPE:
            self._record_seen(key, ref, manifest)
            return
        self._children.setdefault(key, {})[ref] = self._child(key, manifest)
        self._changed(key)

    def child_gone(self, manifest: Manifest) -> None:
        """It is deleted."""
        key = _key_of_child(manifest)
        if key is None:
            return
        ref = ref_of(manifest)
        child, record = self._children.get(key, {}).get(ref), self._records.get(key, {}).get(ref)
        known = uid_of(child.manifest) if child is not None else record.uid if record is not None else ""
        if known in ("", uid_of(manifest)):  # else it was made again, and that was told first
            for each in (self._children, self._records):
                each.get(key, {}).pop(ref, None)
            if ref.kind != "Pod":
                self._is_news(key, ref, manifest)
        self._changed(key)

    def stacks_listed(self, listed: Listed) -> None:
        """All that there are of those: another is deleted."""
        for key in [key for key in self.stacks if listed.lacks(*key)]:
            self.stack_gone(self.stacks[key])

    def children_listed(self, kind: str, listed: Listed) -> None:
        """All that there are of a kind: another is deleted."""
        for known in (self._children, self._records):
            for key, objects in known.items():
                gone = [ref for ref in objects if ref.kind == kind and listed.lacks(ref.namespace, ref.name)]
                for ref in gone:
                    del objects[ref]
                if gone:
                    self._changed(key)

    def applied(self, key: Key, asked: str, answer: Manifest) -> None:
        """The API server has taken what was asked of an object."""
        ref, child = ref_of(answer), self._child(key, answer)
        self._settled.setdefault(key, {})[ref] = Settled(asked, child.owned)
        self._refused.get(key, {}).pop(ref, None)
        if self._is_news(key, ref, answer):
            self._children.setdefault(key, {})[ref] = child

    def refused(self, key: Key, ref: Ref, asked: str, message: str) -> None:
        """The API server will not take what was asked of an object."""
        self._refused.setdefault(key, {})[ref] = (self._time(), Refusal(asked, message))

    def found(self, key: Key, manifest: Manifest) -> None:
        """An object that is a stack's, whatever its labels say."""
        if self._is_news(key, ref_of(manifest), manifest):
            self._children.setdefault(key, {})[ref_of(manifest)] = self._child(key, manifest)

    def incomplete(self, key: Key) -> list[Ref]:
        """Objects of which others may change something, and of which that is not known."""
        stack = self.stacks[key]
        if not stack["spec"].get("driftIgnore"):
            return []
        children = self._children.get(key, {})
        return [ref for ref, child in children.items() if not child.is_whole and any(pointers_of(stack, ref))]

    def recorded(self, key: Key, secret: Manifest) -> None:
        """A release's record was written; a watch will tell of it, too."""
        if self._is_news(key, ref_of(secret), secret):
            self._record_seen(key, ref_of(secret), secret)

    def children(self, key: Key) -> Mapping[Ref, Child]:
        """Everything that carries a stack's label."""
        return self._children.get(key, {})

    def version(self, key: Key, ref: Ref) -> str:
        """In which version an object of a stack is known; empty if there is none."""
        child = self._children.get(key, {}).get(ref)
        return f"{uid_of(child.manifest)}/{resource_version_of(child.manifest)}" if child is not None else ""

    def scaling_told(self, key: Key, observations: tuple[Observation, ...]) -> None:
        """What is to be said of a stack's scaling; nothing where nothing scales."""
        if self._scaling.get(key, ()) == observations:
            return
        self._scaling[key] = observations
        if key in self.stacks:
            self._changed(key)

    def read(self, key: Key, content: str, manifests: tuple[Manifest, ...]) -> None:
        """The objects of a revision were read."""
        self._contents.setdefault(key, {})[content] = zlib.compress(pickle.dumps(manifests))

    def records(self, key: Key) -> dict[str, list[Record]]:
        """By release, the oldest first."""
        by_release: dict[str, list[Record]] = {}
        for record in sorted(self._records.get(key, {}).values(), key=lambda record: record.revision):
            by_release.setdefault(record.name, []).append(record)
        return by_release

    def observed(self, key: Key) -> Observed:
        """All that is known of a stack."""
        by_release = self.records(key)
        children: Mapping[Ref, Child] = self._children.get(key, {})
        believed_since = self._time() - REFUSAL_SECONDS
        refused = {ref: why for ref, (at, why) in self._refused.get(key, {}).items() if at > believed_since}
        return Observed(
            stack=self.stacks[key],
            children=MappingProxyType(children),
            settled=MappingProxyType(self._settled.get(key, {})),
            records=by_release,
            orders_cancelled=key in self.cancelled,
            refused=refused,
            scaling=self._scaling.get(key),
            contents=self._contents_of(key, by_release),
        )

    def _contents_of(self, key: Key, records: Mapping[str, list[Record]]) -> dict[str, tuple[Manifest, ...]]:
        """What was read of revisions that are still there; the rest is forgotten."""
        there = {record.content for each in records.values() for record in each}
        kept = self._contents.get(key, {})
        for content in kept.keys() - there:
            del kept[content]
        return {content: pickle.loads(zlib.decompress(packed)) for content, packed in kept.items()}

    def _child(self, key: Key, manifest: Manifest) -> Child:
        """An object as it is kept. `managedFields` are most of it, and are looked at once."""
        stack = self.stacks.get(key)
        is_whole = stack is not None and any(pointers_of(stack, ref_of(manifest)))
        manager = manager_of(manifest)
        release = annotations_of(manifest).get(RELEASE_NAME, "") if manager == FIELD_MANAGER else ""
        return Child(slim_child(manifest, is_whole=is_whole), owned_digest(manifest, manager), is_whole, release)

    def _is_news(self, key: Key, ref: Ref, answer: Manifest) -> bool:
        """Whether an answer of the API server, or a deletion, is not older than what a watch has told meanwhile."""
        child, record = self._children.get(key, {}).get(ref), self._records.get(key, {}).get(ref)
        known = (
            resource_version_of(child.manifest) if child is not None else record.version if record is not None else ""
        )
        return self._answers.setdefault(key, Answers(self._time)).is_news(ref, answer, known)

    def _record_seen(self, key: Key, ref: Ref, secret: Manifest) -> None:
        try:
            self._records.setdefault(key, {})[ref] = from_secret(secret).summary()
        except RecordUnreadable:
            self._records.get(key, {}).pop(ref, None)
        self._changed(key)


def _key(stack: Manifest) -> Key:
    return Key(stack["metadata"]["namespace"], stack["metadata"]["name"])


def _key_of_child(manifest: Manifest) -> Key | None:
    name = labels_of(manifest).get(STACK_LABEL)
    return Key(manifest["metadata"].get("namespace", ""), name) if name else None
