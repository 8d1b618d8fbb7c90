"""The page about the local cluster: every command of it works as written, from up to down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.test_docs import ROOT, blocks, missing

from trade2026.local.cluster.place import Place

PAGE = ROOT / "docs" / "how-to" / "cluster.md"
BLOCK_SECONDS_MAX = 300


@pytest.mark.usefixtures("machine")
def test_every_command_of_the_page_works_as_written(place: Place, tmp_path: Path) -> None:
    program = tmp_path / ".venv" / "bin" / "trade2026"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trade2026 "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "services"),
        "TRADE2026_CLUSTER_DIR": str(place.state),
        "NO_COLOR": "1",
    }
    found = list(blocks(PAGE.read_text()))
    assert found
    for block in found:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", block.code],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_SECONDS_MAX,
            check=False,
        )
        line = f"{PAGE.name}:{block.line}"
        assert done.returncode == 0, f"{line} ended with {done.returncode}:\n{block.code}\n{done.stdout}"
        lost = missing(block.output, done.stdout)
        assert not lost, f"{line} did not print {lost!r} but:\n{done.stdout}"
