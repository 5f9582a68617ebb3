"""What an audit job is made of: its request and the summary of what it found."""
