"""Front-ends: read a user's model into a graph of real operators, or say everything that prevents it."""
