"""Graphs that compute with integers: how they are written, stored, fused and simulated."""
