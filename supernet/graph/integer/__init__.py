"""Quantized graphs run with whole numbers, and the proof that their sums do not saturate."""
