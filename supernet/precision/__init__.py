"""Supernets that are elastic in precision, and networks that compute in integers."""
