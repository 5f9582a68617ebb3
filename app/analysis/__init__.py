"""What follows from evaluated architectures by arithmetic alone: no files, no page, no charts."""
