"""What a built ELF really holds: its code, its worst-case stack, and proofs about its instructions."""
