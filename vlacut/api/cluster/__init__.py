"""Clusters: many servers, any of which a robot may ask.

May import: what the library may. Public: `read_workers`, `Follower`, `fetch_status`,
`read_settings`, `RayCluster`.
"""
