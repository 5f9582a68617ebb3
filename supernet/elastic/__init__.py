"""What makes a plain network elastic: rows of the table, the plan, and the slicing that follows."""
