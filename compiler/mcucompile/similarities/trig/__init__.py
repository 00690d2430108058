"""The similarity of trigonometric inference: the product of sines."""
