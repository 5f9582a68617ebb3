"""Records as columns, so that thousands of them are shown in a moment."""
