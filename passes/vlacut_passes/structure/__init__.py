"""Where every operator is in its model: blocks from names or from repetition, then stages."""
