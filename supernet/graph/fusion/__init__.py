"""What a runtime makes of quantized graphs: which operators it fuses, and what stays in float."""
