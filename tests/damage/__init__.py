"""A finished run, damaged in every file, and every command on it."""
