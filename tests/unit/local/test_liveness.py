from trade2026.local.liveness import Liveness


def test_only_silence_that_lasts_makes_a_process_hung() -> None:
    seconds = [0.0]
    liveness = Liveness(60, lambda: seconds[0])

    def at(now: float, pid: int | None, answers: bool) -> bool:
        seconds[0] = now
        return liveness.is_hung("orders", pid, answers)

    assert not at(0, 7, answers=False)
    assert not at(59, 7, answers=False)
    assert not at(61, 7, answers=True), "it has answered after all"
    assert not at(62, 7, answers=False)
    assert not at(121, 8, answers=False), "another process begins anew"
    assert not at(181, 8, answers=False)
    assert at(182, 8, answers=False)
    assert not at(183, None, answers=False), "one that has died is not hung"
    assert not at(300, 9, answers=False)


def test_each_release_is_judged_by_itself() -> None:
    seconds = [0.0]
    liveness = Liveness(60, lambda: seconds[0])
    liveness.is_hung("orders", 1, answers=False)
    seconds[0] = 61
    assert not liveness.is_hung("risk", 2, answers=False)
    assert liveness.is_hung("orders", 1, answers=False)
