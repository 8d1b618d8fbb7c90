"""Records of releases as Helm reads and writes them."""

import base64
import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from trade2026_operator.helm.records import (
    RECORD_BYTES_MAX,
    WRITTEN_BY,
    Record,
    RecordUnreadable,
    Status,
    from_secret,
    history,
    selector,
    to_secret,
)

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
CHART = {"metadata": {"name": "trade2026-service", "version": "0.1.0"}, "templates": [], "values": {}, "files": []}


def record(revision: int = 1, **changes: Any) -> Record:
    made = Record(
        name="desk-oms",
        namespace="trading",
        revision=revision,
        status=Status.DEPLOYED,
        chart=CHART,
        values={"stack": "desk", "replicas": 2},
        manifest="---\nkind: Service\n",
        first_deployed=NOON,
        last_deployed=NOON + timedelta(minutes=revision),
        description="made as the spec says",
    )
    return replace(made, **changes)


def inside(secret: dict[str, Any]) -> dict[str, Any]:
    return json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))


def test_a_record_that_was_written_is_read_as_it_was() -> None:
    for made in (record(), record(7, status=Status.FAILED, rollback_revision=3, description="größer")):
        assert from_secret(to_secret(made, NOON)) == made


def test_the_secret_is_named_typed_and_labelled_as_helm_looks_for_it() -> None:
    secret = to_secret(record(3, status=Status.PENDING_UPGRADE), NOON)
    assert secret["type"] == "helm.sh/release.v1"
    assert secret["metadata"]["name"] == "sh.helm.release.v1.desk-oms.v3"
    assert secret["metadata"]["labels"] == {
        "name": "desk-oms",
        "owner": "helm",
        "status": "pending-upgrade",
        "version": "3",
        "modifiedAt": str(int(NOON.timestamp())),
    }
    assert selector("desk-oms") == "owner=helm,name=desk-oms"


def test_labels_of_ours_stand_beside_helms_and_never_instead() -> None:
    labels = to_secret(record(), NOON, {"trade2026.io/stack": "desk", "owner": "me"})["metadata"]["labels"]
    assert (labels["trade2026.io/stack"], labels["owner"]) == ("desk", "helm")


def test_the_document_has_helms_names_and_says_that_objects_were_applied_by_the_server() -> None:
    found = inside(to_secret(record(2), NOON))
    assert (found["version"], found["namespace"], found["apply_method"]) == (2, "trading", "ssa")
    assert found["config"] == {"stack": "desk", "replicas": 2}
    assert found["info"]["last_deployed"] == "2026-11-28T12:02:00Z"
    assert "rollback_revision" not in found["info"]


def test_the_same_record_has_the_same_bytes() -> None:
    assert to_secret(record(), NOON) == to_secret(record(), NOON)


def test_what_helm_wrote_is_a_persons() -> None:
    secret = to_secret(record(), NOON)
    del secret["metadata"]["annotations"][WRITTEN_BY]
    assert not from_secret(secret).by_operator
    assert "annotations" not in to_secret(record(by_operator=False), NOON)["metadata"]


def test_times_as_go_writes_them_are_read() -> None:
    secret = to_secret(record(), NOON)
    document = inside(secret)
    document["info"] |= {"first_deployed": "2026-11-28T13:00:00.123456789+01:00", "last_deployed": ""}
    text = base64.b64encode(gzip.compress(json.dumps(document).encode()))
    secret["data"]["release"] = base64.b64encode(text).decode()
    found = from_secret(secret)
    assert found.first_deployed == datetime(2026, 11, 28, 13, 0, 0, 123456, timezone(timedelta(hours=1)))
    assert found.last_deployed == datetime.fromtimestamp(0, UTC)


def test_records_come_in_the_order_of_their_revisions() -> None:
    secrets = [to_secret(record(number), NOON) for number in (10, 9, 11, 1)]
    assert [each.revision for each in history(secrets)] == [1, 9, 10, 11]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"release": "?"},
        {"release": base64.b64encode(b"%%").decode()},
        {"release": base64.b64encode(base64.b64encode(b"\x1f\x8b\x08 no gzip")).decode()},
        {"release": base64.b64encode(base64.b64encode(b"[]")).decode()},
        {
            "release": base64.b64encode(
                base64.b64encode(b'{"name": "a", "version": 1, "info": {"status": "?"}}')
            ).decode()
        },
    ],
)
def test_what_is_no_record_is_refused_by_its_name(data: dict[str, str]) -> None:
    with pytest.raises(RecordUnreadable, match=r"sh\.helm\.release\.v1\.desk\.v1 holds no record"):
        from_secret({"metadata": {"name": "sh.helm.release.v1.desk.v1"}, "data": data})


def test_a_record_that_the_api_server_would_refuse_is_not_made() -> None:
    import random

    noise = random.Random(1).randbytes(RECORD_BYTES_MAX).hex()
    with pytest.raises(ValueError, match="more than"):
        to_secret(record(manifest=noise), NOON)
