"""A form that is asked for is what is built, or an error that says why not and where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attngraph
from attngraph.cli import main

HEADER = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    where M = N\n"
SCAN = HEADER + "    return where(pos(N) >= pos(M), (q @ k^T) * 0.9^(pos(N) - pos(M)), 0) @ v\n"
SOFTMAX = HEADER + "    return softmax[M](q @ k^T, mask=pos(N) >= pos(M)) @ v\n"
TWO = "attention f(x[N, D], g[N, D]) -> [N, D], [D, N]:\n    s = cumsum[N](x)\n    return s * g, s^T\n"
GROWTH = HEADER + "    const b = 0.5\n    return where(pos(N) >= pos(M), (q @ k^T) * b^(pos(N) - pos(M)), 0) @ v\n"


def draw(n: int = 7) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(2, n, size, dtype=torch.float64) for size in (3, 3, 4))


@pytest.mark.parametrize("form", ["auto", "dense", "linear", "chunked", "recurrent"])
def test_every_form_computes_the_same(form: str) -> None:
    inputs = [x.requires_grad_() for x in draw()]
    module, dense = (attngraph.compile(SCAN, form=f) for f in (form, "dense"))  # type: ignore[arg-type]
    outputs = [m(*inputs) for m in (module, dense)]
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(out.sin().sum(), inputs) for out in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_forms_differ() -> None:
    """What each form does, told by the functions that its forward calls."""
    bodies = {
        form: attngraph.compile(SCAN, form=form).source.split("def forward")[1].split("def init_state")[0]  # type: ignore[arg-type, union-attr, operator]
        for form in ("auto", "dense", "linear", "chunked", "recurrent")
    }
    assert bodies["auto"] == bodies["linear"] == bodies["chunked"]
    assert "decayed_scan(" in bodies["auto"]
    assert "k.transpose(-2, -1)" in bodies["dense"]
    assert "decayed_scan" not in bodies["dense"]
    assert "self.step(" in bodies["recurrent"]


def test_recurrent_form_of_several_results() -> None:
    x, g = (torch.randn(3, 5, 2, dtype=torch.float64) for _ in range(2))
    module = attngraph.compile(TWO, form="recurrent")
    scripted = attngraph.compile(TWO, form="recurrent", target="torchscript")
    expected = (x.cumsum(-2) * g, x.cumsum(-2).mT)
    for built in (module, scripted):
        torch.testing.assert_close(built(x, g), expected)


@pytest.mark.parametrize("form", ["linear", "chunked", "recurrent"])
def test_a_form_that_there_is_not(form: str) -> None:
    with pytest.raises(attngraph.CompileError) as caught:
        attngraph.compile(SOFTMAX, form=form)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"f has no {form} form: `softmax`")
    assert "<text>:3:12: softmax[M](q @ k^T, mask=pos(N) >= pos(M))" in message


def test_a_form_of_what_is_not_causal() -> None:
    text = HEADER.replace("    where M = N\n", "") + "    return (q @ k^T) @ v\n"
    attngraph.compile(text, form="linear")
    with pytest.raises(attngraph.CompileError, match="no recurrent form: it is not causal: nothing says that `M`"):
        attngraph.compile(text, form="recurrent")


def test_a_form_that_a_constant_decides() -> None:
    """A decay is one while its base is positive."""
    attngraph.compile(GROWTH, form="chunked")
    attngraph.compile(GROWTH, form="chunked", consts={"b": 0.7})
    with pytest.raises(attngraph.CompileError, match="f has no chunked form"):
        attngraph.compile(GROWTH, form="chunked", consts={"b": -0.5})
    attngraph.compile(GROWTH, form="dense", consts={"b": -0.5})


def test_an_unknown_form() -> None:
    with pytest.raises(attngraph.CompileError, match="no form `recurent`; did you mean `recurrent`"):
        attngraph.compile(SCAN, form="recurent")  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["inductor", "export", "onnx"])
def test_targets_that_trace_have_no_loop_over_positions(target: str) -> None:
    with pytest.raises(attngraph.CompileError, match=f"`{target}` has no recurrent form"):
        attngraph.compile(SCAN, form="recurrent", target=target)  # type: ignore[arg-type]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.attn"
    file.write_text(SCAN)
    assert main(["compile", str(file), "--form", "recurrent"]) == 0
    assert "self.step(" in capsys.readouterr().out
    assert main(["compile", str(file), "--form", "dense", "-o", str(tmp_path / "dense.py")]) == 0
    assert "decayed_scan" not in (tmp_path / "dense.py").read_text()
    assert main(["compile", str(file), "--form", "recurrent", "-o", str(tmp_path / "f.pt2")]) == 2
    assert "no recurrent form" in capsys.readouterr().err
    file.write_text(SOFTMAX)
    assert main(["compile", str(file), "--form", "linear"]) == 2
    error = capsys.readouterr().err
    assert "f has no linear form" in error
    assert f"{file}:3:12" in error


def test_explain_says_what_a_step_remembers() -> None:
    text = attngraph.explain(SOFTMAX)
    assert "state of step" in text
    assert "state[0]  k, of all positions so far: [..., M_all, D]" in text
    assert "decayed up to the last position: [..., D, E]" in attngraph.explain(SCAN)
    assert "state of step" not in attngraph.explain(HEADER + "    return (q @ k^T) @ v\n")
