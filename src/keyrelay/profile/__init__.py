"""The one SMTP profile: what it is, what makes it valid, and how it is kept."""
