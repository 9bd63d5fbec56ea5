"""Reaching other services: one trust and one bounded way to ask over HTTP, for token endpoints and vaults alike."""
