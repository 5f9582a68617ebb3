"""What is worked out from records alone: no pages, no charts, no files."""
