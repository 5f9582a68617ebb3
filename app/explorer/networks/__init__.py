"""What is shown of single networks, and what can be done with them."""
