"""Graphs of quantized networks as they are stored and written: packing, padding, names, borders."""
