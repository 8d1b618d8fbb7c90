"""Query parameters are those that a route declares."""

import importlib
from unittest import mock

import pytest

from trade2026.kit.http import App
from trade2026.kit.parameters import ORDERS, read_query, refuse_unknown
from trade2026.kit.problem import Problem


@pytest.mark.parametrize("text", [b"", b"account=a", b"limit=1&cursor=o0-1&status=open", b"account="])
def test_declared_parameters_pass(text: bytes) -> None:
    refuse_unknown(text, ORDERS)


@pytest.mark.parametrize(
    ("text", "field", "advice"),
    [
        (b"acount=a", "acount", "did you mean 'account'?"),
        (b"Limit=1", "Limit", "did you mean 'limit'?"),
        (b"limit=1&foo=1", "foo", "known here: account, status, cursor, limit"),
        (b"foo=", "foo", "known here"),
        (b"%66oo=1", "foo", "known here"),
    ],
)
def test_others_are_refused_with_what_may_have_been_meant(text: bytes, field: str, advice: str) -> None:
    with pytest.raises(Problem, match="there is no parameter") as refused:
        refuse_unknown(text, ORDERS)
    assert (refused.value.status, refused.value.code, refused.value.field) == (422, "unknown_parameter", field)
    assert advice in refused.value.detail


def test_a_route_without_parameters_says_so() -> None:
    with pytest.raises(Problem, match="this endpoint has none"):
        refuse_unknown(b"pretty=1", {})


def test_of_a_repeated_parameter_the_last_counts() -> None:
    assert read_query(b"a=1&a=2&b=") == {"a": "2", "b": ""}


def test_the_document_of_a_service_lists_the_parameters_of_its_routes() -> None:
    app = App("oms")
    importlib.import_module("trade2026.oms.api").add_routes(app, mock.MagicMock())
    listed = app.openapi()["paths"]["/orders"]["get"]["parameters"]
    assert [(each["name"], each["in"]) for each in listed] == [(name, "query") for name in ORDERS]
