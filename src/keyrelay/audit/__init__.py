"""The record of who did what: hash-chained, signed, and written in the transaction that it tells of."""
