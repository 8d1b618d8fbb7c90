"""QuestDB's functions as DuckDB macros, in a schema of their own, so that DuckDB's functions keep their names."""

SCHEMA = "questdb"

_UNITS = {
    "y": "years",
    "M": "months",
    "w": "weeks",
    "d": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "T": "milliseconds",
    "u": "microseconds",
    "U": "microseconds",
}
INTERVALS = {letter: f"INTERVAL 1 {unit[:-1]}" for letter, unit in _UNITS.items()}
"""A span of each unit, by QuestDB's letter: `m` is a minute, `M` a month."""

_NO_UNIT = f"error('a unit is one of ' || {' || '.join(repr(letter + ' ') for letter in INTERVALS)})"


def _by_unit(letter: str, per_unit: str) -> str:
    cases = " ".join(f"WHEN '{key}' THEN {per_unit.format(unit[:-1])}" for key, unit in _UNITS.items())
    return f"CASE {letter} {cases} ELSE {_NO_UNIT} END"


_STEP = _by_unit("right(span, 1)", "INTERVAL 1 {}")
_COUNT = "coalesce(nullif(left(span, -1), ''), '1')::INTEGER"
_FORMAT = {
    "yyyy": "%Y",
    "MM": "%m",
    "dd": "%d",
    "HH": "%H",
    "hh": "%I",
    "mm": "%M",
    "ss": "%S",
    "SSSUUU": "%f",
    "SSS": "%g",
}
FORMATTED = {"to_str": "strftime", "to_timestamp": "strptime"}
"""Functions of a time and a format, by those of DuckDB."""


def strftime_of(java_format: str) -> str:
    """A format such as `yyyy-MM-dd` as DuckDB writes it."""
    text = java_format.replace("%", "%%")
    for letters, code in _FORMAT.items():
        text = text.replace(letters, code)
    return text


_SCALARS = {
    "now()": "now()::TIMESTAMP",
    "systimestamp()": "get_current_timestamp()::TIMESTAMP",
    "sysdate()": "get_current_timestamp()::TIMESTAMP",
    "dateadd(period, n, ts)": f"ts::TIMESTAMP + n * {_by_unit('period', 'INTERVAL 1 {}')}",
    "datediff(period, a, b)": _by_unit("period", "abs(date_sub('{}', a::TIMESTAMP, b::TIMESTAMP))"),
    "timestamp_floor(span, ts)": (
        f"time_bucket({_COUNT} * {_STEP}, ts::TIMESTAMP,"
        " CASE right(span, 1) WHEN 'w' THEN TIMESTAMP '1969-12-29' ELSE TIMESTAMP '1970-01-01' END)"
    ),
    "timestamp_ceil(span, ts)": (
        f"CASE WHEN {SCHEMA}.timestamp_floor(span, ts) = ts::TIMESTAMP THEN ts::TIMESTAMP"
        f" ELSE {SCHEMA}.timestamp_floor(span, ts) + {_COUNT} * {_STEP} END"
    ),
    "to_uppercase(text)": "upper(text)",
    "to_lowercase(text)": "lower(text)",
    "days_in_month(ts)": "(day(last_day(ts::TIMESTAMP)))::INTEGER",
    "day_of_week(ts)": "(isodow(ts::TIMESTAMP))::INTEGER",
    "week_of_year(ts)": "(week(ts::TIMESTAMP))::INTEGER",
    "mid(bid, ask)": "(bid + ask) / 2",
    "spread_bps(bid, ask)": "(ask - bid) / ((ask + bid) / 2) * 10000",
}
_AGGREGATES = {
    "count_distinct(x)": "count(DISTINCT x)",
    "vwap(price, quantity)": "sum(price * quantity) / sum(quantity)",
    "ksum(x)": "fsum(x)",
    "nsum(x)": "fsum(x)",
    "first_not_null(x)": "first(x) FILTER (x IS NOT NULL)",
    "last_not_null(x)": "last(x) FILTER (x IS NOT NULL)",
    "approx_percentile(x, share)": "approx_quantile(x, share)",
}
_TABLES = {"long_sequence(n)": "SELECT range AS x FROM range(1, n + 1)"}


def _name(signature: str) -> str:
    return signature.partition("(")[0]


NAMES = frozenset(map(_name, (*_SCALARS, *_AGGREGATES, *_TABLES)))
"""Functions that are written with the schema in front."""

MACROS = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    *(f"CREATE OR REPLACE MACRO {SCHEMA}.{signature} AS {body}" for signature, body in _SCALARS.items()),
    *(f"CREATE OR REPLACE MACRO {SCHEMA}.{signature} AS {body}" for signature, body in _AGGREGATES.items()),
    *(f"CREATE OR REPLACE MACRO {SCHEMA}.{signature} AS TABLE {body}" for signature, body in _TABLES.items()),
)

_BUILT_IN = """
any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null arg_min arg_min_null
array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count count_if covar_pop covar_samp entropy favg
first fsum group_concat histogram kahan_sum kurtosis kurtosis_pop last list listagg mad max max_by mean median
min min_by mode product quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept
regr_r2 regr_slope regr_sxx regr_sxy regr_syy reservoir_quantile sem skewness stddev stddev_pop stddev_samp
string_agg sum var_pop var_samp variance
"""
AGGREGATES = frozenset(map(_name, _AGGREGATES)) | frozenset(_BUILT_IN.split())
"""Functions that make one value of many rows: a select list with one of them is grouped by the rest of the list."""
