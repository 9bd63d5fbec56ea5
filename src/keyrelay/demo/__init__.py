"""``keyrelay demo``: a server with everything around it that a real one has, on this machine and for a while."""
