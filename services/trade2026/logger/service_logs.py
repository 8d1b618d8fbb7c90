"""The logs that processes write for people, a JSON object a line, read from their ends."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trade2026.kit.views import time_text

LEVELS = ("debug", "info", "warning", "error", "critical")
READ_BYTES_MAX = 8 * 1024 * 1024
"""Of each file, from its end."""
_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True)
class LogFilters:
    """What a line must be; empty asks nothing. `level` is the least."""

    process: str = ""
    level: str = ""
    trace_id: str = ""
    text: str = ""


def search_logs(folder: Path, filters: LogFilters, limit: int) -> list[dict[str, Any]]:
    """The newest lines of all processes that fit, newest first."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.log*")):
        name = path.name.partition(".")[0]
        if filters.process in ("", name):
            found += _of_file(path, name, filters, limit)
    found.sort(key=lambda line: str(line.get("time", "")), reverse=True)
    return found[:limit]


def _of_file(path: Path, process: str, filters: LogFilters, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    wanted = filters.text.lower()
    try:
        time = time_text(path.stat().st_mtime_ns)
        for raw in _lines_backwards(path):
            if filters.trace_id not in raw or wanted not in raw.lower():
                continue
            line = _parsed(raw, process, time)
            time = str(line.get("time", time))
            if filters.level and LEVELS.index(line["level"]) < LEVELS.index(filters.level):
                continue
            found.append(line)
            if len(found) >= limit:
                break
    except OSError:
        return found  # it was rotated away just now
    return found


def _parsed(raw: str, process: str, time: str) -> dict[str, Any]:
    """A line that is none of ours, such as a crash of the interpreter, is told as it is, and as old as the next."""
    try:
        line = json.loads(raw)
    except ValueError:
        line = None
    if isinstance(line, dict) and line.get("level") in LEVELS:
        return {"process": process, **line}
    return {"process": process, "time": time, "level": "info", "message": raw}


def _lines_backwards(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        at = file.seek(0, 2)
        least = max(0, at - READ_BYTES_MAX)
        rest = b""
        while at > least:
            size = min(_BLOCK_BYTES, at - least)
            at -= size
            file.seek(at)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            for line in reversed(lines):
                if line:
                    yield line.decode("utf-8", "replace")
        if rest and at == 0:
            yield rest.decode("utf-8", "replace")
