"""The pages for people: server-rendered, and on the same functions as the API."""
