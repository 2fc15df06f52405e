"""The compiler: syntax tree to typed graph, facts, plan and generated source."""

if __name__ != "attngraph.compiler":
    raise ImportError(f"import this package as attngraph.compiler, not as {__name__}")
