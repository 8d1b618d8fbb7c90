"""The recorded trades that ship with the platform; `data/README.md` says what they are and whose."""

import hashlib
import io
import lzma
from array import array
from pathlib import Path

from trade2026.gateway.replay import Recording

_BITSTAMP = Path(__file__).parent / "data" / "bitstamp_btcusd_20131125.csv.xz"
_BITSTAMP_SHA256 = "460765e9515a7fbb0ed7c1aae784c659b64663c7e732330d82c2058e179504d8"
_BELOW_NANOS = 1_000
"""The file has 12 decimals; we keep nine."""


class RecordingDamaged(Exception):
    """The file is not the one that was shipped."""


def load_bitstamp() -> Recording:
    """Read the week of Bitstamp trades (a fifth of a second).

    Raises:
        RecordingDamaged: its checksum is wrong; install the package again.
    """
    text = lzma.decompress(_BITSTAMP.read_bytes())
    if hashlib.sha256(text).hexdigest() != _BITSTAMP_SHA256:
        raise RecordingDamaged(f"{_BITSTAMP.name} is damaged: install the package again")
    seconds, prices, quantities = array("q"), array("q"), array("q")
    lines = io.BytesIO(text.replace(b".", b""))
    next(lines)
    for line in lines:
        second, price, amount = line.split(b",")
        quantity = int(amount) // _BELOW_NANOS
        if quantity:
            seconds.append(int(second))
            prices.append(int(price) // _BELOW_NANOS)
            quantities.append(quantity)
    return Recording("b13", seconds, prices, quantities)
