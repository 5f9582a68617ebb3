"""What makes a plain network elastic: rows of a table, their index, and slicing."""
