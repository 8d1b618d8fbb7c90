"""What one process says of itself at one moment, out of its `/metrics`: counts since it was started. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from trade2026.stack.facts import SERVICES, TOPICS

REQUESTS, ERRORS = "trade2026_request_seconds", "trade2026_request_errors_total"
SUBMISSIONS = "trade2026_submissions_total"
COMMANDS, WAITING = "trade2026_commands_total", "trade2026_commands_waiting"
POSITION, BEHIND, BEHIND_SECONDS = (
    "trade2026_follower_position",
    "trade2026_follower_lag_events",
    "trade2026_follower_lag_seconds",
)
LOOP_CPU, PROCESS_CPU, CPU_LIMIT = (
    "trade2026_event_loop_cpu_seconds_total",
    "process_cpu_seconds",
    "process_cpu_limit_cores",
)
_COUNT_MAX = 2.0**53
"""More, or none of a number, is no count: sums of such would not be finite."""
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TAKEN = (
    REQUESTS,
    ERRORS,
    SUBMISSIONS,
    COMMANDS,
    WAITING,
    POSITION,
    BEHIND,
    BEHIND_SECONDS,
    LOOP_CPU,
    PROCESS_CPU,
    CPU_LIMIT,
)


class Unreadable(ValueError):
    """These are not the metrics of a service of the platform; the message says what is missing."""


@dataclass(frozen=True)
class Sample:
    """Counts since the start of a process, and what waits now.

    Attributes:
        requests: Answered, without probes.
        within: Of those, how many took so many seconds at most; ascending, the last is infinite.
        busy_seconds: For which the process was busy, so that 1 a second is all it can do: of its event loop, or of its
            share of the processor if that is used up first.
        submissions: Commands that it has taken, a batch as one, by partition; empty where work is not split. Over a
            WebSocket they come without a request.
        waiting: Of those, how many wait; of a fold of the log, the records that it is behind.
        folded: By partition of the log, the position after the last record that a fold has dealt with. Empty of a service
            that is asked for decisions: what it follows comes of its own work.
        behind: By the same, how many records there are after it.
        behind_seconds: Age of the oldest of those.
        errors: Of the requests, answered that the service can't (5xx).
    """

    requests: float
    within: tuple[tuple[float, float], ...]
    busy_seconds: float
    submissions: dict[str, float] = field(default_factory=dict[str, float])
    waiting: float = 0.0
    folded: dict[str, float] = field(default_factory=dict[str, float])
    behind: dict[str, float] = field(default_factory=dict[str, float])
    behind_seconds: float = 0.0
    errors: float = 0.0


def shared_topics(service: str) -> tuple[str, ...]:
    """What a fold of the log follows and its replicas share; empty of what decides, and records that, itself."""
    topics, facts = {each.name: each for each in TOPICS}, SERVICES[service]
    if any(topics[name].durable for name in facts.owns):
        return ()
    return tuple(name for name in facts.follows if topics[name].by_account)


def read_sample(text: str, service: str) -> Sample:
    """Read the metrics of a service.

    Raises:
        Unreadable: something is missing, or makes no sense.
    """
    try:
        return _read(text, service)
    except (KeyError, ValueError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"this makes no sense: {error!r}") from error


def _read(text: str, service: str) -> Sample:
    within: dict[float, float] = {}
    submissions: dict[str, float] = {}
    single: dict[str, float] = {}
    folded: dict[str, float] = {}
    behind: dict[str, float] = {}
    topics = shared_topics(service)
    commands = waiting = behind_seconds = 0.0
    for name, labels, value in _samples(text):
        if labels.get("service", service) != service:
            continue
        if name == f"{REQUESTS}_bucket":
            within[float(labels["le"])] = value
        elif name == SUBMISSIONS:
            submissions[labels["partition"]] = value
        elif name == COMMANDS:
            commands += value
        elif name == WAITING:
            waiting += value
        elif "topic" in labels:
            if labels["topic"] not in topics:
                continue
            partition = f"{labels['topic']}/{labels['partition']}"
            if name == BEHIND_SECONDS:
                behind_seconds = max(behind_seconds, value)
            else:
                (folded if name == POSITION else behind)[partition] = value
        else:
            single[name] = value
    missing = [name for name in (f"{REQUESTS}_count", LOOP_CPU, PROCESS_CPU) if name not in single]
    if missing or float("inf") not in within:
        raise Unreadable(f"{', '.join(missing) or REQUESTS + '_bucket'} is missing: is it of an older version?")
    limit = single.get(CPU_LIMIT, 0.0)
    busy = max(single[LOOP_CPU], single[PROCESS_CPU] / limit if limit > 0 else 0.0)
    waiting *= sum(submissions.values()) / commands if commands else 1.0
    waiting += sum(behind.values())
    done = single[f"{REQUESTS}_count"]
    errors = single.get(ERRORS, 0.0)
    return Sample(
        done, tuple(sorted(within.items())), busy, submissions, waiting, folded, behind, behind_seconds, errors
    )


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if not line.startswith(_TAKEN):
            continue
        head, _, rest = line.partition("} ") if "{" in line else line.partition(" ")
        name, _, inside = head.partition("{")
        try:
            value = float(rest.split(" ", 1)[0])
        except ValueError as error:
            raise Unreadable(f"this is no sample: {line[:80]!r}") from error
        if not abs(value) <= _COUNT_MAX:
            raise Unreadable(f"this is no count: {line[:80]!r}")
        yield name, dict(_LABEL.findall(inside)), value
