"""The rules and the dashboard as files."""

import json

import yaml

from trade2026.monitoring.dashboards import dashboard
from trade2026.monitoring.operator_rules import operator_rules
from trade2026.monitoring.rules import rules

_NOTICE = "# Made of the objectives in trade2026/stack/facts.py; `trade2026 monitoring rules` writes it again.\n"
_OPERATOR_NOTICE = "# Of the operator itself; `trade2026 monitoring rules --operator` writes it again.\n"


def rules_yaml() -> str:
    """The rule file for Prometheus."""
    return _NOTICE + yaml.safe_dump(rules(), sort_keys=False, width=4096, allow_unicode=True)


def rules_json() -> str:
    """The same as JSON, which Prometheus reads as well."""
    return json.dumps(rules(), indent=1) + "\n"


def operator_rules_yaml() -> str:
    """The rule file of who runs an operator."""
    return _OPERATOR_NOTICE + yaml.safe_dump(operator_rules(), sort_keys=False, width=4096, allow_unicode=True)


def operator_rules_json() -> str:
    """The same as JSON."""
    return json.dumps(operator_rules(), indent=1) + "\n"


def dashboard_json() -> str:
    """The dashboard, as Grafana imports it."""
    return json.dumps(dashboard(), indent=1) + "\n"
