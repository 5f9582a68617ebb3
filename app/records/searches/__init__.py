"""The files of a search, and choosing from what it found."""
