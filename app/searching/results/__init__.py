"""What follows a search: its front verified and built, its predictors judged, random search beside."""
