"""Which samples of the training split a step sees."""
