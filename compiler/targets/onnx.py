"""ONNX: the generated source as a file for other runtimes."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..errors import CompileError
from ..types import Kind
from .base import Example, Special
from .decompositions import ONNX as TABLE
from .instead import TRACED
from .pairs import Pairs, has_complex, laid_out
from .programs import Programs, Run, agrees, export, precision, state

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

OPSET = 20
DTYPES = (torch.float32, torch.float64, torch.float16)
# What onnxruntime does to products of float64 matrices with a number: it keeps the number in single precision.
SINGLE = ("MatMulScaleFusion",)


class ONNX:
    """An ONNX graph, dynamic in every size that no parameter fixes; no gradients. Built modules run it by onnxruntime,
    on the CPU, in float32, float64 or float16. Saved as a .onnx file, for the number of batch dimensions and the dtype
    that it was exported for; inputs and outputs have the names and axes of the formula, and complex ones a last
    dimension of two behind them, for the real and the imaginary part."""

    name = "onnx"
    suffix: str | None = ".onnx"
    instead = TRACED
    files: tuple[str, ...] = ("at_once.py",)
    any_batch = False
    special: Special | None = None
    operator = True
    launches = False

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        _needs("onnx", "onnxscript", "onnxruntime")

        def make(inputs: tuple[Tensor, ...]) -> Run:
            dtype = _dtype(inputs)

            def made() -> tuple[list[Tensor], Run]:
                call = _session(_program(module, inputs), example, dtype)
                _hold(call, module, example, dtype, 1)
                return [tensor.detach().clone() for _, tensor in state(module)], call

            held, call = made()

            def run(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
                nonlocal held, call
                if not all(torch.equal(old, new) for old, (_, new) in zip(held, state(module), strict=True)):
                    held, call = made()  # they are constants of the program
                return call(tensors)

            return run

        return Programs(module, example, make)

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        _needs("onnx", "onnxscript", "onnxruntime")
        inputs = example.inputs(batch=batch)
        program = _program(module, inputs)
        _hold(_session(program, example, _dtype(inputs)), module, example, _dtype(inputs), batch)
        _name(program, module, example, batch)
        program.save(str(path))


def _dtype(inputs: Sequence[Tensor]) -> torch.dtype:
    """The dtype of real numbers. Errors: ValueError where onnxruntime has no such tensors."""
    found = precision(inputs) or torch.float32
    if found not in DTYPES:
        raise ValueError(f"onnxruntime takes no {_short(found)} here: use {', '.join(map(_short, DTYPES))}")
    return found


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _session(program: ONNXProgram, example: Example, dtype: torch.dtype) -> Run:
    """The program as onnxruntime runs it, a complex tensor as real and imaginary parts. Errors: CompileError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is raised
    data = program.model_proto.SerializeToString()
    kept: dict[str, Any] = {"disabled_optimizers": list(SINGLE)} if dtype is torch.float64 else {}
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], **kept)
    except Exception as error:  # its exceptions share no class but this one
        _only_of_runtime(error)
        raise CompileError(f"onnxruntime cannot run this in {_short(dtype)}: {_first_line(error)}") from error
    names = [argument.name for argument in session.get_inputs()]
    places = [int(name.removeprefix("tensor")) for name in names]  # what nothing reads is no input of the session
    pairs = [node.type.kind is Kind.COMPLEX for node in example.formula.graph.outputs]

    def run(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        feed = {name: laid_out(tensors[place].detach()).numpy() for name, place in zip(names, places, strict=True)}
        found = [torch.from_numpy(result) for result in session.run(None, feed)]
        return [torch.view_as_complex(each) if pair else each for each, pair in zip(found, pairs, strict=True)]

    return run


def _hold(run: Run, module: nn.Module, example: Example, dtype: torch.dtype, batch: int) -> None:
    """Hold the program to the module: exporter and runtime have faults. Errors: CompileError."""

    def checked(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        try:
            return run(tensors)
        except Exception as error:  # as above
            _only_of_runtime(error)
            raise CompileError(f"onnxruntime cannot run this: {_first_line(error)}") from error

    if not agrees(checked, module, example, dtype, batch):
        raise CompileError(
            "the ONNX program computes something else than the formula, through a fault of torch's exporter or "
            "of onnxruntime; take the target export or aoti"
        )


def _only_of_runtime(error: Exception) -> None:
    if not type(error).__module__.startswith("onnxruntime"):
        raise error


def _needs(*packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise CompileError(f"ONNX needs {', '.join(missing)}: pip install 'attngraph[onnx]'")


def _program(module: nn.Module, inputs: tuple[Tensor, ...]) -> ONNXProgram:
    """The ONNX program of a module. Errors: CompileError."""
    names = [f"tensor{index}" for index in range(len(inputs))]
    with _quiet(), torch.no_grad():
        exported = export(module, inputs).run_decompositions(TABLE)
        if has_complex(exported):
            core = exported.run_decompositions({**torch.export.default_decompositions(), **TABLE})
            exported = export(Pairs(core), tuple(map(laid_out, inputs))).run_decompositions(TABLE)
        options = {"input_names": names, "custom_translation_table": _translations(), "verbose": False}
        options["optimize"] = False  # it takes numbers up to 1e-8 for 0, and those near 1 for 1
        try:
            found = torch.onnx.export(exported, (), dynamo=True, opset_version=OPSET, **options)  # type: ignore[arg-type]
        except torch.onnx.errors.OnnxExporterError as error:
            raise CompileError(f"ONNX cannot express this: {_first_line(error.__cause__ or error)}") from error
    assert found is not None
    graph: Any = found.model.graph
    given = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for node in graph:
        for value in node.outputs:
            if id(value) not in given:
                # some are wrong, of spectra and of numbers made of sizes, and runtimes go by them; they find their own
                value.shape = value.type = None
    return found


def _translations() -> dict[Any, Any]:
    """Operations of torch that ONNX has and the exporter does not know, or gets wrong.

    It rounds quotients of sizes towards 0, so that -(-N // block) is no ceiling, and keeps every number that is written
    in the source or made of sizes in single precision.
    """
    from onnxscript import ir
    from onnxscript import opset18 as onnx

    single, double = ir.DataType.FLOAT, ir.DataType.DOUBLE

    def product(x: Any, dims: Sequence[int], output_dtype: Any = None) -> Any:
        axes: Any = onnx.Constant(value_ints=list(dims))
        return onnx.ReduceProd(x, axes, keepdims=0)

    def floor_divide(x: Any, divisor: Any) -> Any:
        return onnx.Div(onnx.Sub(x, onnx.Mod(x, divisor)), divisor)

    def of_kind(x: Any, kind: Any) -> Any:
        if isinstance(x, bool | int | float):
            number: Any = ir.tensor(x, dtype=kind)
            return onnx.Constant(value=number)
        return onnx.Cast(x, to=kind)

    def scalar(x: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None) -> Any:
        return of_kind(x, single if dtype is None else ir.DataType(dtype))

    def real(x: Any) -> Any:
        return of_kind(x, double)

    def of_sizes(operation: Callable[[Any, Any], Any], *, always: bool = False) -> Callable[[Any, Any], Any]:
        """always: whether the result of two whole numbers is a real one."""

        def computed(x: Any, y: Any) -> Any:
            if always or any(isinstance(z, float) or getattr(z, "dtype", None) in (single, double) for z in (x, y)):
                x, y = real(x), real(y)
            return operation(x, y)

        return computed

    return {
        torch.ops.prims.prod.default: product,
        torch.ops.aten.scalar_tensor.default: scalar,
        torch.sym_float: real,
        operator.floordiv: floor_divide,
        operator.truediv: of_sizes(onnx.Div, always=True),
        operator.add: of_sizes(onnx.Add),
        operator.sub: of_sizes(onnx.Sub),
        operator.mul: of_sizes(onnx.Mul),
        operator.pow: of_sizes(onnx.Pow),
    }


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _name(program: ONNXProgram, module: nn.Module, example: Example, batch: int) -> None:
    """Give inputs, results and their dimensions the names of the formula."""
    graph: Any = program.model.graph
    leading = [f"batch{index}" if batch > 1 else "batch" for index in range(batch)]
    for value in graph.inputs:
        place = int(value.name.removeprefix("tensor"))
        value.name = cast("tuple[str, ...]", module.inputs)[place]
        _name_dimensions(value, (*leading, *example.axes[place]))
    results = example.results
    for index, (value, (batched, axes)) in enumerate(zip(graph.outputs, results, strict=True)):
        value.name = f"result{index}" if len(results) > 1 else "result"
        _name_dimensions(value, (*leading, *axes) if batched else axes)


def _name_dimensions(value: Any, names: tuple[str, ...]) -> None:
    for index, name in enumerate(names):
        if not isinstance(value.shape[index], int):
            value.shape[index] = name
    for index in range(len(names), len(value.shape)):
        value.shape[index] = 2  # the parts of a complex number


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of packages that it does not find, and torch of its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
