"""Write the pages under docs/reference from the code, or check them, and what the other pages name and link to.

Usage: python docs/generate.py [--check]
"""

import ast
import difflib
import inspect
import re
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from generate_asyncapi import asyncapi_document
from generate_cli import cli_page
from generate_endpoints import endpoint_sections
from generate_problems import problem_page
from pydantic import BaseModel

from trade2026.archive.service import ArchiveConfig
from trade2026.controls import limits
from trade2026.domain import events, rejects
from trade2026.gateway.venues import ReplayConfig, SyntheticConfig
from trade2026.hot_cache.service import HotCacheConfig
from trade2026.kit import settings
from trade2026.logger.service import LoggerConfig
from trade2026.monitoring import files as monitoring
from trade2026.monitoring.service import MonitoringConfig
from trade2026.normalizer.machine import Rules
from trade2026.normalizer.prints import BadPrintRule
from trade2026.pnl.service import PnlConfig
from trade2026.ptrc.service import PtrcConfig
from trade2026.questdb_writer.service import WriterConfig
from trade2026.sink_alt.service import SinkAltConfig
from trade2026.sink_ticks.service import SinkTicksConfig
from trade2026.stack import facts, model
from trade2026.stack.configs import SERVICE_CONFIGS, VENUE_CONFIGS
from trade2026.stack.strategy import Strategy
from trade2026.strategies.service import StrategiesConfig

DOCS = Path(__file__).parent
REFERENCE = DOCS / "reference"
NOTICE = "<!-- Written by docs/generate.py from {source}; `make docs` writes it again. -->\n"

ATTRIBUTE = re.compile(r"^    (\w+): (.+)$", re.MULTILINE)
TEST = re.compile(r"def (test_\w+)")
MODULE = re.compile(r"\b[a-z_][\w.]*\.(?=[A-Z])")

EVENTS: dict[str, UnionType | tuple[type, ...]] = {
    "orders.events": events.OrderEvent,
    "venue.reports": events.ReportEvent,
    "risk.events": events.RiskEvent,
    "audit": events.AuditEvent,
    "alt.records": events.AlternativeEvent,
    "positions": (events.PositionChanged,),
    "pnl": (events.PnlRealized,),
    "market.raw": (events.VenueMessage,),
    "market.ticks": (events.Trade,),
    "market.books": (events.Book,),
    "market.bars": (events.Bar,),
    "strategies.events": events.StrategyEvent,
    "strategies.shards": events.ShardEvent,
    "exeq.events": events.ExecutionEvent | events.OwnerStarted,
}


SERVICES: dict[str, type] = {
    "pnl": PnlConfig,
    "ptrc": PtrcConfig,
    "normalizer": Rules,
    "hot_cache": HotCacheConfig,
    "archive": ArchiveConfig,
    "strategies": StrategiesConfig,
    "logger": LoggerConfig,
    "monitoring": MonitoringConfig,
    "sink-ticks": SinkTicksConfig,
    "sink-alt": SinkAltConfig,
    "questdb_writer": WriterConfig,
}
VENUES: dict[str, type] = {"replay": ReplayConfig, "synthetic": SyntheticConfig}
"""What reads the `config` of each service, and of each type of venue."""


def field_docs(cls: type) -> dict[str, str]:
    """Return what the source says of each field of a class: below it, or under `Attributes:`."""
    body = ast.parse(inspect.getsource(cls).lstrip()).body[0]
    assert isinstance(body, ast.ClassDef)
    found = dict(ATTRIBUTE.findall((inspect.getdoc(cls) or "").partition("Attributes:")[2]))
    names: list[str] = []
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names = [node.targets[0].id]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and names:
            found[names[0]] = " ".join(str(node.value.value).split())
            names = []
        else:
            names = []
    return found


def type_text(cls: type, field: str) -> str:
    """Return a field's type as a person would write it."""
    if (cls, field) == (events.Envelope, "data"):
        return "one of the events below"
    for base in cls.__mro__:
        annotation = inspect.get_annotations(base).get(field)
        if annotation is not None:
            text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
            return MODULE.sub("", text)
    raise AssertionError(f"{cls.__name__} has no field {field}")


def summary(cls: type) -> str:
    """Return a class's docstring without the list of its attributes."""
    return (inspect.getdoc(cls) or "").partition("Attributes:")[0].strip()


def default_text(field: msgspec.structs.FieldInfo) -> str:
    """Return a field's default as JSON; empty when it must be given."""
    if field.default is not msgspec.NODEFAULT:
        return f"`{msgspec.json.encode(field.default).decode()}`"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{msgspec.json.encode(field.default_factory()).decode()}`"
    return ""


def cell(text: str) -> str:
    """Keep a text inside one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def struct_table(cls: type, only: Container[str] | None = None) -> Iterator[str]:
    """Yield a table of a struct's fields, or of some of them."""
    notes = field_docs(cls)
    yield "| field | type | default | |"
    yield "|---|---|---|---|"
    for field in msgspec.structs.fields(cls):
        if only is not None and field.encode_name not in only:
            continue
        kind = cell(type_text(cls, field.name))
        note = cell(notes.get(field.name, ""))
        yield f"| `{field.encode_name}` | `{kind}` | {cell(default_text(field))} | {note} |"


def reject_codes() -> str:
    """Return the page of reject codes."""
    notes = field_docs(rejects.RejectCode)
    lines = [
        "# Reject codes",
        "",
        "Why an order was refused, in one word that scripts may rely on. [Controls](../controls.md) says which rule",
        "gives which code, and which test proves it; a row is one of its table.",
        "",
        "| code | note |",
        "|---|---|",
        *(f"| `{code.value}` | {cell(notes.get(code.name, ''))} |" for code in rejects.RejectCode),
    ]
    return NOTICE.format(source="trade2026.domain.rejects") + "\n".join(lines) + "\n"


def event_pages() -> str:
    """Return the page of topics and events."""
    lines = [
        "# Topics and events",
        "",
        "Every record is one JSON object: the envelope, with the event in `data`. Amounts are integers of 10⁻⁹,",
        "costs and fees of 10⁻¹⁸ where the event says so; times are nanoseconds since the epoch. Commands are no",
        "events: they go to the owner, which logs what it decided. The same for machines:",
        "[AsyncAPI 3](asyncapi.json).",
        "",
        "## Envelope",
        "",
        summary(events.Envelope),
        "",
        *struct_table(events.Envelope),
    ]
    seen: set[type] = set()
    for topic in facts.TOPICS:
        union = EVENTS[topic.name]
        members: tuple[Any, ...] = union if isinstance(union, tuple) else get_args(union)
        kept = "durable" if topic.durable else "not durable"
        lines += ["", f"## `{topic.name}`", "", f"Written by {topic.owner}; {kept}."]
        for cls in members:
            lines += ["", f"### {cls.__name__}", ""]
            if cls in seen:
                lines.append("As above.")
                continue
            seen.add(cls)
            lines += [summary(cls), "", *struct_table(cls)]
    return NOTICE.format(source="trade2026.domain.events") + "\n".join(lines) + "\n"


def setting_tables() -> str:
    """Return the page of process settings."""
    lines = [
        "# Settings of a process",
        "",
        "What `trade2026 serve --settings FILE` reads, as JSON. The planner writes it from the manifest; you rarely",
        "write one by hand.",
    ]
    for cls in (
        settings.ProcessSettings,
        settings.PeerSettings,
        settings.VenueSettings,
        settings.TopicConfig,
        settings.Instrument,
    ):
        lines += ["", f"## {cls.__name__}", "", summary(cls), "", *struct_table(cls)]
    return NOTICE.format(source="trade2026.kit.settings") + "\n".join(lines) + "\n"


def config_tables() -> str:
    """Return the page of what `config` of a service and of a venue may hold."""
    assert (SERVICES.keys(), VENUES.keys()) == (SERVICE_CONFIGS.keys(), VENUE_CONFIGS.keys())
    lines = [
        "# Config of services and venues",
        "",
        "What may stand under `spec.services.NAME.config` and under a venue's `config` in a",
        "[manifest](manifest.md). `trade2026 validate` refuses another name or a value out of range, and says",
        "which is meant. A service that is not here has none.",
    ]
    for title, known, configs in (("service", SERVICE_CONFIGS, SERVICES), ("venue of type", VENUE_CONFIGS, VENUES)):
        for name, cls in configs.items():
            lines += ["", f"## {title} {name}", "", *struct_table(cls, known[name])]
            if cls is Rules:
                lines += ["", "### bad_prints", "", summary(BadPrintRule), "", *struct_table(BadPrintRule)]
    return NOTICE.format(source="the config type of each service") + "\n".join(lines) + "\n"


def limit_tables() -> str:
    """Return the page of limits."""
    lines = [
        "# Limits",
        "",
        "What the risk API shows and what an event `LimitsChanged` carries. [Controls](../controls.md) says what each",
        "limit is for.",
    ]
    for cls in (limits.LimitBook, limits.LimitSet, limits.Rate):
        lines += ["", f"## {cls.__name__}", "", summary(cls), "", *struct_table(cls)]
    return NOTICE.format(source="trade2026.controls.limits") + "\n".join(lines) + "\n"


def service_tables() -> str:
    """Return the page of services and topics."""
    lines = [
        "# Services",
        "",
        "Names and ports are fixed. Services of one release share a process under compact placement.",
        "",
        "| service | port | | release | owns | follows | objectives |",
        "|---|---|---|---|---|---|---|",
    ]
    for service in facts.SERVICES.values():
        owns, follows = (", ".join(f"`{topic}`" for topic in topics) for topics in (service.owns, service.follows))
        slo = f"{service.slo.objective:.2%} under {service.slo.under_ms:g} ms, {service.slo.answers:.2%} without 5xx"
        cells = (f"`{service.name}`", str(service.port), service.title, service.group, owns, follows, slo)
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Topics",
        "",
        "[Events](events.md) says what is in them.",
        "",
        "| topic | owner | durable | keyed by account | kept |",
        "|---|---|---|---|---|",
    ]
    for topic in facts.TOPICS:
        kept = f"{topic.retention_bytes_max // 1024**2} MiB" if topic.retention_bytes_max else "everything"
        durable, keyed = ("yes" if flag else "no" for flag in (topic.durable, topic.by_account))
        lines.append(f"| `{topic.name}` | {topic.owner} | {durable} | {keyed} | {kept} |")
    lines += endpoint_sections()
    return NOTICE.format(source="trade2026.stack.facts and the routes of each service") + "\n".join(lines) + "\n"


def cli_reference() -> str:
    """Return the page of commands."""
    return NOTICE.format(source="trade2026.cli") + cli_page()


def problem_reference() -> str:
    """Return the page of problem codes."""
    return NOTICE.format(source="where services raise them") + problem_page()


def asyncapi() -> str:
    """Return the document of topics for machines."""
    return asyncapi_document(EVENTS)


def nested(cls: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model, then the models in its fields, each once, from the outside in."""
    queue, seen = [cls], {cls}
    while queue:
        current = queue.pop(0)
        yield current
        for field in current.model_fields.values():
            for inner in models_in(field.annotation):
                if inner not in seen:
                    seen.add(inner)
                    queue.append(inner)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation mentions."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def plain_type(annotation: Any) -> str:
    """Return a manifest field's type in a word or two."""
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return plain_type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {plain_type(arguments[0])}"
    if origin is dict:
        return f"map of {plain_type(arguments[1])}"
    if arguments:
        return " or ".join(plain_type(inner) for inner in arguments if inner is not type(None))
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {str: "text", int: "whole number", bool: "true or false", Any: "anything", object: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def manifest_tables() -> str:
    """Return the page of the manifest's fields."""
    lines = [
        "# The manifest",
        "",
        "Every field of a `TradingStack`, and below of a `Strategy` that trades on it. `trade2026 validate` says what is",
        "wrong with one, and where. Amounts are decimal text or numbers, never rounded.",
    ]
    stack = list(nested(model.TradingStack))
    for cls in [*stack, *(cls for cls in nested(Strategy) if cls not in stack)]:
        lines += ["", f"## {cls.__name__}", "", summary(cls), "", "| field | type | default | |", "|---|---|---|---|"]
        for name, field in cls.model_fields.items():
            if field.is_required():
                default = "**required**"
            elif isinstance(field.default, str | int | float) and field.default != "":
                default = f"`{field.default}`"
            else:
                default = ""
            kind = plain_type(field.annotation)
            lines.append(f"| `{field.alias or name}` | {cell(kind)} | {default} | {cell(field.description or '')} |")
    return NOTICE.format(source="trade2026.stack.model and .strategy") + "\n".join(lines) + "\n"


PAGES = {
    "asyncapi.json": asyncapi,
    "cli.md": cli_reference,
    "reject-codes.md": reject_codes,
    "events.md": event_pages,
    "limits.md": limit_tables,
    "manifest.md": manifest_tables,
    "services.md": service_tables,
    "settings.md": setting_tables,
    "monitoring/trade2026.rules.yaml": monitoring.rules_yaml,
    "monitoring/trade2026-operator.rules.yaml": monitoring.operator_rules_yaml,
    "monitoring/grafana-dashboard.json": monitoring.dashboard_json,
    "config.md": config_tables,
    "problems.md": problem_reference,
}


def wrong_in_the_pages() -> list[str]:
    """Return what the written pages leave out, or name although it does not exist."""
    tests = {
        name
        for suites in ("tests", "e2e")
        for path in DOCS.parent.glob(f"{suites}/**/test_*.py")
        for name in TEST.findall(path.read_text())
    }
    pages = [DOCS.parent / "README.md", *sorted(DOCS.glob("**/*.md"))]
    wrong = []
    for path in pages:
        text, shown = path.read_text(), path.relative_to(DOCS.parent)
        named = set(re.findall(r"`(test_\w+)`", text))
        wrong += [f"{shown}: there is no test {name}" for name in sorted(named - tests)]
        links = [
            link.partition("#")[0]
            for link in re.findall(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"", text)
            for link in link
        ]
        local = [link for link in links if link and "://" not in link]
        wrong += [f"{shown}: {link} leads nowhere" for link in local if not (path.parent / link).exists()]
    return wrong + wrong_about_controls((DOCS / "controls.md").read_text())


def wrong_about_controls(page: str) -> list[str]:
    """Return the reject codes that the page of controls leaves out, and the limits that it invents."""
    codes = {code.value for code in rejects.RejectCode}
    fields = {field.alias for cls in (model.LimitSet, model.Risk) for field in cls.model_fields.values()}
    limits_named = set(re.findall(r"`([a-z]+[A-Z]\w+)`", page))
    return [
        *(f"docs/controls.md: there is no limit {name}" for name in sorted(limits_named - fields)),
        *(f"docs/controls.md: leaves out {code}" for code in sorted(codes - set(re.findall(r"`([A-Z_]+)`", page)))),
    ]


def main(check: bool) -> int:
    """Write the pages; with `check`, write nothing and return 1 when one differs."""
    differing = 0
    for name, make in PAGES.items():
        page, text = REFERENCE / name, make()
        old = page.read_text() if page.exists() else ""
        if old == text:
            continue
        differing += 1
        if check:
            sys.stderr.writelines(
                difflib.unified_diff(
                    old.splitlines(keepends=True), text.splitlines(keepends=True), str(page), "what the code says", n=1
                )
            )
        else:
            page.parent.mkdir(exist_ok=True)
            page.write_text(text)
            print(f"wrote docs/reference/{name}")
    if check and differing:
        print("docs/reference is out of date: run `make docs`", file=sys.stderr)
    wrong = wrong_in_the_pages() if check else []
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(check and (differing or wrong)))


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
