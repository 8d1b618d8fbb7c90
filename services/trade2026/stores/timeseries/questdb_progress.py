"""How far the rows in QuestDB reach: positions and state as a journal of their own, which only the last writer counts in.

QuestDB has no transaction over tables and no way to write a row only if nobody else did. So whoever opens the store
claims it: it takes a higher epoch, copies what counts under it, and says so in `writer_claims`. What a writer before
it still writes is of an older epoch and counts for nobody. A value that is gone is written as null. One batch is one
request to one table, which QuestDB commits as a whole; older partitions are dropped once their values are copied.
"""

import base64
import json
import time
from collections.abc import Mapping

from trade2026.stores.timeseries.ilp import quoted
from trade2026.stores.timeseries.port import Batch, Partition
from trade2026.stores.timeseries.questdb_http import QuestDbHttp

CLAIMS, JOURNAL = "writer_claims", "writer_progress"
DDL = {
    CLAIMS: f"CREATE TABLE IF NOT EXISTS {CLAIMS} (timestamp TIMESTAMP, epoch LONG, stack VARCHAR, folders VARCHAR)"
    " TIMESTAMP(timestamp) PARTITION BY YEAR WAL",
    JOURNAL: f"CREATE TABLE IF NOT EXISTS {JOURNAL} (timestamp TIMESTAMP, epoch LONG, name VARCHAR, value VARCHAR)"
    " TIMESTAMP(timestamp) PARTITION BY HOUR WAL",
}
JOURNALED_MAX = 250_000
"""Values after which those that count are copied anew, and the others dropped."""
_OFFSET, _STATE = "offset:", "state:"


class QuestDbProgress:
    """The journal as one writer has claimed it.

    Args:
        http: On which everything is asked; the caller sees to it that one thread does at a time.
        stack: Whose store it is.
    """

    def __init__(self, http: QuestDbHttp, stack: str) -> None:
        self._http, self.stack = http, stack
        self.epoch = 0
        self._time = 0
        self._journaled = 0

    @property
    def is_long(self) -> bool:
        """Whether it should be claimed anew, to be shorter."""
        return self._journaled > JOURNALED_MAX

    def last_claim(self) -> tuple[str, dict[str, str]]:
        """The stack that claimed the store, and the folder of each table that it had then; empty if none has."""
        found = self._http.rows(f"SELECT stack, folders FROM {CLAIMS} ORDER BY epoch DESC LIMIT 1")
        return (found[0][0], json.loads(found[0][1])) if found else ("", {})

    def newest_epoch(self) -> int:
        """Of the last claim; 0 if there was none."""
        return self._number(f"SELECT max(epoch) FROM {CLAIMS}")

    def copied(self) -> None:
        """The first step of a claim: copy what counts under a new epoch. To be applied before the second."""
        newest = self.newest_epoch()
        self.epoch = max(newest + 1, time.time_ns() // 1000)
        latest = self._number(f"SELECT max(timestamp)::LONG FROM {JOURNAL}")
        self._time = max(self._time, latest, self.epoch) + 1
        self._http.rows(
            f"INSERT INTO {JOURNAL} SELECT {self._time}::TIMESTAMP, {self.epoch}, name, value FROM"
            f" (SELECT name, value FROM {JOURNAL} WHERE epoch = {newest} LATEST ON timestamp PARTITION BY name)"
            " WHERE value IS NOT NULL"
        )

    def claimed(self, folders: Mapping[str, str]) -> None:
        """The second step: from here on only what is written under our epoch counts."""
        values = f"{self.epoch}::TIMESTAMP, {self.epoch}, '{self.stack}', '{json.dumps(folders)}'"
        self._http.rows(f"INSERT INTO {CLAIMS} VALUES ({values})")
        self._journaled = 0

    def drop_old(self) -> None:
        """The third: drop the partitions in which nothing counts any more."""
        rows = self._http.rows(
            f"SELECT name FROM table_partitions('{JOURNAL}') WHERE maxTimestamp < date_trunc('hour', {self._time}::TIMESTAMP)"
        )
        if rows:
            self._http.rows(f"ALTER TABLE {JOURNAL} DROP PARTITION LIST {', '.join(repr(name) for (name,) in rows)}")

    def read(self) -> tuple[dict[Partition, int], dict[str, bytes]]:
        """The positions and the state that count."""
        offsets: dict[Partition, int] = {}
        state: dict[str, bytes] = {}
        rows = self._http.rows(
            f"SELECT name, value FROM {JOURNAL} WHERE epoch = {self.epoch} LATEST ON timestamp PARTITION BY name"
        )
        for name, value in rows:
            if value is not None and name.startswith(_OFFSET):
                topic, _, partition = name.removeprefix(_OFFSET).rpartition("/")
                offsets[topic, int(partition)] = int(value)
            elif value is not None:
                state[name.removeprefix(_STATE)] = base64.b64decode(value)
        return offsets, state

    def lines(self, batch: Batch) -> bytes:
        """What is to be remembered of a batch, as one request."""
        values: dict[str, str | None] = {
            f"{_OFFSET}{topic}/{partition}": str(position) for (topic, partition), position in batch.offsets.items()
        }
        for name, value in batch.state.items():
            values[_STATE + name] = None if value is None else base64.b64encode(value).decode()
        self._time = max(self._time + 1, time.time_ns() // 1000)
        self._journaled += len(values)
        return "".join(self._line(name, value) for name, value in values.items()).encode()

    def _number(self, sql: str) -> int:
        rows = self._http.rows(sql)
        return int(rows[0][0] or 0) if rows else 0

    def _line(self, name: str, value: str | None) -> str:
        shown = "" if value is None else f',value="{value}"'
        return f'{JOURNAL} epoch={self.epoch}i,name="{quoted(name)}"{shown} {self._time}\n'
