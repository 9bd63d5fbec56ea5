"""Secrets: what they are, how they are kept, and the one moment when they are opened."""
