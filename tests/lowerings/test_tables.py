"""Tables of lags: how long they are, and what positions settle in them."""

from __future__ import annotations

import pytest

from attngraph.compiler.emit import emit
from attngraph.compiler.lowerings.toeplitz import ToeplitzProduct
from attngraph.compiler.sizes import Poly

from .formulas import formula
from .harness import kernels, parts

LAST = Poly.symbol("M") - 1


def _convolution(weight: str, condition: str = "") -> str:
    lines = (*([condition] if condition else []), "sequence N", "source = y[N -> M]", "lag = pos(N) - pos(M)")
    inputs = "y[E, N], kernel[E, K]" if condition else "y[E, N], kernel[E, N]"
    return formula("f", inputs, *lines, f"weight = {weight}", "return sum[M](weight * source)", result="[E, N]")


TABLE = "take[K](kernel[N -> K], {})"
TABLES = {  # the weight: where the table has the lag 0, whether all of the kernel is read as it is
    f"where(lag >= 0, {TABLE.format('max(lag, 0)')}, 0)": (0, True),
    f"where(lag < 0, 0, {TABLE.format('max(lag, 0)')})": (0, True),
    f"where(lag >= 0, {TABLE.format('max(0, abs(lag))')}, 0)": (0, False),
    f"where(lag > 0, {TABLE.format('max(lag, 0)')}, 0)": (0, False),  # the lag 0 is in the table, and hidden
    f"where(lag >= 0 and lag < 9, {TABLE.format('max(lag, 0)')}, 0)": (0, False),
    f"where(lag >= -1, {TABLE.format('max(lag, 0)')}, 0)": (LAST, False),
    f"where(lag >= 0, {TABLE.format('max(lag, 0)')}, 1)": (LAST, False),
    f"where(lag <= 0, {TABLE.format('max(-lag, 0)')}, 0)": (LAST, False),
    TABLE.format("abs(lag)"): (LAST, False),
}


@pytest.mark.parametrize("weight", TABLES)
def test_tables_hold_the_lags_that_count(weight: str) -> None:
    zero, whole = TABLES[weight]
    formula, _, plan = parts(_convolution(weight))
    [product] = {node.op for node in plan.nodes() if isinstance(node.op, ToeplitzProduct)}
    assert product.zero == (zero if isinstance(zero, Poly) else Poly.constant(zero))
    source = emit(formula, plan).source
    assert ("torch.index_select" not in source and "torch.where" not in source) is whole


def test_a_kernel_of_another_length_is_cut() -> None:
    formula, _, plan = parts(_convolution("where(lag >= 0, take[K](kernel, max(lag, 0)), 0)", "where K >= N"))
    assert kernels(plan) == ("toeplitz_product",)
    assert "torch.index_select" in emit(formula, plan).source
