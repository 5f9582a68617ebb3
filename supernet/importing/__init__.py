"""Weights that other projects trained, as supernets of ours."""
