"""Names, docstrings and comments of the text reach the source as data, and never in Python's way."""

from __future__ import annotations

import ast
import keyword

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attngraph.compiler.emit import emit
from attngraph.compiler.emit.layout import docstring
from attngraph.compiler.emit.names import ATTRIBUTE_RESERVED, LOCAL_RESERVED, Names, class_name, printable

from .formulas import SOFTMAX, module, typed, written


def test_every_attribute_of_a_module_is_reserved() -> None:
    public = {name for name in dir(nn.Module()) if not name.startswith("_")}
    assert public <= ATTRIBUTE_RESERVED


def test_names_are_unique_and_free() -> None:
    names = Names(LOCAL_RESERVED)
    assert [names.take(word) for word in ("a", "a", "sum", "sum", "a_2", "lambda", "torch")] == [
        "a", "a_2", "sum_", "sum__2", "a_2_2", "lambda_", "torch_",
    ]  # fmt: skip


@given(st.lists(st.sampled_from(["a", "a_2", "a_2_2", "sum", "sum_", "self", "x"]), max_size=30))
def test_names_never_repeat(wanted: list[str]) -> None:
    names = Names(LOCAL_RESERVED)
    taken = [names.take(word) for word in wanted]
    assert len(set(taken)) == len(taken)
    assert not set(taken) & LOCAL_RESERVED


def test_class_names() -> None:
    assert [class_name(name) for name in ("softmax_attention", "aaren", "rope2d", "module")] == [
        "SoftmaxAttention", "Aaren", "Rope2d", "Module",
    ]  # fmt: skip
    assert not keyword.iskeyword(class_name("none"))
    assert class_name("tensor") == "Tensor_"


def test_awkward_names_run() -> None:
    text = """attention self_(self[N, max], torch[N, max]) -> [N, max]:
    param type[max] = ones, training[max] = zeros
    const nn = 2, H_ = 3
    wide = self * torch
    sum = wide * type + training
    math = sum * nn
    product = math * H_
    return product + math * wide
"""
    made = module(text, 4)
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    p = a * b
    torch.testing.assert_close(made(a, b), p * 6 + p * 2 * p)
    torch.testing.assert_close(made(self_=a, torch_=b), made(a, b))
    assert sorted(made.state_dict()) == ["training_", "type_"]


HOSTILE = 'ends here """ + __import__("os").system("false") # \\" \\N{BELL} {q} \x07\u2028'


def test_text_cannot_leave_a_docstring() -> None:
    for text in (HOSTILE, HOSTILE + "\nsecond line\\", '"', '"""', "\\", "a\n\n\tb"):
        lines = docstring(text, 4)
        tree = ast.parse("class A:\n" + "\n".join(lines))
        [holder] = tree.body
        assert isinstance(holder, ast.ClassDef)
        assert len(holder.body) == 1
        assert isinstance(holder.body[0], ast.Expr)
        assert isinstance(holder.body[0].value, ast.Constant)


@given(st.text())
def test_comments_are_one_printable_line(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert len(f"# {line}".splitlines()) == 1


def test_hostile_notes_and_docstrings_change_nothing() -> None:
    formula, _ = typed(SOFTMAX)
    plain = emit(formula, formula.graph)
    noted = emit(formula, formula.graph, notes=dict.fromkeys(formula.graph, "x\nimport os\n" + HOSTILE))
    assert ast.dump(noted.tree) == ast.dump(plain.tree)
    text = SOFTMAX.replace("Vaswani et al.", r'\" + 1 \N{BELL} {q} ')
    changed = written(text)
    assert ast.dump(_without_docstrings(changed.tree)) == ast.dump(_without_docstrings(plain.tree))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    copy = ast.parse(ast.unparse(tree))
    for node in ast.walk(copy):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return copy


def test_notes_stand_above_their_statement() -> None:
    formula, _ = typed(SOFTMAX)
    [output] = formula.graph.outputs
    lines = emit(formula, formula.graph, notes={output.inputs[0]: "rows sum to one"}).source.splitlines()
    place = lines.index("        # rows sum to one")
    assert "softmax" in lines[place + 1]


@pytest.mark.parametrize("name", ["q", "k"])
def test_inputs_keep_their_names(name: str) -> None:
    assert name in written(SOFTMAX).inputs
