"""Numbers of few bits: rounding and its gradients, ranges, and weights that bear both well."""
