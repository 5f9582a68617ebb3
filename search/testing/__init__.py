"""The contract of search strategies as checks that a user's own package can run, too."""
