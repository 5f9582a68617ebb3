"""Architectures as numbers that predictors learn from."""
