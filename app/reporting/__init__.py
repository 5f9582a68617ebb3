"""Numbers, tables and figures for people, in files and on the terminal."""
