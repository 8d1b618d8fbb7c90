"""What is known of one release that scales, and what follows from one more look at it. Pure: the clock is the caller's."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from trade2026_operator.slo.demand import EASE_SECONDS, Fit, Measured, Objective, demand, eased, learned
from trade2026_operator.slo.guards import Climb, Situation, Verdict, climbed, judged
from trade2026_operator.slo.windows import Minute, Window


@dataclass
class Followed:
    """See the module.

    Attributes:
        looked_at: Monotonic seconds of the last look that told anything.
        lasting: Replicas that were needed then; before the first look those that there are.
    """

    window: Window
    fit: Fit = field(default_factory=Fit)
    climb: Climb = field(default_factory=Climb)
    looked_at: float | None = None
    lasting: float | None = None

    def follow(self, window: Window) -> None:
        """By the objective of another window, if it is another one; `c` is of a quantile and begins anew with it."""
        before = self.window
        if (before.limit_seconds, before.quantile) == (window.limit_seconds, window.quantile):
            return
        if before.quantile != window.quantile:
            self.fit = Fit(service_seconds=self.fit.service_seconds)
        self.window = window

    def resume(self, limit_seconds: float, quantile: float, fit: Fit, minutes: Sequence[Minute]) -> None:
        """What another leader knew, as far as it is of the same objective."""
        window = self.window
        self.fit = fit if quantile == window.quantile else Fit(service_seconds=fit.service_seconds)
        if (limit_seconds, quantile) == (window.limit_seconds, window.quantile):
            window.minutes.extend(minutes)

    def judge(
        self,
        objective: Objective,
        measured: Measured,
        situation: Situation,
        now: float,
        since: float,
        ease_seconds: float = EASE_SECONDS,
    ) -> Verdict:
        """What is told of the window as it is now.

        Args:
            now: Seconds, monotonic.
            since: Seconds since the look before.
            ease_seconds: In which a need is forgotten, to a third of it.
        """
        if self.window.is_full:
            self.fit = learned(self.fit, measured)
        lasting = situation.replicas if self.lasting is None else self.lasting
        remembered = self.lasting = eased(lasting, since, ease_seconds)
        needed = None
        if measured.service_seconds > 0:
            needed = demand(objective, self.fit, measured, remembered=remembered)
            self.lasting = needed.lasting
        wanted = needed.replicas if needed is not None else 0.0
        self.climb = climbed(self.climb, situation, measured.rate, wanted, now)
        situation = replace(situation, measured_share=self.window.covered_share)
        return judged(objective, measured, needed, situation, self.climb, remembered)
