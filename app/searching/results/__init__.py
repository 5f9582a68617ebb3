"""What follows a search: its front verified and built, predictors judged, random search beside."""
