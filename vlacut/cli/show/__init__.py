"""What plans, pools, sweeps and steps look like in a terminal.

May import: everything below the command line; commands import it, never the other way round.
Public: `console`, `print_json`, `json_option`, `progress_bar`, `table`, `show_plan`, `plan_json`,
`show_sweep`, `show_candidates`, `show_steps`, `show_loop`.
"""
