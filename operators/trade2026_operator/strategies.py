"""What watches have told of strategies, and which stack each of them belongs to."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from trade2026_operator.kube import Kube, KubeError, NotFound
from trade2026_operator.lists import Listed
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.hosting import Hosting, is_to_run, version_of
from trade2026_operator.reconcile.objects import API_VERSION, Manifest, is_older, uid_of
from trade2026_operator.slim import slim_stack

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


class Strategies:
    """Every strategy that was seen.

    Args:
        stacks: Every stack that was seen, kept by its owner.
        stack_changed: Called with the stack whose strategies have become others.
        changed: Called with each strategy of which something has become different.
    """

    def __init__(
        self, stacks: dict[Key, Manifest], stack_changed: Callable[[Key], None], changed: Callable[[Key], None]
    ) -> None:
        self._stacks, self._stack_changed, self._changed = stacks, stack_changed, changed
        self._by_namespace: dict[str, dict[str, Manifest]] = {}
        self._hosting: dict[Key, Hosting] = {}

    def get(self, key: Key) -> Manifest | None:
        """A strategy; None if there is none of that name."""
        return self._by_namespace.get(key.namespace, {}).get(key.name)

    def __len__(self) -> int:
        return sum(map(len, self._by_namespace.values()))

    def seen(self, manifest: Manifest) -> None:
        """A watch told of a strategy."""
        key, kept = _key(manifest), slim_stack(manifest)
        before = self.get(key)
        if before == kept or (before is not None and uid_of(before) != uid_of(kept) and is_older(kept, before)):
            return
        self._by_namespace.setdefault(key.namespace, {})[key.name] = kept
        self._changed(key)
        if before is None or _asks(before) != _asks(manifest):
            self._tell_stack(manifest)

    def gone(self, manifest: Manifest) -> None:
        """It is deleted."""
        key, known = _key(manifest), self.get(_key(manifest))
        if known is not None and uid_of(known) != uid_of(manifest):
            return  # it was made again, and that was told first
        self._by_namespace.get(key.namespace, {}).pop(key.name, None)
        self._changed(key)
        self._tell_stack(manifest)

    def listed(self, listed: Listed) -> None:
        """All that there are: another is deleted."""
        for each in [each for found in self._by_namespace.values() for each in found.values()]:
            if listed.lacks(*_key(each)):
                self.gone(each)

    def stack_changed(self, key: Key) -> None:
        """A stack is another one than it was, or gone: who belongs to it looks again, and who has no other, too."""
        if key not in self._stacks:
            self._hosting.pop(key, None)
        for name in self._by_namespace.get(key.namespace, {}):
            self._changed(Key(key.namespace, name))

    def of(self, key: Key) -> list[Manifest]:
        """The strategies of a stack, by name."""
        found = self._by_namespace.get(key.namespace, {})
        return [found[name] for name in sorted(found) if self.stack_of(found[name])[0] == key]

    def stack_of(self, strategy: Manifest) -> tuple[Key | None, str]:
        """The stack that a strategy belongs to; None, and why, if there is none."""
        namespace = strategy["metadata"]["namespace"]
        there = sorted(key.name for key in self._stacks if key.namespace == namespace)
        named = (strategy["spec"].get("stackRef") or {}).get("name")
        if named is not None:
            if named in there:
                return Key(namespace, named), ""
            known = f"; there is {', '.join(there)}" if there else ""
            return None, f"there is no TradingStack {named} in {namespace}{known}: it begins when there is one"
        before = (strategy.get("status") or {}).get("stack")
        if before in there:
            return Key(namespace, before), ""  # another that comes later takes it from nobody
        if before:
            return (
                None,
                f"its TradingStack {before} is gone: it goes on when that is there again; for another, make another strategy",
            )
        if len(there) == 1:
            return Key(namespace, there[0]), ""
        if not there:
            return None, f"there is no TradingStack in {namespace}: it begins when there is one"
        return (
            None,
            f"{namespace} has several TradingStacks ({', '.join(there)}): delete it and make it again with spec.stackRef",
        )

    def hosted(self, key: Key, hosting: Hosting) -> None:
        """What the process of a stack's strategies runs now."""
        if self._hosting.get(key) != hosting:
            self._hosting[key] = hosting
            self.stack_changed(key)

    def hosting(self, key: Key) -> Hosting:
        """What is known of that."""
        return self._hosting.get(key, Hosting())

    def _tell_stack(self, strategy: Manifest) -> None:
        stack, _ = self.stack_of(strategy)
        if stack is not None:
            self._stack_changed(stack)


def _asks(strategy: Manifest) -> object:
    return version_of(strategy), is_to_run(strategy)


def _key(strategy: Manifest) -> Key:
    return Key(strategy["metadata"]["namespace"], strategy["metadata"]["name"])


async def know(kube: Kube, kind: str, seen: Callable[[Manifest], None], namespaces: Sequence[str]) -> None:
    """List every stack or strategy, before any is looked at.

    A strategy that is not known yet is not wanted, and would be ended; one whose stack is not known yet seems to have
    none, and would be let go with its orders working. Who vanishes between this and the first watch is missing in
    its list.

    Args:
        kind: TradingStack or Strategy.
        namespaces: Those that are kept; none means all.
    """
    for namespace in namespaces or ("",):
        while True:
            try:
                found = await kube.listed(API_VERSION, kind, namespace)
            except NotFound:
                break  # they are not defined here
            except KubeError as error:
                log.warning("no %s can be listed yet: %s", kind, error)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            for each in found:
                seen(each)
            break
