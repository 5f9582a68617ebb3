"""Graphs of quantized networks: what a runtime fuses in them, and which parts stay in float."""
