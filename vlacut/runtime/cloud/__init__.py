"""The server: who is let in, whose turn it is, and what it all takes.

May import: wire, engines, interpreter; nothing of the edge. Public: `Server`, `Offer`,
`ready`, `Deployment`, `Hosting`, `cloud_memory`.
"""
