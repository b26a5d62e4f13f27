"""Prompts as tokens: words become numbers when a policy is compiled, and nothing is downloaded.

May import: frontends, ir and what lies below. Public: `Prompt`, `Tokens`, `find_file`,
`open_tokens`, `WrittenState`, `written_state`, `clean`.
"""
