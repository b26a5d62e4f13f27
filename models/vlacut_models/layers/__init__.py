"""The pieces that several models are made of: towers, decoders, heads."""
