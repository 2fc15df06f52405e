"""The language: formula text to syntax tree and back. Knows no tensor."""

if __name__ != "attngraph.grammar":
    raise ImportError(f"import this package as attngraph.grammar, not as {__name__}")
