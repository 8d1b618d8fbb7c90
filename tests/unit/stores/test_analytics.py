"""What of the analytics store needs no engine: which query may go in, and what a store is told that lacks chdb."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.stores.analytics.embedded import open_embedded
from trade2026.stores.analytics.guard import guarded
from trade2026.stores.analytics.port import AnalyticsUnavailable, QueryRefused


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        (" SELECT 1 ; ", "SELECT 1"),
        ("SELECT ';)' -- ;\n, \"a)\" # (", "SELECT ';)'  \n, \"a)\""),
        ("SELECT `a;` /* ) ; */ FROM t", "SELECT `a;`   FROM t"),
        ("SELECT 'it''s', 'it\\'s'", "SELECT 'it''s', 'it\\'s'"),
        ("SELECT name FROM system.settings WHERE name = 'x'", "SELECT name FROM system.settings WHERE name = 'x'"),
    ],
)
def test_a_query_goes_in_without_its_comments(sql: str, kept: str) -> None:
    assert guarded(sql) == kept


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("", "empty"),
        (" ; ", "empty"),
        ("-- only", "empty"),
        ("SELECT 1; SELECT 2", "semicolon"),
        ("SELECT 1) UNION ALL (SELECT 2", "parentheses"),
        ("SELECT (1", "parentheses"),
        ("SELECT 'a", "not closed"),
        ("SELECT 1 /* a", "not closed"),
        ("SELECT $x$ ' $x$", "not closed"),
        ("SELECT 1 SETTINGS/**/readonly = 0", "'SETTINGS readonly ='"),
        ("SELECT * FROM python\n(x)", "python"),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", "INTO OUTFILE"),
        ("SELECT 1 FORMAT Native", "FORMAT Native"),
    ],
)
def test_what_would_get_out_is_refused(sql: str, said: str) -> None:
    with pytest.raises(QueryRefused, match=said):
        guarded(sql)


@given(st.text("'\"`\\()-/*#$; \na1", max_size=30))
def test_whatever_goes_in_ends_where_it_seems_to(sql: str) -> None:
    try:
        kept = guarded(sql)
    except QueryRefused:
        return
    assert guarded(kept) == kept
    with pytest.raises(QueryRefused, match="semicolon"):
        guarded(f"{kept}; DROP TABLE t")


def test_without_chdb_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chdb", None)
    with pytest.raises(AnalyticsUnavailable, match=r"trade2026\[analytics\]"):
        open_embedded(tmp_path / "analytics")
