"""An operator says how it is called, also where what it needs is not installed, and then what to install."""

import subprocess
import sys

import pytest

from trade2026_operator.arguments import read

WITHOUT_KOPF = (
    "import runpy, sys; sys.modules['kopf'] = None; runpy.run_module('trade2026_operator', run_name='__main__')"
)


def called(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_KOPF, *words], capture_output=True, text=True, timeout=30, check=False
    )


def test_help_needs_nothing_that_is_not_installed_and_a_start_names_the_extra() -> None:
    told = called("--help")
    assert told.returncode == 0 and "Keeps every TradingStack" in told.stdout
    told = called()
    assert told.returncode == 1 and "pip install 'trade2026[operator]'" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("wrong", ["{", "[]", '{"affinity": {}}', '{"tolerations": {}}'])
def test_where_pods_may_run_is_told_as_a_pod_has_it(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read([f"--stack-scheduling={wrong}"])
    assert "--stack-scheduling: " in capsys.readouterr().err
