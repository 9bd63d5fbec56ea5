"""The durable outbox: what was accepted from applications, and how it goes out."""
