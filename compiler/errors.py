"""Errors of building a module, for the person who builds it."""


class CompileError(ValueError):
    """A formula that is fine, but sizes, constants or a target that cannot be used with it."""
