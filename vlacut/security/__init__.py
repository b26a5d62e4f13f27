"""Keys, certificates and signatures. Needs `cryptography`, so the runtime never imports it.

May import: bundle and what lies below. Public: `make_keys`, `make_signer`, `sign_bundle`,
`check_signature`.
"""
