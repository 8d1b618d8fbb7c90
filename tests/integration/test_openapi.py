"""Every answer is one that the service's own OpenAPI document announces, whatever is asked.

Requests come from the document: at the borders of what it allows, at random within it, and at random outside of it.
`OPENAPI_EXAMPLES` says how many random ones each endpoint gets.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from one_process import ORDER, OneProcess
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckContext, CheckFunction
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from trade2026.stack.facts import SERVICES

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "5"))
"""Random requests of each kind for each endpoint."""
BORDERS_MAX = 10 * EXAMPLES
"""Requests at the borders of what the document allows, for each endpoint."""
KNOWN = {
    **ORDER,
    "account": "main",
    "venue": "SIM",
    "scope": "account:nobody",
    "interval": "1m",
    "format": "json",
    "table": "ticks",
}
"""What means something to the services: at random nobody finds an instrument."""
STOPPING = ("/kill", "/resume")
"""These come last: most endpoints have less to say in a stack that was stopped."""

pytestmark = pytest.mark.timeout(600)

Check = Callable[[Case], None]


def no_mistake_of_ours(ctx: CheckContext, response: Response, case: Case) -> None:
    """The only failure of the server's that is announced is that it can't answer now."""
    assert response.status_code < 500 or response.status_code == 503, "the service made a mistake"


def errors_are_problem_documents(ctx: CheckContext, response: Response, case: Case) -> None:
    """Except where the document announces another answer with this status, as probes do."""
    if response.status_code < 400 or str(response.status_code) in case.operation.definition.raw["responses"]:
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    document = response.json()
    assert document["status"] == response.status_code
    assert document["type"].endswith(f"/{document['code']}")
    assert document["title"] and document["detail"]
    if response.status_code in (429, 503):
        assert int(response.headers["retry-after"][0]) >= 1


def wrong_data_is_refused(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Also as too long (413), which the check by itself does not take for a refusal."""
    return None if response.status_code == 413 else negative_data_rejection(ctx, response, case)


ANNOUNCED: list[CheckFunction] = [
    no_mistake_of_ours,
    errors_are_problem_documents,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    unsupported_method,
]


@pytest.mark.parametrize("service", SERVICES)
def test_every_answer_is_announced(stack: OneProcess, service: str) -> None:
    check_endpoints(stack, service, lambda path: path not in STOPPING)


@pytest.mark.parametrize("service", SERVICES)
def test_every_answer_to_who_stops_and_resumes_is_announced(stack: OneProcess, service: str) -> None:
    check_endpoints(stack, service, lambda path: path in STOPPING)
    assert stack.call(service, "GET", "/livez").status == 200


def check_endpoints(stack: OneProcess, service: str, wanted: Callable[[str], bool]) -> None:
    """Ask every endpoint that is wanted, and check every answer."""
    schema = schemathesis.openapi.from_dict(stack.call(service, "GET", "/openapi.json").json)
    url = f"http://127.0.0.1:{stack.settings.ports[service]}"
    with requests.Session() as session:
        session.trust_env = False  # whatever proxy there is, this machine is asked without it

        def announced(case: Case, *, wrong_is_refused: bool = True) -> None:
            case.call_and_validate(
                base_url=url,
                session=session,
                checks=[*ANNOUNCED, wrong_data_is_refused] if wrong_is_refused else ANNOUNCED,
                timeout=60,
            )

        for found in schema.get_all_operations():
            operation = found.ok()
            if wanted(operation.path) and "websocket" not in operation.definition.raw["tags"]:
                check_borders(schema, operation, announced)
                check_random(operation, announced)


def check_borders(schema: Any, operation: Any, announced: Check) -> None:
    """The longest, the shortest, the empty, the missing, the doubled, another method."""
    cases = schema.iter_coverage_cases(
        operation,
        generation_modes=list(GenerationMode),
        generation_config=schema.config.generation_for(operation=operation, phase="coverage"),
    )
    for case, _ in zip(cases, range(BORDERS_MAX), strict=False):
        announced(case)


def check_random(operation: Any, announced: Any) -> None:
    """Within the document, within it and with names that mean something, and outside of it."""
    if not operation.query and not operation.path_parameters and not operation.body:
        return
    limited = settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @limited
    @given(case=right)
    def within(case: Case) -> None:
        announced(case)

    @limited
    @given(case=right.map(sensible))
    def with_sense(case: Case) -> None:
        announced(case, wrong_is_refused=False)

    @limited
    @given(case=wrong)
    def outside(case: Case) -> None:
        announced(case)

    within()
    with_sense()
    if operation.body:  # every path and query is text, and every text is within
        outside()


def sensible(case: Case) -> Case:
    """Put what the stack knows in the place of what was made up."""
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            values.update({name: value for name, value in KNOWN.items() if name in values})
    return case
