"""A configuration of HAProxy for the servers of a list: one address for all robots.

HAProxy passes bytes on and reads none of them: a robot's TLS says in the clear which bundle it
wants (`vlacut.runtime.wire.security.server_name`), and ends at the server. So keys stay where they
are, and a robot is connected to a server that has its bundle. Robots of other bundles, or without
keys, come to any server, which says what is wrong. One that drains is known by its `/healthz`: it
keeps its robots, and gets no new ones.

Keywords are those of the configuration manual of HAProxy 2.6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from vlacut.api.cluster.workers import Worker
from vlacut.runtime.wire.security import server_name
from vlacut.runtime.wire.sockets import written

_HEAD = """\
# Made by vlacut cluster haproxy; make it anew when bundles come or go.
global
    log stdout format raw local0

defaults
    mode tcp
    log global
    option tcplog
    option clitcpka
    option srvtcpka
    option redispatch
    retries 3
    timeout connect 3s
    timeout check 2s
    timeout client 1h
    timeout server 1h
    timeout queue 3s

frontend robots
    bind {listen}
    tcp-request inspect-delay 3s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
"""
_ANY = """
backend any
    balance leastconn
    option httpchk GET /healthz
    http-check expect status 200
"""
_POOL = """
backend {name}
    balance leastconn
"""


def haproxy_configuration(
    workers: Iterable[Worker], digests: Mapping[str, Iterable[bytes]], listen: str = ":7000"
) -> str:
    """The text of the configuration.

    Args:
        workers: the servers.
        digests: of the bundles that each takes robots of, by its address.
        listen: where HAProxy listens, as its `bind` has it.
    """
    servers = list(workers)
    having: defaultdict[bytes, list[Worker]] = defaultdict(list)
    for worker in servers:
        for digest in sorted(set(digests.get(worker.address, ()))):
            having[digest].append(worker)
    names = {digest: f"bundle_{digest.hex()[:12]}" for digest in sorted(having)}
    rules = "".join(
        f"    use_backend {name} if {{ req.ssl_sni -i {server_name(digest)} }} "
        f"{{ nbsrv({name}) gt 0 }}\n"
        for digest, name in names.items()
    )
    numbers = {worker: f"s{number}" for number, worker in enumerate(servers, 1)}
    pools = "".join(
        _POOL.format(name=name)
        + "".join(
            f"    server {numbers[one]} {one.address} track any/{numbers[one]}\n"
            for one in having[digest]
        )
        for digest, name in names.items()
    )
    checked = "".join(
        f"    server {number} {one.address} check inter 1s fall 2 rise 1 "
        f"addr {_host(one)} port {one.metrics[1]}\n"
        for one, number in numbers.items()
    )
    return f"{_HEAD.format(listen=listen)}{rules}    default_backend any\n{pools}{_ANY}{checked}"


def _host(worker: Worker) -> str:
    return written(*worker.metrics).rpartition(":")[0]
