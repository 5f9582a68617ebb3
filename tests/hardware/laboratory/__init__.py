"""A device of a user's own package, as the tests see it."""
