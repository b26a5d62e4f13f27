"""What a link carries over time: messages over traces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlacut.errors import HardwareError
from vlacut.hardware.service import Service, constant
from vlacut.hardware.trace import Trace

RATES = st.lists(st.one_of(st.just(0.0), st.floats(1.0, 1e8)), min_size=1, max_size=8)
SECONDS = st.floats(0.01, 5.0)


@st.composite
def services(draw: st.DrawFn) -> Service:
    rates = draw(RATES)
    if not any(rates):
        rates[0] = 1e3
    return Service(Trace(tuple(rates), tuple(draw(SECONDS) for _ in rates)))


@given(services(), st.floats(0, 30), st.floats(1, 1e8))
def test_a_message_is_through_when_its_bytes_are_carried(
    service: Service, start: float, nbytes: float
) -> None:
    end = service.finish(start, nbytes)
    carried = service.carried(end) - service.carried(start)
    assert carried == pytest.approx(nbytes, rel=1e-6, abs=1e-6 * service.carried(end) + 1)
    earlier = service.carried(max(start, end - 1e-3)) - service.carried(start)
    assert earlier < nbytes * (1 + 1e-6) + 1


@given(services(), st.floats(0, 30), st.floats(0, 10), st.floats(1, 1e7))
def test_what_is_sent_later_is_through_no_sooner(
    service: Service, start: float, more: float, nbytes: float
) -> None:
    slack = 1e-9 * (start + more + service.finish(start, nbytes))
    assert service.finish(start + more, nbytes) >= service.finish(start, nbytes) - slack


@given(services(), st.floats(0, 30), st.floats(1, 1e6), st.floats(1, 1e6))
def test_two_messages_take_as_long_as_one_of_both(
    service: Service, start: float, one: float, other: float
) -> None:
    after = service.finish(service.finish(start, one), other)
    assert after == pytest.approx(service.finish(start, one + other), rel=1e-6, abs=1e-6)


def test_rates_outages_and_the_trace_s_end() -> None:
    service = Service(Trace((100.0, 0.0, 50.0), (1.0, 2.0, 1.0)))
    assert service.finish(0.0, 50) == 0.5
    assert service.finish(0.5, 100) == 4.0  # 50, an outage, and all of the last second
    assert service.finish(1.5, 25) == 3.5
    assert service.finish(3.5, 125) == 5.0  # 25, and the first second again
    assert service.finish(8.0, 300) == 16.0
    assert [service.rate(at) for at in (0.5, 1.0, 3.0, 4.0)] == [100, 0, 50, 100]
    assert service.carried(4.0) == 150


def test_a_share_of_the_rate_is_the_messages() -> None:
    assert Service(Trace((100.0,), (1.0,)), 0.5).finish(0.0, 50) == 1.0


def test_one_rate_has_no_end() -> None:
    assert constant(10.0).finish(3.25, 1000) == pytest.approx(103.25)
    assert constant(10.0).finish(3.25, 0) == 3.25


def test_a_trace_that_carries_nothing_is_refused() -> None:
    with pytest.raises(HardwareError, match="carries nothing"):
        Service(Trace((0.0, 0.0), (1.0, 1.0)))
