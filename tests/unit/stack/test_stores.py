"""What the manifest says of stores reaches the process that keeps one, and no other."""

from pathlib import Path

import pytest
from bench.stack import ROOT

from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.local.infra.wanted import wanted, with_addresses
from trade2026.local.stores import with_files
from trade2026.stack.manifest import ManifestError, load_all
from trade2026.stack.planner import plan

QUICKSTART = (ROOT / "manifests" / "quickstart.yaml").read_text()


def with_stores(text: str) -> str:
    return QUICKSTART.replace("spec:\n", f"spec:\n  stores: {text}\n", 1)


QUESTDB = with_stores('{timeseries: {type: questdb, url: "http://127.0.0.1:9010"}}')


def test_only_the_process_that_keeps_a_store_is_told_where_it_is() -> None:
    told = {release.name: release.settings["stores"] for release in plan(load_all(QUESTDB).stack).releases}
    store = told.pop("data")["timeseries"]
    assert (store["type"], store["url"]) == ("questdb", "http://127.0.0.1:9010")
    assert not any(told.values())


def test_a_store_that_is_not_named_is_not_spoken_of() -> None:
    assert not any(release.settings["stores"] for release in plan(load_all(QUICKSTART).stack).releases)


@pytest.mark.parametrize(
    ("stores", "fault"),
    [
        ("{timeseries: {type: questdb}}", "type questdb needs url"),
        ('{timeseries: {url: "http://127.0.0.1:9010"}}', "url is for a server"),
        ('{timeseries: {type: questdb, url: "127.0.0.1:9010"}}', "url"),
        ('{timeseries: {type: questdb, url: "http://admin:quest@127.0.0.1:9010"}}', "url"),
        ('{timeseries: {type: influx, url: "http://127.0.0.1:9010"}}', "questdb"),
        ('{timeseries: {type: questdb, url: "http://127.0.0.1:9010", password: quest}}', "password"),
        ("{cache: {type: valkey}}", "type valkey needs url"),
        ('{cache: {type: valkey, url: "redis://me:secret@127.0.0.1:6379"}}', "url"),
        ('{cache: {type: valkey, url: "redis://127.0.0.1"}}', "url"),
        ('{cache: {type: valkey, url: "redis://127.0.0.1:6379", password: quest}}', "password"),
        ("{lake: {type: s3}}", "type s3 needs url"),
        ('{lake: {type: s3, url: "s3://lake", endpoint: "127.0.0.1:8333"}}', "endpoint"),
        ('{lake: {endpoint: "http://127.0.0.1:8333"}}', "endpoint is for a bucket"),
        ('{lake: {type: s3, url: "s3://lake", secretKey: quest}}', "secretKey"),
        ('{lake: {type: s3, url: "s3://lake", secretKeyVariable: "open sesame"}}', "secretKeyVariable"),
        ("{timeserie: {type: questdb}}", "timeseries"),
        ("{analytics: {type: clickhouse}}", "type clickhouse needs url"),
        ('{analytics: {url: "clickhouse://127.0.0.1:9011"}}', "url is for a server"),
        ('{analytics: {type: clickhouse, url: "http://127.0.0.1:8123"}}', "url"),
        ('{analytics: {type: clickhouse, url: "clickhouse://127.0.0.1:9011", password: x}}', "password"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(stores: str, fault: str) -> None:
    with pytest.raises(ManifestError, match=fault):
        load_all(with_stores(stores))


def test_a_store_that_we_start_is_found_where_it_was_started(tmp_path: Path) -> None:
    planned = plan(load_all(QUESTDB).stack, port_offset=1000)
    (questdb,) = wanted(planned, tmp_path, 1000)
    assert (questdb.name, questdb.port) == ("questdb", 10_010)
    data = planned.release("data")
    assert data is not None
    assert with_addresses(data.settings, [questdb])["stores"]["timeseries"]["url"] == "http://127.0.0.1:10010"
    assert with_addresses(data.settings, [])["stores"] == data.settings["stores"]


def test_a_cache_server_is_told_to_the_process_of_the_cache_and_keeps_its_database(tmp_path: Path) -> None:
    manifest = with_stores('{cache: {type: valkey, url: "redis://cache.example:6379/3"}}')
    planned = plan(load_all(manifest).stack, port_offset=1000)
    (valkey,) = wanted(planned, tmp_path, 1000)
    assert (valkey.name, valkey.port) == ("valkey", 7379)
    data = planned.release("data")
    assert data is not None
    assert with_addresses(data.settings, [valkey])["stores"]["cache"]["url"] == "redis://127.0.0.1:7379/3"


def test_a_bucket_is_started_where_its_endpoint_is_and_one_of_amazons_is_not(tmp_path: Path) -> None:
    lake = 'lake: {type: s3, url: "s3://desk/quickstart", endpoint: "http://127.0.0.1:8333"}'
    planned = plan(load_all(with_stores(f"{{{lake}}}")).stack, port_offset=1000)
    (seaweedfs,) = wanted(planned, tmp_path, 1000)
    assert isinstance(seaweedfs, SeaweedFs)
    assert (seaweedfs.port, seaweedfs.bucket) == (9333, "desk")
    data = planned.release("data")
    assert data is not None
    store = with_addresses(data.settings, [seaweedfs])["stores"]["lake"]
    assert (store["url"], store["endpoint"]) == ("s3://desk/quickstart", "http://127.0.0.1:9333")
    amazon = plan(load_all(with_stores('{lake: {type: s3, url: "s3://desk/quickstart"}}')).stack)
    assert wanted(amazon, tmp_path, 0) == []


def test_every_process_is_told_of_the_lake_because_old_records_of_the_log_may_lie_there() -> None:
    planned = plan(load_all(with_stores('{lake: {type: s3, url: "s3://desk/quickstart"}}')).stack)
    assert {release.settings["stores"]["lake"]["url"] for release in planned.releases} == {"s3://desk/quickstart"}


def test_files_of_a_store_are_meant_from_where_the_manifest_is(tmp_path: Path) -> None:
    named = {"cache": {"type": "valkey", "url": "redis://h:1", "password_file": "secret", "ca_file": "/etc/ca.pem"}}
    found = with_files({**named, "timeseries": {"type": "questdb", "password_file": ""}}, tmp_path)
    assert found["cache"]["password_file"] == str(tmp_path / "secret")
    assert found["cache"]["ca_file"] == "/etc/ca.pem" and found["timeseries"]["password_file"] == ""


def test_analytics_are_none_embedded_or_a_server(tmp_path: Path) -> None:
    def told(stores: str) -> dict[str, object]:
        text = with_stores(stores).replace("spec:\n", "spec:\n  services: {sink-alt: {}}\n", 1)
        planned = plan(load_all(text).stack, port_offset=1000)
        data = planned.release("data")
        assert data is not None
        return with_addresses(data.settings, wanted(planned, tmp_path, 1000))["stores"]

    assert told("{analytics: {type: none}}") == told("{}") == {}
    embedded, server = (
        told("{analytics: {type: embedded}}"),
        told('{analytics: {type: clickhouse, url: "clickhouse://127.0.0.1:9011"}}'),
    )
    assert embedded["analytics"]["type"] == "embedded"  # type: ignore[index]
    assert server["analytics"]["url"] == "clickhouse://127.0.0.1:10011"  # type: ignore[index]
