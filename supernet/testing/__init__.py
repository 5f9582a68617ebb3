"""The contracts of families and samplers as checks that a user's own package can run, too."""
