"""Addresses as users write them, IPv4, IPv6 and names."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deployments import DIGEST, crossing_deployment, served
from support.programs import observation

from vlacut.errors import InputError, PeerLost
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.sockets import listener, parse_address, written

PORTS = st.integers(0, 65535)


@given(st.ip_addresses().map(str) | st.sampled_from(["robot-7.local", "localhost"]), PORTS)
def test_what_is_written_is_read(host: str, port: int) -> None:
    assert parse_address(written(host, port)) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", "7000", ":7000", "host:", "host:x", "host:65536", "host:-1", "host:²", "::1:7000"),
        *("a b:1", "a\n:1", "a#:1", '"a":1', "[]:1", "[::1 x]:1", "\x1b[2Ja:1"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"does not parse; write"):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_step_over_any_kind_of_address(host: str) -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines, host=host) as server,
        EdgeSession(plan, DIGEST, engines, (host, server.address[1])) as policy,
    ):
        policy.step(observation(program))


def test_every_address_is_both_families() -> None:
    with listener("::", 0) as both:
        port = both.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), timeout=5):
                pass


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("127.0.0.1", 70000, "a port is at most 65535"),
        ("127.0.0.1", -1, "a port is at most 65535"),
        ("192.0.2.1", 0, "Cannot assign requested address"),
        ("a..b", 0, "not the name of a host"),
    ],
)
def test_where_nobody_can_listen(host: str, port: int, why: str) -> None:
    with pytest.raises(InputError, match=rf"cannot listen on {host}:{port}: {why}; choose another"):
        listener(host, port)


def test_a_port_that_another_has() -> None:
    with (
        listener("127.0.0.1", 0) as one,
        pytest.raises(InputError, match=r"Address already in use; choose another"),
    ):
        listener("127.0.0.1", one.getsockname()[1])


def test_a_name_that_is_none_is_said_to_be() -> None:
    _, plan, engines = crossing_deployment()
    with pytest.raises(PeerLost, match=r"not the name of a host\); give its address"):
        EdgeSession(plan, DIGEST, engines, ("a..b", 7000), insecure=True)


def test_a_timeout_longer_than_the_kernel_s() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines, timeout=1e5) as server,
        EdgeSession(plan, DIGEST, engines, server.address, 1e5) as policy,
    ):
        policy.step(observation(program))
