"""The wire of openpi's policy server: msgpack with numpy over a WebSocket.

Needs `vlacut[openpi]`: msgpack and websockets. May import: integrations' own, control, runtime and
what lies below. Public: `OpenpiPolicy`, `OpenpiServer`, `pack`, `unpack`, `Provenance`.
"""
