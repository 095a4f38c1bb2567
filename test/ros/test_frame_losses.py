from __future__ import annotations

import pytest

from ros_ood_perception.node.frames.losses import WINDOW_S, Losses, LossWindow


def warned_at(rate_hz: float, lost_every: int, healthy_s: float = 0.0) -> float | None:
    """Seconds from the first lost frame to the warning, looked for every half second; None: none within a minute."""
    window = LossWindow()
    received = lost = 0
    first = None
    looked = 0.0
    for number in range(int((healthy_s + 60) * rate_hz)):
        now = number / rate_hz
        if now >= healthy_s and number % lost_every == lost_every - 1:
            lost += 1
            first = now if first is None else first
        else:
            received += 1
        if now >= looked:
            looked = now + 0.5
            if window.look(now, Losses(received, lost)).too_many:
                assert first is not None
                return now - first
    return None


@pytest.mark.parametrize("healthy_s", [0.0, 100.0])
@pytest.mark.parametrize(("rate_hz", "lost_every"), [(10.0, 1), (10.0, 10), (30.0, 15), (5.0, 5), (2.0, 2)])
def test_a_rate_of_losses_is_noticed_within_ten_seconds_of_the_first(
    rate_hz: float, lost_every: int, healthy_s: float
) -> None:
    took_s = warned_at(rate_hz, lost_every, healthy_s)
    assert took_s is not None
    assert took_s <= 10.0


@pytest.mark.parametrize(("rate_hz", "lost_every"), [(10.0, 10**9), (10.0, 30), (1.0, 6), (30.0, 40)])
def test_a_frame_now_and_then_is_no_rate(rate_hz: float, lost_every: int) -> None:
    assert warned_at(rate_hz, lost_every, 20.0) is None


def test_losses_end_with_the_window_and_with_a_restart() -> None:
    window = LossWindow()
    window.look(0.0, Losses())
    assert window.look(1.0, Losses(received=1, by_middleware=9)).share == 0.9
    assert window.look(1.0 + WINDOW_S, Losses(received=91, by_middleware=9)) == Losses(received=90)
    window.restart()
    assert window.look(20.0, Losses(received=100, by_middleware=50)) == Losses()


def test_frames_overwritten_in_the_queue_are_a_warning_only_where_inference_could_have_used_them() -> None:
    assert Losses(received=50, overwritten=50).too_many
    assert not Losses(received=50, overwritten=50, replaced=1).too_many
    assert Losses(received=50, by_middleware=50, replaced=1).too_many
    assert Losses(received=50, overwritten=50, replaced=1).share == 0.5
