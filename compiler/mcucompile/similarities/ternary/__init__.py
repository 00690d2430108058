"""The similarity of ternary networks: the activation times the sign of the weight."""
