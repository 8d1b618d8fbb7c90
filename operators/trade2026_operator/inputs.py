"""How an input is written: hashes of the desk, the strategies and the limits that are asked for, in this order. Pure."""


def input_from(desk: str, strategies: str, limits: str) -> str:
    """Of its parts."""
    return f"{desk}-{strategies}-{limits}"


def desk_of(asked: str) -> str:
    """The part of an input that is of the desk: all of it but its strategies and its limits."""
    return asked.partition("-")[0]


def same_limits(one: str, other: str) -> bool:
    """Whether two inputs have the same limits."""
    return one.rpartition("-")[2] == other.rpartition("-")[2]
