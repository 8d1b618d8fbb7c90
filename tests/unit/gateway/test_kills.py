"""Given kills at the venue, when the process starts again, then they hold until a person releases them."""

import pytest

from trade2026.gateway.commands import Kill
from trade2026.gateway.kills import Kills
from trade2026.kit.identity import ConfigurationError

KILL = Kill("runs away", "ann", 5)


def test_a_kill_survives_a_restart_and_a_release_does_too(tmp_path):
    path = tmp_path / "gateway" / "kills.json"
    kills = Kills(path)
    kills.latch("account:main", KILL)
    assert dict(Kills(path)) == {"account:main": KILL}
    assert kills.release("account:main")
    assert dict(Kills(path)) == {}
    assert not kills.release("account:main")


def test_a_kill_holds_even_if_it_cannot_be_kept(tmp_path):
    (tmp_path / "file").write_text("")
    kills = Kills(tmp_path / "file" / "kills.json")
    with pytest.raises(OSError, match="file"):
        kills.latch("stack", KILL)
    assert "stack" in kills


def test_a_release_holds_even_if_it_cannot_be_kept_and_is_kept_later(tmp_path):
    path = tmp_path / "gateway" / "kills.json"
    kills = Kills(path)
    kills.latch("stack", KILL)
    path.with_suffix(".partial").mkdir()
    assert kills.release_older("stack", 6)
    assert (dict(kills), "partial" in kills.unkept) == ({}, True)
    kills.keep_again()
    assert dict(Kills(path)) == {"stack": KILL}
    path.with_suffix(".partial").rmdir()
    kills.keep_again()
    assert (dict(Kills(path)), kills.unkept) == ({}, "")


def test_a_damaged_file_stops_the_start(tmp_path):
    (tmp_path / "kills.json").write_text("{")
    with pytest.raises(ConfigurationError, match="nobody may trade on a guess"):
        Kills(tmp_path / "kills.json")


def test_a_halt_does_not_weaken_a_kill():
    kills = Kills(None)
    kills.latch("stack", KILL)
    kills.latch("stack", Kill("lunch", "bob", 7, halt=True))
    assert kills["stack"] == Kill("runs away", "ann", 7)
    assert not kills.release_older("stack", 6)


def test_only_a_release_that_is_newer_than_the_kill_counts():
    kills = Kills(None)
    kills.latch("stack", KILL)
    assert not kills.release_older("stack", 5)
    assert kills.release_older("stack", 6)
