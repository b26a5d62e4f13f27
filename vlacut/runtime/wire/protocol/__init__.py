"""The wire: how the two sides of one bundle talk. This page is the specification.

One TCP connection, without Nagle's delay; off loopback in TLS 1.3, both sides with certificates
(`vlacut.runtime.wire.security`). Numbers are unsigned and big-endian; tensors are raw, packed,
little-endian, as numpy lays them out. No number from the peer ever sizes an allocation.

**Handshake.** The edge sends a greeting of 80 bytes, the cloud answers with one:

    0   magic `VLACUT`, two zero bytes
    8   protocol version (u16)
    10  status (u16): 0; from the cloud, otherwise the reason of a refusal, see `Status`
    12  flags (u32): bit 0, the checksums of frames cover their tensors; bit 1, the edge was sent
        here or comes back here, and is sent on only if there is no room; other bits are zero. The
        edge chooses, the cloud repeats them
    16  SHA-256 digest of the bundle's manifest
    48  session token, 16 random bytes the edge chose once; the cloud repeats them
    64  the edge's clock when it sent this; from the cloud: when it had received the edge's (u64)
    72  the edge's deadline for a step in nanoseconds, 0 if none; from the cloud: when it sent this

After another status than 0 the cloud says no more. The edge of a bundle that is being loaded dials
again: no handshake lasts as long as that may. Only *moved* is followed by a place: 256 bytes, the
`HOST:PORT` where the bundle is served in ASCII, then zeros. The edge dials that one, with the same
keys; where it runs into a circle, all are full.

The first 12 bytes keep their meaning in every version, so that versions can refuse each other. Two
sides that hold different bundles never exchange a tensor. A token seen before is the same robot
again: the cloud ends that robot's older session. Where the plan has state, 0 from the cloud is
followed by its memory of the robot: two versions of its state (u64; 0 if there is none), each with
a bit for every state that it holds of it, that of the plan's first in the lowest of the first byte.
Clocks are monotonic, in nanoseconds, of unknown epoch; the four times of a handshake estimate their
offset (`vlacut.runtime.wire.clock`).

**Frames.** After the handshake either side sends frames: a header of 40 bytes and a payload.

    0   magic 0x5643 (u16)
    2   kind (u8): 1 tensors, 2 error, 3 probe, 4 state, 5 fetch
    3   zero
    4   variant (u16), position (u16), trip (u16): which Transfer of which schedule; position counts
        the flattened schedule, trip the turns of the loop around it
    10  two zero bytes
    12  checksum (u32)
    16  step (u64)
    24  base (u64): the version of state that the step builds on; from the cloud 0, but in state
    32  length of the payload (u64)

Variant, position and trip fix the payload's length for the receiver, or where pictures are coded
the least and the most that it may be, and a frame that claims another is refused. Which variant
runs is the sender's to say, frame by frame. Steps only grow: a frame of a later step abandons the
earlier one on the cloud, and the edge drops frames of earlier steps. A step that failed starts
again from its observation, on a new connection; nothing of the old connection outlives it.

**State.** What step n leaves to the next has the version n + 1; the initial state has version 0. A
step that builds on version n + 1 needs step n: the cloud ends it first. A step that builds on an
earlier one has given up those since, and what they left is forgotten: no more is held than the base
of a step and what it leaves. A transfer that is `later` is sent as any other, and nobody waits for
it before the next step. A state frame is one tensor of state of the version `base`: position is its
index in the plan, variant and trip are 0. The edge sends one, before the frames of a step, where
the cloud lacks it; the cloud, where the edge asks for it: a fetch frame, which has no payload.
A step that reads state which the cloud does not hold ends the connection.

**Tensors.** From the edge: the tensors of the Transfer, in its order, without gaps; each as it is,
or as the codec that the Transfer names for it writes it (`vlacut.runtime.wire.codecs`). So the
length of a coded tensor too is fixed by the plan, but for coded pictures
(`vlacut.runtime.wire.pictures`). Of these come first, after the times where there are any, the
lengths, a u32 each; then the tensors whose length is fixed; then the coded pictures in their order,
without gaps. Each has as many bytes as the tensor has without a codec at most, and all together
what the payload's length leaves: the receiver has room for the most, and refuses other lengths. A
Transfer of no tensors tells the cloud that a step has begun, where it begins with what depends on
nothing of the edge's.

From the cloud, before them the *times*, each a u64: how many of the edge's frames of this step it
had taken; its clock when the last of these was complete; its clock when it sent this frame; its
clock when the first bytes of the last of these came; of the edge's frames since those it told of
before, the bytes that came after their first ones, and the nanoseconds in which they did, both 0
where that cannot be told (`vlacut.runtime.wire.burst`); the nanoseconds it has spent in codecs so
far in this step; and for every cloud part of the variant the nanoseconds spent in it so far in this
step and its clock when the last run of it began.

**Probes.** Between two steps the edge may send a probe, whose payload is 32768 zero bytes, to learn
the bandwidth where no tensor crosses. The cloud answers it with a probe of the same step that holds
the first seven times. Variant, position and trip of both are 0. Where the plan has state, the base
of a probe is its step: it gives nothing up.

**Errors.** An engine that fails on one side is said to the other: the payload of an error frame is
one line of UTF-8, at most 512 bytes. It ends the connection. Frames that break these rules end it
without a word, since nothing says that the peer would read one.

**Checksum.** CRC-32 (zlib's) over the header with a zero checksum, then, where the handshake says
so, over each tensor: of its blocks of 4096 bytes, read as rows of 512 little-endian u64, the sums
of the rows, then the sums of the columns, both modulo 2**64 and little-endian; then the bytes after
the last whole block. The sums cost a quarter of a CRC over all bytes (tools/bench_wire.py), and
notice bytes that changed, moved or came twice. They guard against faults, not against attackers:
that is what TLS is for. The edge asks for them off loopback without TLS, where TCP's own checksum
of 16 bits is all that guards the tensors. TLS authenticates every record (RFC 8446, section 5.2),
and on loopback bytes are copied from memory to memory.

May import: errors alone, beside numpy. Public: `Greeting`, `Status`, `Header`, `Envelope`,
`sealed`, `checksum`, `unpack_greeting`, `unpack_header`.
"""
