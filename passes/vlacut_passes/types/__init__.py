"""Element types: which operators need float32, and what changes the types of the others."""
