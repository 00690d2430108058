"""The similarity of multiplication-free operators: the sum of magnitudes with the sign of the product."""
