"""Local sums: found where they are, declined where they are not, and the same values and gradients either way."""

from __future__ import annotations

import pytest

from .blocks import BLOCKS, MISSES, Block
from .harness import all_sizes, checked, draw, fixed, pair, same_values_and_gradients

RULES = ("band", "windows", "columns")


def _sizes(block: Block, length: int) -> dict[str, int]:
    others = {"C": 3, "Y": length, "X": max(1, length // 2)}
    return {**all_sizes(block.case, length, length + 3), **others, **dict(block.case.sizes)}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.rule} {b}".replace(" ", "_"))
def test_found(block: Block) -> None:
    report = checked(block.case.text)
    assert block.rule in {step.rule for step in report.steps}
    assert (report.written_order, report.order) == (block.case.written, block.case.order)


@pytest.mark.parametrize("block", MISSES, ids=str)
def test_declined(block: Block) -> None:
    report = checked(block.case.text)
    assert not any(rule in step.rule for step in report.steps for rule in RULES)
    assert report.order == block.case.order


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 37])
@pytest.mark.parametrize("block", [*BLOCKS, *MISSES], ids=lambda b: f"{b.rule} {b}".replace(" ", "_"))
def test_values_and_gradients(block: Block, length: int) -> None:
    if length > 17 and "image" in block.case.name:
        pytest.skip("the dense evaluation of an image is the fourth power of its side")
    sizes = _sizes(block, length)
    inputs = draw(block.case, sizes, (2,))
    same_values_and_gradients(pair(block.case.text, fixed(block.case, sizes)), inputs, 1e-9)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.rule} {b}".replace(" ", "_"))
def test_all_sizes_equal(block: Block) -> None:
    """Where sizes agree by accident, an axis mistaken for another one broadcasts without an error."""
    sizes = dict.fromkeys(_sizes(block, 5), 5)
    inputs = draw(block.case, sizes, (5,))
    same_values_and_gradients(pair(block.case.text, fixed(block.case, sizes)), inputs, 1e-9)


@pytest.mark.parametrize("block", BLOCKS[::3], ids=lambda b: f"{b.rule} {b}".replace(" ", "_"))
def test_torchscript(block: Block) -> None:
    sizes = _sizes(block, 9)
    inputs = draw(block.case, sizes, ())
    both = pair(block.case.text, fixed(block.case, sizes), target="torchscript")
    same_values_and_gradients(both, inputs, 1e-9)


SELECTION = ("products", "table", "rolled_and_columns")
EXPORTED = [pytest.param(b, marks=[pytest.mark.slow] * (b.case.name not in SELECTION)) for b in BLOCKS]


@pytest.mark.parametrize("block", EXPORTED, ids=lambda b: f"{b.rule} {b}".replace(" ", "_"))
def test_exported(block: Block) -> None:
    """One program for every length: less than a block, one block, several."""
    both = pair(block.case.text, fixed(block.case, _sizes(block, 9)), target="export")
    for length in (1, 2, 9, 16, 17):
        same_values_and_gradients(both, draw(block.case, _sizes(block, length), (2,)), 1e-9)
