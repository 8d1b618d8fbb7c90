"""What a process is told where it runs: the planner's settings are the same on a laptop and in a pod."""

import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trade2026.kit.cell_service import CellService
from trade2026.kit.peers import Peers
from trade2026.kit.service import instance
from trade2026.kit.settings import ProcessSettings, placed
from trade2026.local.state import write_atomically


def settings(**changes: Any) -> ProcessSettings:
    given: dict[str, Any] = {
        "stack": "desk",
        "release": "oms",
        "services": ["oms"],
        "config_hash": "",
        "allowed_versions": [],
        "instruments": [],
        "venues": [],
        "topics": [],
        "ports": {"oms": 8099, "risk": 8103, "hot_cache": 8088},
        "peers": {"oms": [{"name": "risk", "port": 8103}, {"name": "hot_cache", "port": 8088}]},
        "state_dir": "/laptop",
    }
    return msgspec.convert(given | changes, ProcessSettings)


def test_what_is_not_said_stays_as_the_planner_wrote_it() -> None:
    assert placed(settings()) == settings()


def test_a_pod_says_where_it_listens_and_keeps_its_things() -> None:
    found = placed(settings(), host="0.0.0.0", state_dir="/state", keys_file="/keys/keys.json", address="10.1.0.7")
    assert (found.host, found.state_dir, found.keys_file, found.address) == (
        "0.0.0.0", "/state", "/keys/keys.json", "10.1.0.7",
    )  # fmt: skip


def test_replicas_with_the_same_settings_have_names_of_their_own() -> None:
    assert [placed(settings(), replica=number).release for number in (0, 1, 2)] == ["oms", "oms-1", "oms-2"]


def test_who_listens_everywhere_asks_the_others_on_loopback() -> None:
    assert settings(host="0.0.0.0").url("risk") == "http://127.0.0.1:8103"
    assert settings(host="::").url("risk") == "http://[::1]:8103"


def test_in_a_cluster_other_services_have_names_and_those_of_the_same_process_none() -> None:
    found = placed(settings(services=["oms", "risk"]), host="0.0.0.0", service_host="desk-{service}")
    assert found.url("hot_cache") == "http://desk-hot-cache:8088"
    assert found.url("risk") == "http://127.0.0.1:8103"


def test_in_a_cluster_a_service_is_asked_at_those_that_are_ready_and_then_at_all() -> None:
    found = placed(settings(), service_host="desk-{service}")
    assert found.urls("risk") == ["http://desk-risk:8103", "http://desk-risk-pods:8103"]
    where = found.addresses("risk")
    where.move_on(where.url)
    assert where.url == "http://desk-risk-pods:8103"


def test_the_health_of_a_peer_names_the_host_where_it_was_asked() -> None:
    health = Peers(placed(settings(), service_host="desk-{service}")).health("oms")
    assert health["peer_hot_cache"].detail == "desk-hot-cache:8088: not asked yet"
    assert Peers(settings()).health("oms")["peer_risk"].detail == "port 8103: not asked yet"


@pytest.mark.parametrize(("address", "known"), [("", "0.0.0.0:8099"), ("10.1.0.7", "10.1.0.7:8099")])
def test_other_replicas_are_told_the_address_of_the_pod(address: str, known: str) -> None:
    found = placed(settings(host="0.0.0.0"), address=address)
    assert CellService.member_of(found, "oms").address == known


def test_the_first_process_of_a_container_is_named_after_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert instance() == socket.gethostname()


def test_two_containers_write_one_file_without_getting_in_each_others_way(tmp_path: Path) -> None:
    temporary: list[str] = []
    replace = os.replace

    def replacing(source: Path, target: Path) -> None:
        temporary.append(source.name)
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        patch.setattr(os, "replace", replacing)
        write_atomically(tmp_path / "VERSION", b"1")
        write_atomically(tmp_path / "VERSION", b"1")
    assert len(set(temporary)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["VERSION"]
