"""What `trade2026 strategy new` writes: it passes its own test and every check, and fits a stack."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trade2026.sdk import template
from trade2026.sdk.lint import check
from trade2026.stack.manifest import load_strategies
from trade2026.strategies.loading import NotLoadable, find_class

SERVICES = Path(__file__).parents[3] / "services"


def test_a_new_strategy_passes_its_own_test(tmp_path: Path) -> None:
    for file, text in template.files("my-dip").items():
        (tmp_path / file).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_my_dip.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SERVICES), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # a second of them
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["dip", "my-dip", "2nd", "class", "desk", "strategy"])
def test_a_new_strategy_passes_the_check_and_its_manifest_is_right(name: str, tmp_path: Path) -> None:
    source, test, manifest = template.files(name).items()
    assert check(source[1]) == []
    imported = [
        alias.name for node in ast.walk(ast.parse(test[1])) if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert len(imported) == len(set(imported)), "none hides another"
    (tmp_path / source[0]).write_text(source[1])
    assert find_class(file=str(tmp_path / source[0]))[0].__name__.isidentifier()
    (strategy,) = load_strategies(manifest[1])
    assert (strategy.metadata.name, strategy.spec.source.file) == (name, source[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "has no strategy"),
        ("import os", "os must not be imported"),
        ("1 / 0", "ZeroDivisionError"),
        (
            "from trade2026.sdk import Strategy\nclass A(Strategy): ...\nclass B(Strategy): ...",
            "several strategies (A, B)",
        ),
    ],
)
def test_a_file_that_is_no_strategy_is_refused_in_words(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "given.py"
    path.write_text(text)
    with pytest.raises(NotLoadable) as caught:
        find_class(file=str(path))
    assert said in str(caught.value)


def test_one_of_several_strategies_is_named(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text("from trade2026.sdk import Strategy\nclass A(Strategy): ...\nclass B(Strategy): ...")
    assert find_class(file=f"{path}:B")[0].__name__ == "B"
    with pytest.raises(NotLoadable, match="has no strategy 'C'; it has A, B"):
        find_class(file=f"{path}:C")
    with pytest.raises(NotLoadable, match="can't be read"):
        find_class(file=str(tmp_path / "none.py"))
    with pytest.raises(NotLoadable, match="can't be imported"):
        find_class("no.such.module:Class")
