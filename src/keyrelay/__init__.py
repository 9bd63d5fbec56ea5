"""keyrelay: one SMTP profile as a service."""

__version__ = "0.1.0"
