"""The generated pages tell all that the code has, and the written ones name only what there is."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import typer

from trade2026.cli.app import app
from trade2026.domain.rejects import RejectCode
from trade2026.stack import facts

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(DOCS))


@pytest.mark.parametrize("name", sorted(path.name for path in (DOCS / "reference").glob("*.md")))
def test_every_reference_page_is_what_the_code_says(generate: ModuleType, name: str) -> None:
    assert (DOCS / "reference" / name).read_text() == generate.PAGES[name]()


def test_the_pages_name_no_test_and_no_file_that_is_not_there(generate: ModuleType) -> None:
    assert generate.wrong_in_the_pages() == []


def test_every_command_has_a_section_with_its_example() -> None:
    page = (DOCS / "reference" / "cli.md").read_text()
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None) or {}
        for full in [f"trade2026 {name} {child}" for child in inner] or [f"trade2026 {name}"]:
            assert f"\n{full}" in page.split(f"\n## {full}\n")[1].partition("\n## ")[0]


def test_every_endpoint_of_every_service_is_listed(generate: ModuleType) -> None:
    page = (DOCS / "reference" / "services.md").read_text()
    endpoints = sys.modules["generate_endpoints"]
    for name in facts.SERVICES:
        section = page.split(f"\n## {name}\n")[1].partition("\n## ")[0]
        made = endpoints.app_of(name)
        assert made.routes
        for route in made.routes:
            assert f"| `{route.method} {route.path}` | {route.summary} |" in section
        for socket in made.sockets:
            assert f"| `WebSocket {socket.path}` |" in section


def test_every_reject_code_is_listed_and_controlled() -> None:
    for page in (DOCS / "reference" / "reject-codes.md", DOCS / "controls.md"):
        text = page.read_text()
        assert all(f"`{code.value}`" in text for code in RejectCode)


def test_a_page_that_is_wrong_is_seen(generate: ModuleType) -> None:
    assert "docs/controls.md: there is no limit maxNonsense" in generate.wrong_about_controls("`maxNonsense`")
    assert any("leaves out KILLED" in line for line in generate.wrong_about_controls(""))


def test_every_topic_and_event_stands_in_the_asyncapi_document_and_each_reference_leads_somewhere(
    generate: ModuleType,
) -> None:
    document = json.loads(generate.asyncapi())
    assert document["asyncapi"] == "3.0.0"
    assert list(document["channels"]) == [topic.name for topic in facts.TOPICS]
    for name, of in generate.EVENTS.items():
        kinds = of if isinstance(of, tuple) else get_args(of)
        assert list(document["channels"][name]["messages"]) == [kind.__name__ for kind in kinds]
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', generate.asyncapi()):
        found = document
        for step in reference.split("/"):
            found = found[step]
    fields = document["components"]["schemas"]["OrderFilled"]["properties"]
    assert {"order_id", "last_qty", "last_px"} <= set(fields)
