"""Episodes: their file, the recorder that writes it, and what is read out of one.

May import: signals, ways, report and situation. Public: `Episodes`, `read_episodes`,
`write_episodes`, `Recorder`.
"""
