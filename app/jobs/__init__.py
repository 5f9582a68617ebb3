"""Jobs: what each command does, as a function that scripts can call, too."""
