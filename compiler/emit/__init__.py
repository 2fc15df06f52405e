"""From a graph to the source of one nn.Module."""

from .generate import Generated, emit

__all__ = ["Generated", "emit"]
