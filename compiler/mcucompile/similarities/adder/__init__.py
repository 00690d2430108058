"""AdderNet's similarity: the L1 distance, negated."""
