"""Looking at an installation that may be broken: what is wrong with it, and what to do."""
