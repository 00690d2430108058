"""EuclidNet's similarity: half the squared distance, negated."""
