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
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlacut.errors import InputError, PeerLost, PeerRefused, one_line

CA, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
REVOKED = "revoked.pem"  # beside the cloud's, where a robot's trust was taken away
_SAME_KEYS = "both need --tls, with keys of the same vlacut keys"
_ADVICE = {
    "expired": "see that both clocks are right, or make keys anew with vlacut keys",
    "not yet valid": "see that both clocks are right",
    "revoked": "its trust was taken away with vlacut keys --revoke; make this robot other keys",
    "purpose": "vlacut serve takes the folder cloud of vlacut keys, vlacut run that of a robot",
    "unsupported certificate": "vlacut run takes a robot's folder of vlacut keys, not the cloud's",
}
_LINGER_S, _LINGERS = 0.2, 8


def cloud_context(folder: Path) -> ssl.SSLContext:
    """TLS for the cloud, which demands a certificate of robots that is not among those revoked.

    Raises InputError if keys are missing, or the list of those revoked cannot be read.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder)
    context.num_tickets = 0  # nobody resumes a session here
    revoked = folder / REVOKED
    if revoked.exists():
        try:
            context.load_verify_locations(revoked)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"{revoked}: cannot be read; copy it again from where vlacut keys --revoke made it"
            ) from error
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def edge_context(folder: Path) -> ssl.SSLContext:
    """TLS for a robot. Raises InputError if keys are missing."""
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
            f"them: {getattr(error, 'reason', '') or error.strerror or error}"
        ) from error
    return context


def server_name(digest: bytes) -> str:
    """What a robot's TLS asks for in the clear: its bundle, for balancers that choose a server by
    it. No certificate has this name, and nobody compares it.

    Args:
        digest: of the bundle's manifest, 32 bytes.
    """
    text = digest.hex()
    return f"{text[:32]}.{text[32:]}.vlacut"  # a label of DNS has 63 characters at most


def secure(
    sock: socket.socket,
    context: ssl.SSLContext | None,
    timeout: float,
    *,
    server: bool,
    name: str | None = None,
) -> socket.socket:
    """The socket in TLS, or as it is without a context. Owns it: closes it if that fails.

    Args:
        sock: connected.
        context: of `cloud_context` or `edge_context`; None for a plain connection.
        timeout: seconds that a message of the handshake may take.
        server: whether this side is the cloud.
        name: that the other side is asked for, see `server_name`.

    Raises PeerRefused if certificates do not match, PeerLost if the connection ends.
    """
    if context is None:
        return sock
    wrapped: socket.socket = sock
    try:
        wrapped = context.wrap_socket(
            sock, server_side=server, do_handshake_on_connect=False, server_hostname=name
        )
        wrapped.settimeout(timeout)
        wrapped.do_handshake()
    except (OSError, ValueError) as error:  # ValueError: the connection ended before TLS began
        _linger(wrapped)
        wrapped.close()
        raise no_tls(error) from error
    return wrapped


def peer_name(sock: socket.socket) -> str:
    """Whose certificate the other side showed; empty without TLS."""
    if not isinstance(sock, ssl.SSLSocket):
        return ""
    found: Any = sock.getpeercert() or {}
    names = (value for part in found.get("subject", ()) for key, value in part)
    return one_line(next(names, ""))


def _linger(sock: socket.socket) -> None:
    """Let the other side read what was said last: who closes with bytes unread resets at once."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_WR)
        sock.settimeout(_LINGER_S)
        for _ in range(_LINGERS):
            if not socket.socket.recv(sock, 4096):
                return


def says_no(error: Exception) -> bool:
    """Whether this is about keys, and not the end of the connection."""
    ended = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError))
    return isinstance(error, ssl.SSLError) and not ended


def no_tls(error: Exception) -> PeerRefused | PeerLost:
    """What to raise when TLS does not come about: why, and what to do."""
    reason = str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or "")
    reason = reason or str(getattr(error, "strerror", "") or error)
    low = reason.lower().replace("_", " ")
    kind = PeerRefused if says_no(error) else PeerLost
    return kind(f"no TLS with the other side ({low}); {advice_for(low)}")


def advice_for(reason: str) -> str:
    """What to do where TLS says this."""
    return next((advice for word, advice in _ADVICE.items() if word in reason), _SAME_KEYS)


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
