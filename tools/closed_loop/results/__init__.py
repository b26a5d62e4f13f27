"""What episodes came to: cells and their outcomes, kept, compared, and laid out as tables."""
