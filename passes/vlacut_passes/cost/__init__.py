"""What operators cost: one rule an operator, by kind of work."""
