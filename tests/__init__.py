"""The tests. A package, so that they can share helpers as `tests.<folder>.<module>`."""
