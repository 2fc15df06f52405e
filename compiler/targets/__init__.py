"""Ways to run the generated source."""

from .base import Target
from .eager import Eager
from .export import Export
from .inductor import Inductor
from .torchscript import TorchScript

TARGETS: dict[str, Target] = {target.name: target for target in (Eager(), TorchScript(), Inductor(), Export())}

__all__ = ["TARGETS", "Target"]
