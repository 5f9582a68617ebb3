"""First samples of a space, and rows that keep within limits."""
