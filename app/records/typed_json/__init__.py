"""How a record of any kind becomes JSON and JSON a record, and what is said of damage."""
