"""Credentials that stay in the organisation's vaults."""
