"""Logarithms of sizes in whole numbers. Generated modules carry a copy."""

from __future__ import annotations


def digits(number: int, base: int) -> int:
    """How many digits a number from 0 on has in a base: of 0 there are none."""
    count = 0
    while number > 0:
        number = number // base
        count += 1
    return count
