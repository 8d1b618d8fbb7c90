"""When a record was made, of any record, also one that this version does not understand otherwise."""

import msgspec


class _Stamp(msgspec.Struct, gc=False):
    ts_init: int


_decode_stamp = msgspec.json.Decoder(_Stamp).decode


def made_at(body: bytes) -> int:
    """`ts_init` of a record (ns); 0 where nobody can tell."""
    try:
        return _decode_stamp(body).ts_init
    except msgspec.DecodeError:
        return 0
