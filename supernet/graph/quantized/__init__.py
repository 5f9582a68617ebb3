"""Graphs with quantized tensors: what a runtime fuses, what it computes, and whether it may."""
