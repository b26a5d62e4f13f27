"""The page of a bundle: one file that a browser opens without a network.

Its figures are those of `--json`, which stand in it; its pictures are numbers that Python laid out
and templates draw, so that every text is escaped. It lets no script run but the two that draw a
run, which its policy names by their digests.

May import: what the command line may; `vlacut.cli.building.report` writes pages, and is
never imported here.
Public: `page_json`, `write_page`.
"""
