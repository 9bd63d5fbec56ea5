"""How what keyrelay stands on is: what a person should look at before it ends or fails."""
