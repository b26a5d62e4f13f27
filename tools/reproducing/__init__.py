"""The papers' tables and figures, each beside ours."""
