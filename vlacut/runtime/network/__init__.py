"""What the frames tell of the network: estimates, predictors, and the selectors of variants.

May import: wire, and the plan. Public: `Selector`, `SELECTORS`, `make_selector`, `Predictor`,
`PREDICTORS`, `make_predictor`, `Forecast`, `NetworkEstimates`.
"""
