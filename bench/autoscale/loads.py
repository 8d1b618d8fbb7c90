"""Loads of the simulation. Pure.

Rules were tuned on some; by others they were compared while they changed, so those have been looked at more than once; the
rest was written when the rules were fixed, and held out until then.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.autoscale.plant import STEP_SECONDS

Rates = NDArray[np.float64]
"""Requests a second of each step."""
TUNING_SEEDS = range(4)
COMPARED_SEEDS = range(100, 108)
HELD_OUT_SEEDS = range(200, 208)
_BASE = 150.0


def mixed(seed: int, seconds: float) -> Rates:
    """Calm, a step to four times as much, bursts of a minute, a sine."""
    rng = np.random.default_rng(seed)
    at = np.arange(0.0, seconds, STEP_SECONDS)
    quarter = seconds / 4
    rates = np.full(len(at), _BASE) * rng.uniform(0.9, 1.1)
    step = (at >= quarter * rng.uniform(0.4, 0.6)) & (at < quarter * rng.uniform(1.4, 1.6))
    rates[step] *= rng.uniform(3.5, 4.5)
    for _ in range(3):
        begin = quarter * rng.uniform(1.7, 2.7)
        rates[(at >= begin) & (at < begin + 60)] *= rng.uniform(2.0, 3.0)
    wave = at >= quarter * 2.8
    rates[wave] *= 2 + rng.uniform(0.8, 1.0) * np.sin(2 * math.pi * at[wave] / rng.uniform(400, 700))
    return _noisy(rates, rng)


def stairs(seed: int, seconds: float) -> Rates:
    """A level of its own every few minutes, up to seven times as much."""
    rng = np.random.default_rng(seed + 1_000)
    rates = np.empty(int(seconds / STEP_SECONDS))
    begin = 0
    while begin < len(rates):
        end = begin + int(rng.uniform(120, 600) / STEP_SECONDS)
        rates[begin:end] = _BASE * math.exp(rng.uniform(math.log(0.6), math.log(7)))
        begin = end
    return _noisy(rates, rng)


def waves(seed: int, seconds: float) -> Rates:
    """Two sines."""
    rng = np.random.default_rng(seed + 2_000)
    at = np.arange(0.0, seconds, STEP_SECONDS)
    slow, quick = rng.uniform(500, 1_200), rng.uniform(150, 400)
    begins = rng.uniform(0, 2 * math.pi, 2)
    swing = 0.65 * np.sin(2 * math.pi * at / slow + begins[0]) + 0.2 * np.sin(2 * math.pi * at / quick + begins[1])
    return _noisy(3 * _BASE * (1 + swing), rng)


def ramps(seed: int, seconds: float) -> Rates:
    """Up and down in straight lines of minutes, with a rest after some."""
    rng = np.random.default_rng(seed + 3_000)
    at, levels = [0.0], [rng.uniform(0.5, 2)]
    while at[-1] < seconds:
        at.append(at[-1] + rng.uniform(60, 400))
        levels.append(rng.uniform(0.5, 7))
        if rng.random() < 0.4:
            at.append(at[-1] + rng.uniform(60, 300))
            levels.append(levels[-1])
    return _noisy(_BASE * np.interp(np.arange(0.0, seconds, STEP_SECONDS), at, levels), rng)


def bursts(seed: int, seconds: float) -> Rates:
    """Calm, and every few minutes up to five times as much for up to two."""
    rng = np.random.default_rng(seed + 4_000)
    at = np.arange(0.0, seconds, STEP_SECONDS)
    rates = np.full(len(at), _BASE * rng.uniform(0.8, 1.5))
    begin = rng.uniform(60, 200)
    while begin < seconds:
        lasts = rng.uniform(20, 120)
        rates[(at >= begin) & (at < begin + lasts)] *= rng.uniform(1.5, 5)
        begin += lasts + rng.uniform(120, 500)
    return _noisy(rates, rng)


def session(seed: int, seconds: float) -> Rates:
    """A trading day in short: it rises within minutes at the open, sinks to noon, rises to the close, and ends."""
    rng = np.random.default_rng(seed)
    share = np.arange(0.0, seconds, STEP_SECONDS) / seconds
    opens, closes = rng.uniform(0.06, 0.12), rng.uniform(0.88, 0.94)
    width = rng.uniform(0.02, 0.04)
    inside = 1 / (1 + np.exp(-(share - opens) / width * 4)) / (1 + np.exp((share - closes) / width * 4))
    smile = rng.uniform(2.0, 3.0) + rng.uniform(4.0, 6.0) * (2 * share - 1) ** 2
    return _noisy(_BASE * (0.3 + inside * smile), rng)


def news(seed: int, seconds: float) -> Rates:
    """Nothing for long, then suddenly three to six times as much, which fades over minutes; at any time, any number of times."""
    rng = np.random.default_rng(seed)
    at = np.arange(0.0, seconds, STEP_SECONDS)
    rates = np.full(len(at), _BASE)
    for begin in np.cumsum(rng.exponential(600.0, 20)):
        since = at - begin
        rates += np.where(
            since >= 0, _BASE * rng.uniform(2, 5) * np.exp(-np.maximum(0, since) / rng.uniform(60, 300)), 0
        )
    return _noisy(np.minimum(rates, 8 * _BASE), rng)


def wandering(seed: int, seconds: float) -> Rates:
    """A random walk of its logarithm, drawn back to the middle."""
    rng = np.random.default_rng(seed)
    level, levels = 0.0, list[float]()
    for change in rng.normal(0.0, 0.08, int(seconds / STEP_SECONDS)):
        level += change - 0.01 * level
        levels.append(level)
    return _noisy(2.5 * _BASE * np.clip(np.exp(np.array(levels)), 0.15, 3.0), rng)


def auctions(seed: int, seconds: float) -> Rates:
    """Little, but for a peak of some seconds to a minute at a time that everybody knows, and again after the same while."""
    rng = np.random.default_rng(seed)
    at = np.arange(0.0, seconds, STEP_SECONDS)
    every, lasts, high = rng.uniform(240, 600), rng.uniform(15, 60), rng.uniform(3, 7)
    phase = (at + rng.uniform(0, every)) % every
    return _noisy(_BASE * rng.uniform(0.5, 1.2) * np.where(phase < lasts, high, 1.0), rng)


def regimes(seed: int, seconds: float) -> Rates:
    """Quiet or hectic, each for an exponential time; hectic has a level and swings of its own each time."""
    rng = np.random.default_rng(seed)
    at = np.arange(0.0, seconds, STEP_SECONDS)
    rates = np.empty(len(at))
    begin, hectic = 0.0, bool(rng.integers(2))
    while begin < seconds:
        end = begin + rng.exponential(400.0 if hectic else 300.0)
        inside = (at >= begin) & (at < end)
        swing = 1 + rng.uniform(0.1, 0.4) * np.sin(2 * math.pi * at[inside] / rng.uniform(60, 240))
        rates[inside] = _BASE * (rng.uniform(2.5, 7) * swing if hectic else rng.uniform(0.4, 1.2))
        begin, hectic = end, not hectic
    return _noisy(rates, rng)


def heavy_tailed(seed: int, seconds: float) -> Rates:
    """Many who come at random times and stay for a Pareto-distributed time, so that it is as uneven at every scale."""
    rng = np.random.default_rng(seed)
    at = np.arange(0.0, seconds, STEP_SECONDS)
    rates = np.full(len(at), 0.4 * _BASE)
    begin = -600.0
    while begin < seconds:
        begin += rng.exponential(20.0)
        lasts = min(900.0, 15.0 * (1 + rng.pareto(1.3)))
        rates[(at >= begin) & (at < begin + lasts)] += 0.75 * _BASE
    return _noisy(np.minimum(rates, 8 * _BASE), rng)


def _noisy(rates: Rates, rng: np.random.Generator) -> Rates:
    return np.maximum(1.0, rates * rng.normal(1.0, 0.05, len(rates)))


TUNING: dict[str, Callable[[int, float], Rates]] = {
    "mixed": mixed,
    "stairs": stairs,
    "waves": waves,
    "ramps": ramps,
    "bursts": bursts,
}
COMPARED: dict[str, Callable[[int, float], Rates]] = {"session": session, "news": news, "wandering": wandering}
HELD_OUT: dict[str, Callable[[int, float], Rates]] = {
    "auctions": auctions,
    "regimes": regimes,
    "heavy_tailed": heavy_tailed,
}
