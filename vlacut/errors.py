"""What users are told: how far work is, and what went wrong.

The exception tree. Every error a user can cause or meet is one of these, and its message is one
line that says what is wrong, where, and what to do.

    VlacutError
    ├── InputError            what the user handed over is wrong (exit status 2)
    │   ├── ModelError        a model file or program: unreadable, unknown operator, unbound shape
    │   ├── HardwareError     an unknown device, a link that does not parse
    │   ├── InfeasibleError   no cut satisfies the constraints
    │   └── ObservationError  a tensor of the observation: name, shape or dtype
    ├── PassError             a pass or a pipeline text is wrong
    ├── VerificationError     a graph breaks a rule of the verifier
    │   └── ModelDiffers      the program is not the model it came from, by its numbers
    ├── BackendError          a back end cannot build or run a part
    │   └── UnsupportedError  what is asked of it, it or this machine does not have (status 2)
    ├── BundleError           a bundle is incomplete, altered or of another format
    ├── DeadlineMissed        no action in time, and nothing to fall back on
    └── WireError             the peer broke the protocol
        ├── CodecError        a coded tensor cannot be decoded: it came damaged
        ├── PeerLost          the connection ended or could not be made
        └── PeerRefused       the peer says no: another bundle, another version, other keys
            └── PeerUnable    the peer would, and cannot now: it is full, stops, or failed
                ├── PeerLoading    it is loading the bundle, and will then
                └── PeerMoved      it names another that can
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

Progress = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and of how much."""


def unwatched(*_: object) -> None:
    """Takes progress, and shows it to nobody."""


_watcher: ContextVar[Progress] = ContextVar("watcher", default=unwatched)


@contextmanager
def watched(progress: Progress) -> Iterator[None]:
    """Meanwhile `tell` tells this: for what is called by way of others' code, as models of the zoo
    call the tracer.
    """
    before = _watcher.set(progress)
    try:
        yield
    finally:
        _watcher.reset(before)


def tell(what: str, done: int, total: int) -> None:
    """Tell who watches, if anybody does, what is done next, how much is done, and of how much."""
    _watcher.get()(what, done, total)


class VlacutError(Exception):
    """The root: catching it catches everything vlacut raises on purpose.

    Attributes:
        details: what a machine may want to know beside the message, for JSON.
    """

    details: Mapping[str, object] = MappingProxyType({})


class InputError(VlacutError):
    """What the user handed over is wrong; the command line exits with status 2."""


class ModelError(InputError):
    """A model file or a program is unreadable, incomplete or uses what we do not know.

    Attributes:
        place: `file:line: code` of the model that is at fault, if no frame of the traceback is.
    """

    place: str = ""


class HardwareError(InputError):
    """A device or a link is unknown or does not parse."""


class InfeasibleError(InputError):
    """No cut satisfies the constraints; the message says which one binds and by how much."""


class ObservationError(InputError):
    """A tensor of the observation has the wrong name, shape or dtype."""


class PassError(VlacutError):
    """A pass failed or a pipeline text does not parse."""


class VerificationError(VlacutError):
    """A graph breaks a rule of the verifier."""


class ModelDiffers(VerificationError):
    """What was traced is not the model it came from: their numbers are too far apart."""


class BackendError(VlacutError):
    """A back end cannot build or run a part."""


class UnsupportedError(BackendError):
    """What is asked of a back end, it or this machine does not have: an operator, a provider."""


class BundleError(VlacutError):
    """A bundle is incomplete, altered, or of another format."""


class DeadlineMissed(VlacutError):
    """There was no action in time, and nothing to fall back on."""


class WireError(VlacutError):
    """The peer broke the protocol."""


class CodecError(WireError):
    """A coded tensor cannot be decoded: it came damaged."""


class PeerLost(WireError):
    """The connection ended, or could not be made."""


class PeerRefused(WireError):
    """The peer says no: another bundle, another version, other keys."""


class PeerUnable(PeerRefused):
    """The peer would, and cannot now: it has no room, is stopping, or an engine of it failed."""


class PeerLoading(PeerUnable):
    """The peer is loading the bundle, and serves it once that is done: ask again."""


class PeerMoved(PeerUnable):
    """The peer names another that serves the bundle.

    Attributes:
        address: host and port of that one.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"the cloud sends this robot to {host}, port {port}")
        self.address = host, port


def one_line(text: object) -> str:
    """The text on one line, without characters that move a terminal's cursor.

    An engine, or the other end of a wire, may send any text.
    """
    words = " ".join(str(text).split())
    return "".join(each if each.isprintable() else "?" for each in words)


def told(error: Exception) -> str:
    """What an error says; of one that is not of vlacut also its kind, for few of these say it."""
    return str(error) if isinstance(error, VlacutError) else f"{type(error).__name__}: {error}"


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`did you mean X?`, or where nothing is like the name, `known: A, B`.

    Args:
        name: what was given.
        known: what could have been meant.
        cutoff: least likeness, by the ratio of `difflib.SequenceMatcher`.
    """
    import difflib  # when something is misspelt alone

    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=cutoff)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
