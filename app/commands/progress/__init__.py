"""How the progress of a command is shown: bars on a terminal, lines elsewhere, or not at all."""
