"""The similarity of binary (XNOR) networks: the product of signs."""
