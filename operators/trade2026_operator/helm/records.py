"""Helm's own record of a release, written from Python: one revision, one Secret.

`helm list`, `history`, `get`, `rollback`, `upgrade` and `uninstall` read nothing else. The Secret is called
`sh.helm.release.v1.NAME.vREVISION`; what it holds is JSON, compressed, in base64 of its own. The fields are those of
Helm 4 (`pkg/release/v1`).
"""

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from trade2026_operator.helm.manifests import Manifest
from trade2026_operator.inputs import desk_of

SECRET_TYPE = "helm.sh/release.v1"
WRITTEN_BY = "trade2026.io/written-by"
"""Annotation of a record that the operator wrote. Helm hands down a release's labels to the records that a person's
commands make, but no annotations: so what lacks it is a person's."""
OPERATOR = "trade2026-operator"
ORIGIN = "trade2026.io/origin"
"""Annotation of a record of the operator's: `Origin` as JSON."""
_SPECS = "specs"
"""Beside what Helm reads: `Record.specs` as JSON, compressed."""
RECORD_BYTES_MAX = 1_000_000
"""The API server takes no larger object."""


class Status(StrEnum):
    """Of a revision, in Helm's words."""

    UNKNOWN = "unknown"
    DEPLOYED = "deployed"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"

    @property
    def is_pending(self) -> bool:
        """Whether somebody is at work, or was stopped while at it: Helm refuses to begin anything meanwhile."""
        return self in (Status.PENDING_INSTALL, Status.PENDING_UPGRADE, Status.PENDING_ROLLBACK)


class RecordUnreadable(ValueError):
    """A Secret holds no record of a release; the message says what is wrong with it."""


@dataclass(frozen=True)
class Origin:
    """What a revision was made of: what the operator knows of it beyond what Helm keeps."""

    inputs: tuple[str, ...] = ()
    """Hashes of what people had asked for, the newest last: a change that makes no difference to a release is only
    noted here."""
    version: str = ""
    """Of the platform."""
    event_format: int = 0
    """That its writers write; 0: not known."""
    instead_of: str = ""
    """What a revision that the operator has gone back to stands in for: the input that has failed."""
    deployed_at: str = ""
    """When its objects were ready, in RFC 3339; empty: not yet, or by an operator that did not note it."""
    strategies: tuple[str, ...] = ()
    """Those that ran when it was begun."""

    @property
    def desks(self) -> set[str]:
        """Of its inputs, the part of the desk."""
        return {desk_of(one) for one in self.inputs}


NO_ORIGIN = Origin()
"""Of what a person has made."""


@dataclass(frozen=True)
class Record:
    """One revision of a release."""

    name: str
    namespace: str
    revision: int
    status: Status
    chart: dict[str, Any]
    """A copy of the chart, as `Chart.copy` makes it."""
    values: dict[str, Any]
    """What was given beyond the chart's own: `helm get values`."""
    manifest: str
    first_deployed: datetime
    last_deployed: datetime
    description: str = ""
    """For a person, in `helm history`."""
    rollback_revision: int = 0
    """To which revision this one goes back; 0 for one that does not."""
    by_operator: bool = True
    origin: Origin = NO_ORIGIN
    summary_of: str = ""
    """Of a summary, which has no chart, values and manifest: the `content` of the whole."""
    specs: dict[str, Any] = field(default_factory=dict[str, Any])
    """By desk (see `inputs.desk_of`) of each of its inputs, what a person had written; of a summary, what is new."""
    uid: str = field(default="", compare=False)
    """Of the Secret that it was read from."""
    version: str = field(default="", compare=False)
    """In which that was then."""

    @property
    def secret_name(self) -> str:
        """Of the Secret that holds it."""
        return secret_name(self.name, self.revision)

    @cached_property
    def content(self) -> str:
        """See `content_of`."""
        return self.summary_of or content_of(self.chart, self.values, self.manifest)

    def summary(self) -> "Record":
        """All that decisions need: a whole record has some 100 KB, and a stack up to five of each release."""
        return replace(self, chart={}, values={}, manifest="", specs={}, summary_of=self.content)

    def completed(self, whole: "Record") -> "Record":
        """This summary, with what it leaves out from a record as it was read."""
        specs = {desk: spec for desk, spec in {**whole.specs, **self.specs}.items() if desk in self.origin.desks}
        return replace(
            self, chart=whole.chart, values=whole.values, manifest=whole.manifest, specs=specs, summary_of=""
        )


def content_of(chart: dict[str, Any], values: dict[str, Any], manifest: str) -> str:
    """SHA-256 of what a revision consists of, by which two are compared."""
    text = json.dumps([chart, values, manifest], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def secret_name(release: str, revision: int) -> str:
    """What the Secret of a revision is called."""
    return f"sh.helm.release.v1.{release}.v{revision}"


def selector(release: str) -> str:
    """The labels by which all records of a release are found."""
    return f"owner=helm,name={release}"


def to_secret(record: Record, modified_at: datetime, labels: dict[str, str] | None = None) -> Manifest:
    """The Secret of a record.

    Args:
        labels: More of them; Helm hands them down to the next revision.

    Raises:
        ValueError: it is too large for the API server.
    """
    data = {"release": base64.b64encode(_encode(record).encode()).decode()}
    if record.specs:
        data[_SPECS] = base64.b64encode(gzip.compress(_compact(record.specs), 9, mtime=0)).decode()
    size = sum(map(len, data.values()))
    if size > RECORD_BYTES_MAX:
        raise ValueError(f"the record of {record.name} would have {size} bytes, more than {RECORD_BYTES_MAX}")
    own = {
        "name": record.name,
        "owner": "helm",
        "status": record.status.value,
        "version": str(record.revision),
        "modifiedAt": str(int(modified_at.timestamp())),
    }
    metadata: dict[str, Any] = {
        "name": record.secret_name,
        "namespace": record.namespace,
        "labels": {**(labels or {}), **own},
    }
    if record.by_operator:
        metadata["annotations"] = {WRITTEN_BY: OPERATOR, ORIGIN: json.dumps(asdict(record.origin))}
    return {"apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "metadata": metadata, "data": data}


def from_secret(secret: Manifest) -> Record:
    """Read a record, whoever wrote it.

    Raises:
        RecordUnreadable: it is none, or none that this code can read.
    """
    metadata: dict[str, Any] = secret["metadata"]
    annotations: dict[str, str] = metadata.get("annotations") or {}
    try:
        found = _decode(secret["data"]["release"])
        info = found["info"]
        return Record(
            name=found["name"],
            namespace=found.get("namespace", metadata.get("namespace", "")),
            revision=int(found["version"]),
            status=Status(info.get("status", "unknown")),
            chart=found.get("chart") or {},
            values=found.get("config") or {},
            manifest=found.get("manifest", ""),
            first_deployed=_time(info.get("first_deployed")),
            last_deployed=_time(info.get("last_deployed")),
            description=info.get("description", ""),
            rollback_revision=int(info.get("rollback_revision", 0)),
            by_operator=annotations.get(WRITTEN_BY) == OPERATOR,
            origin=_origin(annotations.get(ORIGIN, "{}")),
            uid=metadata.get("uid", ""),
            version=metadata.get("resourceVersion", ""),
            specs=json.loads(gzip.decompress(base64.b64decode(said))) if (said := secret["data"].get(_SPECS)) else {},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError, EOFError, zlib.error) as error:
        raise RecordUnreadable(f"the Secret {metadata.get('name')} holds no record of a release: {error!r}") from error


def history(secrets: Iterable[Manifest]) -> list[Record]:
    """The records of one release, the oldest first. Raises `RecordUnreadable`."""
    return sorted((from_secret(secret) for secret in secrets), key=lambda record: record.revision)


def superseded(record: Record) -> Record:
    """The same after a newer one has taken its place."""
    return replace(record, status=Status.SUPERSEDED)


def _encode(record: Record) -> str:
    assert not record.summary_of, f"{record.secret_name}: a summary can't be written"
    info: dict[str, Any] = {
        "first_deployed": _text(record.first_deployed),
        "last_deployed": _text(record.last_deployed),
        "description": record.description,
        "status": record.status.value,
    }
    if record.rollback_revision:
        info["rollback_revision"] = record.rollback_revision
    document = {
        "name": record.name,
        "info": info,
        "chart": record.chart,
        "config": record.values,
        "manifest": record.manifest,
        "version": record.revision,
        "namespace": record.namespace,
        "apply_method": "ssa",
    }
    return base64.b64encode(gzip.compress(_compact(document), 9, mtime=0)).decode()


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _decode(data: str) -> dict[str, Any]:
    try:
        inner = base64.b64decode(base64.b64decode(data, validate=True), validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64 in base64: {error}") from error
    return json.loads(gzip.decompress(inner) if inner[:3] == b"\x1f\x8b\x08" else inner)


def _origin(text: str) -> Origin:
    """What is missing or new in it, from an operator of another version, does no harm."""
    said: dict[str, Any] = json.loads(text)
    return Origin(
        inputs=tuple(said.get("inputs", ())),
        version=said.get("version", ""),
        event_format=said.get("event_format", 0),
        instead_of=said.get("instead_of", ""),
        deployed_at=said.get("deployed_at", ""),
        strategies=tuple(said.get("strategies", ())),
    )


def _text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(text: str | None) -> datetime:
    """RFC 3339 as Go writes it, with nanoseconds and any zone; the epoch where nothing is said."""
    if not text:
        return datetime.fromtimestamp(0, UTC)
    return datetime.fromisoformat(text)
