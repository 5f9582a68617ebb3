"""Which architectures train in a step: one sampler per module, found by its name."""
