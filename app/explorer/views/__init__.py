"""What a browser looks at, as a value: through an address and back, and what a front has of it."""
