"""Small spaces, problems, networks and runs that several tests share."""
