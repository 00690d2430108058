"""MinConvNet's similarity: the smaller magnitude with the sign of the product."""
