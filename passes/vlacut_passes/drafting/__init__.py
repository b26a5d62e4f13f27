"""What `draft` is made of: the loop that says tokens, a pass over drafts, and how it goes on.

May import: ir and what lies below. Public: `TokenLoop`, `find_token_loop`, `DraftNames`,
`drafted_phase`, `following`, `greedy_original`.
"""
