"""The command line: one function per command, and what the commands share."""
