"""Ways to run the generated source."""

from .aoti import AOTI
from .base import Example, Target, stand_ins
from .eager import Eager
from .export import Export
from .fla import FLA
from .inductor import Flex, Inductor
from .onnx import ONNX
from .torchscript import TorchScript

TARGETS: dict[str, Target] = {
    target.name: target for target in (Eager(), TorchScript(), Inductor(), Flex(), FLA(), Export(), AOTI(), ONNX())
}

__all__ = ["TARGETS", "Example", "Target", "stand_ins"]
