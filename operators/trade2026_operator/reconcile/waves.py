"""In which order releases are changed: a service after those that it follows or asks. Pure."""

from collections.abc import Mapping, Sequence

from trade2026.stack.facts import SERVICES, peers_of


def waves(services: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Releases that may be changed together, wave after wave.

    Those that need each other, as order management and gateway do, are changed one after the other.

    Args:
        services: By release, in the order in which they start, what each hosts.
    """
    needs = _needs(services)
    left, found = list(services), list[tuple[str, ...]]()
    while left:
        free = [name for name in left if not needs[name].intersection(left)]
        wave = tuple(free) or (_first_of_a_circle(left, needs),)
        found.append(wave)
        left = [name for name in left if name not in wave]
    return tuple(found)


def _needs(services: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """By release, those with a service that one of its own follows or asks."""
    home = {service: name for name, hosted in services.items() for service in hosted}
    return {
        name: {
            home[peer.name]
            for service in hosted
            if service in SERVICES
            for peer in peers_of(SERVICES[service])
            if peer.name in home
        }
        - {name}
        for name, hosted in services.items()
    }


def _first_of_a_circle(left: Sequence[str], needs: Mapping[str, set[str]]) -> str:
    """One that needs only what needs it, too: everything else of it has been changed."""
    reach = {name: _reached(name, left, needs) for name in left}
    return next(name for name in left if all(name in reach[other] for other in reach[name]))


def _reached(name: str, left: Sequence[str], needs: Mapping[str, set[str]]) -> set[str]:
    """All that one needs, and what that needs, and so on."""
    found, ahead = set[str](), [name]
    while ahead:
        fresh = needs[ahead.pop()].intersection(left) - found
        found |= fresh
        ahead += fresh
    return found
