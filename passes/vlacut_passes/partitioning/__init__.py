"""The exact search for a cut: `search.optimal_cut`, and the strategies it is measured against."""
