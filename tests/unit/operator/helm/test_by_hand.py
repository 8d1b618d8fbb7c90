"""What a person needs who installs a stack without the operator, and what the operator makes in their stead."""

import base64
import json
from pathlib import Path

import pytest
from tests.unit.operator.helm.conftest import ROOT

from trade2026.kit.identity import Keyring
from trade2026_operator.helm.__main__ import main
from trade2026_operator.keys import keys_secret


def test_values_of_every_release_are_written_with_the_command_that_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-f", str(ROOT / "manifests" / "quickstart.yaml"), "-o", str(tmp_path / "values")]
    assert main([*words, "--image", "localhost/trade2026", "--pull-policy", "Never"]) == 0
    path, strategies = (tmp_path / "values" / f"{name}.json" for name in ("quickstart", "quickstart-strategies"))
    assert capsys.readouterr().out.splitlines() == [
        f"helm install quickstart charts/trade2026-service --values {path}",
        f"helm install quickstart-strategies charts/trade2026-service --values {strategies}",
    ]
    image = json.loads(path.read_text())["image"]
    assert (image["repository"], image["pullPolicy"]) == ("localhost/trade2026", "Never")


def test_a_wrong_manifest_is_told_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "desk.yaml"
    manifest.write_text("kind: TradingStack\n")
    assert main(["-f", str(manifest), "-o", str(tmp_path / "values")]) == 2
    assert "apiVersion" in capsys.readouterr().err
    assert not (tmp_path / "values").exists()


def test_a_stack_knows_the_key_that_its_own_processes_show(tmp_path: Path) -> None:
    data = keys_secret("desk", "trading")["data"]
    given = {name: base64.b64decode(text).decode() for name, text in data.items()}
    keys = tmp_path / "keys.json"
    keys.write_text(given["keys.json"])
    principal = Keyring(str(keys), "0.0.0.0").principal_of(f"Bearer {given['key']}")
    assert principal is not None
    assert principal.may("trader") and principal.may("risk") and not principal.may("admin")
    assert principal.accounts is None
    assert given["key"] not in given["keys.json"]
