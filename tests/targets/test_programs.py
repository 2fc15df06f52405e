"""Programs that other runtimes carry: machine code, ONNX; batch dimensions, no gradients, what stands in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor

import attngraph
from attngraph import cli
from attngraph.compiler.lowerings.library import texts
from attngraph.compiler.module import save
from attngraph.compiler.targets import TARGETS
from attngraph.compiler.targets.decompositions import ONNX
from attngraph.compiler.targets.instead import ALL_CHUNKS

from ..emit.formulas import CAUSAL, KINDS, LINEAR, ROTATED, SOFTMAX, compiled
from .test_targets import BATCHES, DRAWN, on, planned

UNBATCHED = """attention distances(x[N, D]) -> [N, N2]:
    where N2 = N
    return pos(N) - pos(N2) + 0.5
"""


def same_values(made: Any, eager: Any, text: str, sizes: tuple[int, ...]) -> None:
    """At sizes and batches that were not traced; without gradients."""
    with torch.no_grad():
        for n in sizes:
            for batch in BATCHES:
                inputs = DRAWN[text](batch, n)
                torch.testing.assert_close(made(*inputs), eager(*inputs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("text", [LINEAR, CAUSAL, KINDS], ids=["linear", "causal", "kinds"])
def test_onnx(text: str) -> None:
    same_values(on(text, "onnx"), on(text, "eager"), text, (9, 1, 98, 130))


@pytest.mark.slow
def test_aoti() -> None:
    """One package, with parameters, for every length and batch; it follows the parameters as they change."""
    made, eager = on(ROTATED, "aoti"), on(ROTATED, "eager")
    same_values(made, eager, ROTATED, (9, 1, 53))
    with torch.no_grad():
        for module in (made.module, eager):
            module.w.mul_(2.0)
    same_values(made, eager, ROTATED, (5,))


AGENTS = """attention agents(q[N, D], k[M, D], v[M, E], agents[A, D]) -> [N, E]:
    param b1[A, M] = 0, b2[N, A] = 0
    broadcast = softmax[A](q @ agents^T / sqrt(D) + b2)
    return broadcast @ softmax[M](agents @ k^T / sqrt(D) + b1) @ v
"""
MOVING = """attention moving(x[N]) -> [N]:
    scan N:
        state s[] = 0
        s = 0.5 * s + tanh(s) * x
        yield y = s
    return y
"""


@pytest.mark.slow
def test_aoti_scales_scores_by_the_width_that_it_is_called_with() -> None:
    made, eager = (
        compiled(AGENTS, target=target, sizes={"A": 3, "M": 5, "N": 7}, dtype=torch.float64)
        for target in ("aoti", "eager")
    )
    with torch.no_grad():
        for width in (14, 3):
            q, k, a = (torch.randn(2, n, width, dtype=torch.float64) for n in (7, 5, 3))
            v = torch.randn(2, 5, 4, dtype=torch.float64)
            torch.testing.assert_close(made(q, k, v, a), eager(q, k, v, a))


@pytest.mark.slow
def test_aoti_goes_through_a_sequence_of_any_length() -> None:
    made, eager = (compiled(MOVING, target=target, dtype=torch.float64) for target in ("aoti", "eager"))
    with torch.no_grad():
        for shape in ((2, 5), (1, 1), (3, 4, 23)):
            x = torch.randn(shape, dtype=torch.float64)
            torch.testing.assert_close(made(x), eager(x))


KERNELS = """attention kernels(x[C, N], kernel[C, W]) -> [C, N]:
    return conv[N, W](x, kernel)
"""
KERNELS_OF_IMAGES = """attention kernels(x[C, Y, X], kernel[C, Ky, Kx]) -> [C, Y, X]:
    return conv[Y, X, Ky, Kx](x, kernel, dilation=2)
"""


@pytest.mark.parametrize("text", [KERNELS, KERNELS_OF_IMAGES], ids=["sequence", "image"])
@pytest.mark.parametrize("target", ["export", pytest.param("aoti", marks=pytest.mark.slow)])
def test_programs_pad_and_group_by_the_sizes_that_they_are_called_with(text: str, target: str) -> None:
    """A kernel for each sample and channel, as wide as the call says, even or odd."""
    made, eager = (compiled(text, target=name, dtype=torch.float64) for name in (target, "eager"))
    rank = 1 if text is KERNELS else 2
    with torch.no_grad():
        for batch, channels, *widths in ((2, 3, 5, 3), (4, 2, 3, 4), (2, 2, 2, 5), (1, 1, 1, 1)):
            x = torch.randn(batch, channels, *(11, 13)[:rank], dtype=torch.float64)
            kernel = torch.randn(batch, channels, *widths[:rank], dtype=torch.float64)
            torch.testing.assert_close(made(x, kernel), eager(x, kernel))


@pytest.mark.parametrize("target", ["onnx", "export"])
def test_a_built_program_follows_its_parameters(target: str) -> None:
    made, eager = on(ROTATED, target), on(ROTATED, "eager")
    with torch.no_grad():
        for module in (made.module, eager):
            module.w.add_(torch.arange(12.0))
    same_values(made, eager, ROTATED, (5,))


def test_onnx_computes_in_the_dtype_of_its_inputs() -> None:
    made, eager = compiled(SOFTMAX, target="onnx"), compiled(SOFTMAX)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12), (torch.float16, 5e-3)):
        inputs = [x.to(dtype) for x in DRAWN[SOFTMAX]((2,), 9)]
        result = made(*inputs)
        assert result.dtype == dtype
        torch.testing.assert_close(result, eager(*inputs), rtol=tolerance, atol=tolerance)
    with pytest.raises(ValueError, match="onnxruntime takes no bfloat16 here: use float32"):
        made(*(x.to(torch.bfloat16) for x in inputs))


NUMBERS = {
    "a scale of scores": "softmax[M](0.123456789012345 * (x @ x[N -> M]^T)) @ x[N -> M]",
    "the base of a power": "0.123456789012345 ^ x",
    "what is filled in": "where(x > 0, x, 0.123456789012345)",
    "a factor of what is added": "x + 0.123456789012345 * exp(x)",
}


@pytest.mark.parametrize("value", NUMBERS.values(), ids=list(NUMBERS))
def test_onnx_keeps_numbers_in_double_precision(value: str) -> None:
    text = f"attention numbers(x[N, D]) -> [N, D]:\n    where M = N\n    return {value}\n"
    made, eager = (compiled(text, target=target, dtype=torch.float64) for target in ("onnx", "eager"))
    with torch.no_grad():
        for n in (7, 3):
            x = torch.randn(2, n, 4, dtype=torch.float64)
            torch.testing.assert_close(made(x), eager(x), rtol=1e-13, atol=1e-13)


def test_what_stands_in_for_an_operation_with_a_number_computes_the_same() -> None:
    x, mask = torch.randn(5, 4, dtype=torch.float64), torch.rand(5, 4) < 0.5
    cases: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (torch.ops.aten.full_like.default, (x, 0.3), {}),
        (torch.ops.aten.full_like.default, (x, 3), {"dtype": torch.int64}),
        (torch.ops.aten.masked_fill.Scalar, (x, mask, 0.3), {}),
        (torch.ops.aten.pow.Scalar, (0.3, x), {}),
        (torch.ops.aten.add.Tensor, (x, x.exp()), {"alpha": 0.3}),
        (torch.ops.aten.leaky_relu.default, (x, 0.3), {}),
    ]
    for operation, arguments, named in cases:
        ours, theirs = ONNX[operation](*arguments, **named), operation(*arguments, **named)
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=1e-15, atol=0.0)
    assert ONNX[torch.ops.aten.add.Tensor](x, x) is NotImplemented
    assert ONNX[torch.ops.aten.leaky_relu.default](x.float()) is NotImplemented
    assert ONNX[torch.ops.aten.pow.Scalar](2, mask.long()) is NotImplemented


def test_programs_without_gradients_say_so() -> None:
    made = compiled(SOFTMAX, target="onnx")
    q, k, v = (x.float() for x in DRAWN[SOFTMAX]((2,), 9))
    with pytest.raises(RuntimeError, match=r"this program computes no gradients, and k requires one: call it under"):
        made(q, k.requires_grad_(), v)
    with torch.no_grad():
        assert not made(q, k, v).requires_grad


@pytest.mark.parametrize("target", ["export", "onnx"])
def test_a_result_without_batch_dimensions(target: str) -> None:
    x = torch.randn(2, 3, 5, 4)
    expected = compiled(UNBATCHED)(x)
    assert expected.shape == (5, 5)
    torch.testing.assert_close(compiled(UNBATCHED, target=target)(x), expected)


# -- files ---------------------------------------------------------------------------------------

SHAPES = {0: (), 1: (5,), 2: (3, 4)}


def loaded(path: Path) -> Callable[..., Tensor]:
    """What a user of the file calls, without attngraph."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    session = onnxruntime.InferenceSession(str(path))
    names = [argument.name for argument in session.get_inputs()]
    assert names == ["q", "k", "v"]

    def call(*inputs: Tensor) -> Tensor:
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(["result"], feed)[0])

    return call


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("batch", SHAPES)
def test_saved_programs_have_as_many_batch_dimensions_as_asked(suffix: str, batch: int, tmp_path: Path) -> None:
    path = tmp_path / f"saved{suffix}"
    assert save(*planned(LINEAR), path, batch=batch) == ()  # type: ignore[arg-type]
    inputs = [x.float() for x in DRAWN[LINEAR](SHAPES[batch], 23)]
    torch.testing.assert_close(loaded(path)(*inputs), compiled(LINEAR)(*inputs))


def test_onnx_files_speak_of_the_formula(tmp_path: Path) -> None:
    path = tmp_path / "saved.onnx"
    save(*planned(LINEAR), path, batch=2)  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(str(path))
    shapes = {each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())}
    batch = ["batch0", "batch1"]
    expected = {"q": ["N", "D"], "k": ["M", "D"], "v": ["M", "E"], "result": ["N", "E"]}
    assert shapes == {name: [*batch, *axes] for name, axes in expected.items()}


@pytest.mark.slow
def test_saved_package_of_machine_code(tmp_path: Path) -> None:
    path = tmp_path / "saved.pt2"
    torch.manual_seed(0)
    save(*planned(ROTATED), path, target="aoti", batch=2, sizes={"H": 3, "D": 4})  # type: ignore[arg-type]
    package = torch._inductor.aoti_load_package(str(path))
    x = DRAWN[ROTATED]((2, 3), 7)[0].float()
    torch.manual_seed(0)
    eager = compiled(ROTATED)
    torch.testing.assert_close(package(x), eager(x).detach())


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("a.py", {"batch": 1}, "`a.py` takes any number of batch dimensions; batch is for .pt2 and .onnx"),
        ("a.pt2", {"batch": -1}, "batch must be a whole number from 0 to 8, not -1"),
        ("a.pt2", {"batch": 9}, "batch must be a whole number from 0 to 8, not 9"),
        ("a.pt2", {"target": "onnx"}, "cannot write `a.pt2`: files of the target `onnx` end in .onnx"),
        ("a.pt2", {"target": "aotI"}, "there is no target `aotI`; did you mean `aoti`?"),
        (
            "a.pt2",
            {"target": "inductor"},
            "the target `inductor` has no file format; take export or aoti, which write .pt2 files",
        ),
    ],
)
def test_what_cannot_be_saved(path: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(attngraph.CompileError) as caught:
        save(*planned(SOFTMAX), tmp_path / path, **options)  # type: ignore[arg-type]
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("causal.attn").write_text(CAUSAL)
    assert cli.main(["compile", "causal.attn", "-o", "out.onnx", "--batch", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("note: out.onnx: causal scan: all chunks at once instead of a loop")
    inputs = [x.float() for x in DRAWN[CAUSAL]((2, 3), 70)]
    torch.testing.assert_close(loaded(Path("out.onnx"))(*inputs), compiled(CAUSAL)(*inputs))
    for arguments, message in (
        (["-o", "out.pt2", "--batch", "x"], "--batch takes a small whole number, not `x`"),
        (["-o", "out.pt2", "--target", "onx"], "there is no target `onx`; did you mean `onnx`?"),
        (["--target", "aoti"], "--target and --batch say what a file holds: name one with -o, for example -o out.pt2"),
    ):
        assert cli.main(["compile", "causal.attn", *arguments]) == 2
        assert capsys.readouterr().err == f"attngraph: {message}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["causal.attn", "out.onnx"]


# -- what stands in for algorithms that a target cannot carry --------------------------------------


def test_every_kernel_that_is_replaced_has_its_words() -> None:
    """A function of another file under the same name, and a line about it in what the target says."""
    looped = texts()
    for name, target in TARGETS.items():
        own = texts(at_once=bool(target.files))
        replaced = {kernel for kernel in looped if own[kernel] != looped[kernel]}
        assert replaced <= target.instead.keys(), name


def test_notes_of_a_module() -> None:
    assert compiled(CAUSAL).notes == ()
    assert compiled(CAUSAL, target="torchscript").notes == ()
    for target in ("export", "inductor"):
        [note] = compiled(CAUSAL, target=target).notes
        assert note == f"causal scan: {ALL_CHUNKS['causal_scan']}"
    assert compiled(LINEAR, target="export").notes == ()
