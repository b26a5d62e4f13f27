"""The server that LeRobot's asynchronous `RobotClient` connects to.

The client says `Ready` and its instructions; then one of its threads sends observations, of which
the newest counts, and another asks for actions, again and again. It asks at once again if it gets
none, so that the question is held until there are some, two seconds at most, as LeRobot's own
server does. No observation is left out for being like the last one.

A step that fails or is late gets no answer: the client plays on what it has, whose commands have
their ticks. What is wrong with a request is said in the call's status, which the client logs.

Source: huggingface/lerobot, src/lerobot/async_inference/{robot_client,policy_server}.py, and
src/lerobot/transport/services.proto; the same from 0.4.0 to 0.6.1.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

from vlacut.errors import InputError, VlacutError, WireError, one_line
from vlacut.integrations.lerobot.answers import actions_pickle
from vlacut.integrations.lerobot.heard import Heard
from vlacut.integrations.lerobot.messages import END, actions_message, data_of, fields_of
from vlacut.integrations.lerobot.observing import read_instructions, read_observation
from vlacut.integrations.lerobot.pickles import read_pickle
from vlacut.integrations.lerobot.turns import Turn
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.runtime.wire.security import require_authentication
from vlacut.runtime.wire.sockets import written

_SERVICE = "transport.AsyncInference"
_SPARE_BYTES = 1 << 18  # of an observation: names, text, cameras that a bundle leaves out are more
_LARGEST_PIECE = 4 << 20  # of the client, which sends 2 MiB
_HELD_S = 2.0  # that a question for actions may wait
_LEAVES_S = 2.0 * _HELD_S  # without a word from a client, before another one may drive
_THREADS = 8
_RATE = 30.0  # commands a second where nobody says, as in LeRobot's own server
_log = logging.getLogger("vlacut.edge")


class LerobotServer:
    """Listens for LeRobot's client, and answers it by a policy.

    Args:
        policy: that makes chunks; its session must be ready.
        host, port: where to listen; port 0 takes a free one.
        insecure: allow another host than loopback: this wire has no encryption and no keys.
        rate: commands a second, for the timestamps of a chunk.
        most_bytes: of an observation; what the bundle's inputs take at most, if not given.

    Attributes:
        policy: that answers.
        address: host and port it listens on.

    Raises InputError if the address cannot be had.
    """

    def __init__(
        self,
        policy: OpenpiPolicy,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        insecure: bool = False,
        rate: float | None = None,
        most_bytes: int | None = None,
    ) -> None:
        require_authentication(host, None, insecure)
        self.policy, self._period_s = policy, 1 / (rate or _RATE)
        self._most = most_bytes or policy.fields.most_bytes + _SPARE_BYTES
        self._heard, self._turn = Heard(), Turn(_LEAVES_S)
        self._stepping, self._stopped = threading.Lock(), threading.Event()
        # One port is for one robot: the system must not share it between two servers.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _LARGEST_PIECE)]
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=options)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        try:
            given = self._server.add_insecure_port(written(host, port))
        except RuntimeError as error:
            raise InputError(f"cannot listen on {written(host, port)}: it is taken") from error
        self.address = host, given
        self._server.start()

    def serve_forever(self) -> None:
        """Serve until `shutdown`."""
        self._stopped.wait()

    def shutdown(self) -> None:
        """End the calls, and listen no more."""
        self._stopped.set()
        self._heard.end()
        self._server.stop(grace=_HELD_S).wait()

    def _handlers(self) -> Any:
        one, many = grpc.unary_unary_rpc_method_handler, grpc.stream_unary_rpc_method_handler
        methods = {
            "Ready": one(partial(self._guarded, self._ready)),
            "SendPolicyInstructions": one(partial(self._guarded, self._instruct)),
            "SendObservations": many(partial(self._guarded, self._observe)),
            "GetActions": one(partial(self._guarded, self._act)),
        }
        return grpc.method_handlers_generic_handler(_SERVICE, methods)

    def _guarded(self, answer: Callable[..., bytes], request: Any, context: Any) -> bytes:
        """A call's answer; what is wrong with its request becomes its status."""
        if not self._turn.takes(context.peer()):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "another client drives this robot; end it first"
            )
        try:
            return answer(request, context)
        except VlacutError as error:
            said = one_line(error)
            _log.warning("a request was refused: %s", said, extra={"event": "refused"})
            wrong = isinstance(error, (InputError, WireError))
            code = grpc.StatusCode.INVALID_ARGUMENT if wrong else grpc.StatusCode.INTERNAL
            context.abort(code, said)
            raise AssertionError("abort raises") from error

    def _ready(self, request: bytes, context: Any) -> bytes:
        """A client begins, and with it an episode."""
        with self._stepping:
            self.policy.reset()
        self._heard.forget()
        _log.info("a client of LeRobot connected", extra={"event": "connected"})
        return b""

    def _instruct(self, request: bytes, context: Any) -> bytes:
        said = read_instructions(read_pickle(data_of(request, 1)))
        said.check(self.policy.fields)
        if said.commands > self.policy.horizon:
            _log.info(
                "the client asks for %d actions a chunk: it gets %d",
                said.commands,
                self.policy.horizon,
            )
        self._heard.instruct(said)
        return b""

    def _observe(self, pieces: Iterator[bytes], context: Any) -> bytes:
        self._heard.observe(read_observation(read_pickle(self._joined(pieces))))
        return b""

    def _joined(self, pieces: Iterator[bytes]) -> bytes:
        """The bytes of an observation, at most as many as one may take."""
        found, total = [], 0
        for piece in pieces:
            data = data_of(piece, 2)
            total += len(data)
            if total > self._most:
                raise WireError(
                    f"an observation is more than {self._most} bytes, which the bundle's is"
                )
            found.append(data)
            if fields_of(piece).get(1) == END:
                break
        return b"".join(found)

    def _act(self, request: bytes, context: Any) -> bytes:
        """The chunk for the newest observation; nothing if there is none, or no new one."""
        observed, instructions = self._heard.take(_HELD_S)
        if observed is None:
            return b""
        if instructions is None:
            raise WireError("the client sent no instructions")
        wanted = partial(self._wanted, context)
        with self._stepping:
            made = self.policy.infer(instructions.raw(observed.values), wanted)
        if made["policy_timing"]["stale"]:
            return b""  # the client has these commands, with their ticks
        commands = made["actions"][: instructions.commands]
        packed = actions_pickle(
            instructions.module, commands, observed.timestamp, observed.timestep, self._period_s
        )
        return actions_message(packed)

    def _wanted(self, context: Any) -> bool:
        return bool(context.is_active()) and not self._stopped.is_set()
