"""What a search job is made of: request, objectives, checks, verification and files."""
