"""`trade2026 cluster`: what is asked for reaches the cluster, and what it answers is said in words or as JSON."""

from pathlib import Path
from typing import Any

import pytest

from trade2026.local.cluster import cluster, image, metrics_server
from trade2026.local.cluster.place import ClusterError, Place


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the cluster was asked; it always does it."""
    made: list[tuple[Any, ...]] = []

    def answering(name: str, answer: Any) -> None:
        def call(place: Place, *arguments: Any) -> Any:
            made.append((name, str(place.state), *(each for each in arguments if not callable(each))))
            return answer

        monkeypatch.setattr(cluster, name, call)

    answering("up", 5.25)
    answering("run", None)
    answering("load", ["localhost/trade2026:1"])
    answering("kill", None)
    answering("down", True)
    answering("contents", {"sha256:1"})
    return made


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were built."""
    names: list[str] = []

    def build(out: Path, report: Any, name: str = image.NAME, without: Any = ()) -> str:
        names.append(f"{name} without {sorted(without)}" if without else name)
        out.write_bytes(b"x" * 2_000_000)
        return "sha256:0"

    monkeypatch.setattr(image, "build", build)
    return names


def test_up_says_how_long_it_took_and_where_the_kubeconfig_is(cli: Any, calls: list[Any]) -> None:
    assert "ready after 5.2 s" in cli("cluster", "up", "--state-dir", "/c").out
    told = cli("cluster", "up", "--state-dir", "/c", "--timeout", "9", "--json").json
    assert told == {"state": "/c", "kubeconfig": "/c/admin.conf", "seconds": 5.2}
    assert calls == [("up", "/c", 120.0), ("up", "/c", 9.0)]


def test_the_server_of_metrics_is_there_for_those_who_ask(
    cli: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "install", lambda place, report: calls.append(("installed", str(place.state))))
    cli("cluster", "up", "--state-dir", "/c", "--metrics-server")
    assert calls == [("up", "/c", 120.0), ("installed", "/c")]


def test_the_words_after_the_dashes_are_the_commands(cli: Any, calls: list[Any]) -> None:
    cli("cluster", "run", "--state-dir", "/c", "--", "kubectl", "get", "--help", "-o", "json")
    assert calls == [("run", "/c", ["kubectl", "get", "--help", "-o", "json"])]


def test_without_an_archive_the_platforms_own_image_is_built_and_loaded(
    cli: Any, calls: list[Any], built: list[str]
) -> None:
    assert cli("cluster", "load", "--state-dir", "/c").out == "localhost/trade2026:1 is in the cluster\n"
    assert built == [f"{image.NAME} without ['sha256:1']"], "what the cluster has is not sent again"
    assert calls[-1][:2] == ("load", "/c")


def test_an_archive_is_loaded_as_it_is(cli: Any, calls: list[Any], built: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.tar").touch()
    assert cli("cluster", "load", "x.tar", "--state-dir", "/c").code == 0
    assert built == []
    assert calls[-1] == ("load", "/c", Path("x.tar"))
    result = cli("cluster", "load", "none.tar", "--state-dir", "/c")
    assert (result.code, "none.tar is no file" in result.err) == (2, True)


def test_an_image_is_told_with_its_digest_and_size(cli: Any, built: list[str]) -> None:
    told = cli("cluster", "image", "-o", "x.tar", "--name", "localhost/y:2", "--json").json
    assert told == {"name": "localhost/y:2", "digest": "sha256:0", "bytes": 2_000_000, "file": "x.tar"}
    assert "(sha256:0, 2 MB) is in x.tar" in cli("cluster", "image", "-o", "x.tar").out
    assert built == ["localhost/y:2", image.NAME]


@pytest.mark.parametrize(
    ("told", "code", "line"),
    [
        ({"up": False, "state": "/c"}, 1, "not up"),
        ({"up": True, "state": "/c", "ready": False, "waits_for": ["the node"]}, 1, "the node"),
        (
            {
                "up": True,
                "state": "/c",
                "ready": True,
                "waits_for": [],
                "nodes": [{"name": "node-0", "ready": True}],
                "pods": {"all": 2, "ready": 1},
            },
            0,
            "1 of 2 ready",
        ),
    ],
)
def test_the_status_is_an_exit_code_too(
    cli: Any, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], code: int, line: str
) -> None:
    monkeypatch.setattr(cluster, "status", lambda place: told)
    result = cli("cluster", "status")
    assert (result.code, line in result.out) == (code, True)
    assert cli("cluster", "status", "--json").json == told


def test_components_are_killed_by_name(cli: Any, calls: list[Any]) -> None:
    assert cli("cluster", "kill", "etcd", "kubelet", "--state-dir", "/c").out == "killed: etcd, kubelet\n"
    assert calls == [("kill", "/c", ["etcd", "kubelet"])]


def test_down_says_what_becomes_of_the_state(cli: Any, calls: list[Any]) -> None:
    assert "is removed" in cli("cluster", "down", "--state-dir", "/c").out
    assert "is kept" in cli("cluster", "down", "--state-dir", "/c", "--keep").out
    assert calls == [("down", "/c", False), ("down", "/c", True)]


def test_what_the_cluster_can_not_do_is_an_error_that_says_why(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(place: Place) -> None:
        raise ClusterError("no: do this instead")

    monkeypatch.setattr(cluster, "status", refuse)
    result = cli("cluster", "status")
    assert (result.code, result.err) == (1, "error: no: do this instead\n")
