"""Small neural networks for predictors, and losses that teach them to rank."""
