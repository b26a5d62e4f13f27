"""Inferences beside the loop: on a thread that drives the session, or in virtual time.

May import: what lies below control. Public: `Inference`, `Answer`, `Outlook`, `Runner`, `Worker`,
`Delayed`.
"""
