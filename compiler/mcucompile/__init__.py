"""mcucompile."""
