"""What is shown of a front besides its chart, and what chooses from it."""
