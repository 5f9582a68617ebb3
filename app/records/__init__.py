"""What the files of a run hold, as typed values with one reader each."""
