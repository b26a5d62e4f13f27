"""Security: who may talk to whom.

On loopback the wire is plain. Elsewhere both sides prove who they are: TLS 1.3, with certificates
that one `vlacut keys` signed. A folder of it is one machine's: `ca.pem` whom it believes,
`cert.pem` and `key.pem` who it is. The certificates' extended key usage tells the cloud
(serverAuth) from robots (clientAuth), and TLS checks it: the key of a robot cannot pose as the
cloud. Names of hosts are not compared: the authority signs the machines of one deployment alone.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path

from vlacut.errors import InputError, PeerLost, PeerRefused

CA, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"


def cloud_context(folder: Path) -> ssl.SSLContext:
    """TLS for the cloud, which demands a certificate of robots; InputError if keys are missing."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder)
    context.num_tickets = 0  # nobody resumes a session here
    return context


def edge_context(folder: Path) -> ssl.SSLContext:
    """TLS for a robot; InputError if keys are missing."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, folder)


def _context(protocol: ssl._SSLMethod, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(folder / CA)
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{folder}: needs {CA}, {CERTIFICATE} and {KEY} of this machine, as vlacut keys makes "
            f"them: {error.strerror or error}"
        ) from error
    return context


def secure(
    sock: socket.socket, context: ssl.SSLContext | None, timeout: float, *, server: bool
) -> socket.socket:
    """The socket in TLS, or as it is without a context. Owns it: closes it if that fails.

    Raises PeerRefused if certificates do not match, PeerLost if the connection ends.
    """
    if context is None:
        return sock
    wrapped: socket.socket = sock
    try:
        wrapped = context.wrap_socket(sock, server_side=server, do_handshake_on_connect=False)
        wrapped.settimeout(timeout)
        wrapped.do_handshake()
    except (OSError, ValueError) as error:  # ValueError: the connection ended before TLS began
        wrapped.close()
        kind = PeerRefused if isinstance(error, ssl.SSLError) else PeerLost
        raise kind(
            f"no TLS with the other side ({_reason(error)}); both need --tls, with keys of the "
            f"same vlacut keys"
        ) from error
    return wrapped


def _reason(error: Exception) -> str:
    return str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or error)


def require_authentication(host: str, context: ssl.SSLContext | None, insecure: bool) -> None:
    """Raises InputError if peers off loopback would not be authenticated, and nobody said so."""
    if context is None and not insecure and not is_loopback(host):
        raise InputError(
            f"{host} is not loopback, and without --tls peers are not authenticated; give it a "
            f"folder of vlacut keys, or allow it with --insecure"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or `localhost` is; another name never is, whatever it resolves to."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
