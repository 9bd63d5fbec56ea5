"""The HTTP contract; the only room that knows PascalCase."""
