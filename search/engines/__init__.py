"""What strategies are driven by: evolution, replayed libraries, gradient descent, surrogates."""
