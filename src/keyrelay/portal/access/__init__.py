"""The pages about access: users, roles, claims, identity providers, API tokens, and one's own password."""
