"""A link for packets, where this machine lets one be made: root, namespaces and TUN devices."""

from __future__ import annotations

import subprocess

import pytest
from support.scripts import load

from vlacut.emulation import shape_of
from vlacut.hardware import Link


def test_packets_take_the_link_s_rate_and_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load("tun_link.py", monkeypatch)
    why = tool.cannot()
    if why:
        pytest.skip(why)
    link = Link(1e6, 1e6, 0.03)
    with tool.TunLink(shape_of(link)) as tun:
        rate, trip, new_s, warm_s = tool.measure(tun, link.wire_up, 60_000)
    assert rate == pytest.approx(link.up, rel=0.1)
    assert 0.03 <= trip < 0.06
    assert 0.06 + 0.015 <= warm_s < 0.15
    # Ten segments leave at first (RFC 6928), in less than a round trip, and the link then waits for
    # the answer: a proxy hides that.
    waits_s = link.rtt - 10 * 1460 / link.up
    assert new_s > warm_s + waits_s
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not any(name in listed.stdout for name in tun.names)
