"""Sums whose weights are polynomials of scores, for [..., N, D], [..., M, D], [..., M, E].

A power of a score is itself a product of features: (q . k)^p = sum over ascending choices i of p of the D columns of
orders(i) * prod q[i] * prod k[i]. There are many of them, so they are made chunk by chunk and only for what lies
outside the chunk; where a map of queries and keys is near enough, the polynomial is that of the scores themselves.
Generated modules carry a copy of what they use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .autocast import accumulating
from .precision import accumulator


def count_of_choices(size: int, powers: list[int]) -> int:
    """In how many ways one of `powers` numbers is chosen from `size` numbers, with repetition and without order."""
    total = 0
    for power in powers:
        ways = 1
        for i in range(power):
            ways = ways * (size + i) // (i + 1)
        total += ways
    return total


def ascending_choices(size: int, power: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All ascending choices of `power` of the numbers 0..size-1, [power, choices]; the orders of each, [choices]."""
    last = torch.arange(size, device=device)
    chosen, run, orders = last.unsqueeze(0), torch.ones_like(last), torch.ones_like(last)
    for length in range(2, power + 1):
        further = size - last
        count = count_of_choices(size, [length])
        source = torch.repeat_interleave(
            torch.arange(last.size(0), device=device), further, dim=0, output_size=count
        )
        first = (torch.cumsum(further, 0) - further).index_select(0, source)
        before = last.index_select(0, source)
        last = before + torch.arange(count, device=device) - first
        run = torch.where(last == before, run.index_select(0, source) + 1, 1)
        orders = orders.index_select(0, source) * length // run
        chosen = torch.cat([chosen.index_select(1, source), last.unsqueeze(0)])
    return chosen, orders


def monomials(x: Tensor, powers: list[int], choices: list[Tensor]) -> Tensor:
    """Products of columns of x, [B, C, D], by `ascending_choices`: [B, products, C], whose rows are quick to gather."""
    rows = x.mT.contiguous()
    parts: list[Tensor] = []
    for index in range(len(powers)):
        if powers[index] == 0:
            parts.append(torch.ones_like(rows[..., :1, :]))
        elif powers[index] == 1:
            parts.append(rows)
        else:
            part = rows.index_select(-2, choices[index][0])
            for factor in range(1, powers[index]):
                part = part * rows.index_select(-2, choices[index][factor])
            parts.append(part)
    return torch.cat(parts, -2)


def polynomial(score: Tensor, powers: list[int], coefficients: list[Tensor]) -> Tensor:
    """The sum of coefficients times powers of the scores; powers: ascending."""
    index = len(powers) - 1
    out = coefficients[index] * score if powers[index] > 0 else coefficients[index].expand_as(score)
    for power in range(powers[index] - 1, -1, -1):
        if index > 0 and powers[index - 1] == power:
            index -= 1
            out = out + coefficients[index]
        if power > 0:
            out = out * score
    return out


def choices_and_weights(size: int, powers: list[int], coefficients: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The choices for every power, and what each product of a query is multiplied by: [B or 1, products, 1]."""
    choices: list[Tensor] = []
    weights: list[Tensor] = []
    total = coefficients[0]
    for each in coefficients[1:]:
        total = total + each
    for index in range(len(powers)):
        chosen, orders = ascending_choices(size, max(powers[index], 1), coefficients[index].device)
        if powers[index] == 0:
            orders = orders[:1]
        choices.append(chosen)
        weight = orders.unsqueeze(-1) * coefficients[index]
        weights.append(weight.expand(total.shape[:-2] + weight.shape[-2:]))
    return choices, torch.cat(weights, -2)


def with_ones(value: Tensor, normalise: bool) -> Tensor:
    """The values; with a further column of ones where `normalise`."""
    return torch.nn.functional.pad(value, [0, 1], value=1.0) if normalise else value


def without_ones(out: Tensor, normalise: bool) -> Tensor:
    """The reverse: normalise: divided by the last column, which goes."""
    return out[..., :-1] / out[..., -1:] if normalise else out


def polynomial_scan(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    coefficients: list[Tensor],
    powers: list[int],
    offset: int,
    normalise: bool,
    chunk: int,
) -> Tensor:
    """out[n] = sum over m <= n - offset of p(query[n] . key[m]) value[m], p(s) = sum of coefficients[i] s^powers[i].

    coefficients: one number per leading dimension, [...]. normalise: divided by the same sum without the value.
    """
    return polynomial_chunks(query, key, value, coefficients, None, powers, offset, normalise, chunk)[0]


@accumulating
def polynomial_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    coefficients: list[Tensor],
    before: Tensor | None,
    powers: list[int],
    offset: int,
    normalise: bool,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`polynomial_scan` of positions after those that `before` sums up, and what sums up all of them.

    Chunk by chunk: the polynomial of the scores inside, and a carried sum of products of keys times value, [F, E], for
    what lies before. Where the sequence is so short that scores with all earlier keys are less work than the products,
    N (D + E) <= 4 F E, there is no sum. before, and the second result: with a further column, the sum of the products,
    where `normalise`. Without `before`, the second result leaves out the last chunk.
    """
    wide = accumulator(query)
    query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
    one = torch.broadcast_tensors(query[..., :1, :1], key[..., :1, :1], value[..., :1, :1])[0]
    leading, terms = one.shape[:-2], as_matrices(coefficients, wide, one)
    size, columns, length = query.size(-1), value.size(-1) + int(normalise), query.size(-2)
    if before is None and length * (size + columns) <= 4 * count_of_choices(size, powers) * columns:
        return polynomial_rows(query, key, value, terms, powers, offset, normalise, chunk), query
    # Split once: the gradient of a slice would be as long as the sequence, for every chunk.
    queries = torch.split(query.expand(leading + query.shape[-2:]), chunk, -2)
    keys = torch.split(key.expand(leading + key.shape[-2:]), chunk, -2)
    values = torch.split(value.expand(leading + value.shape[-2:]), chunk, -2)
    choices, weights = choices_and_weights(size, powers, terms)
    state = torch.zeros_like(weights[..., :1])
    if before is not None:
        state = before.unsqueeze(0).expand(leading + before.shape[-2:]).flatten(0, -3)
    parts: list[Tensor] = []
    for index in range(len(queries)):
        # Matrices with one leading dimension; a chunk that has to be copied for it is in cache.
        q, k, v = queries[index].flatten(0, -3), keys[index].flatten(0, -3), values[index].flatten(0, -3)
        v = with_ones(v, normalise)
        out = torch.bmm(polynomial(torch.bmm(q, k.mT), powers, terms).to(v.dtype).tril(-offset), v).to(wide)
        if index > 0 or before is not None:
            out = torch.baddbmm(out, (monomials(q.to(wide), powers, choices) * weights).mT, state)
        parts.append(without_ones(out, normalise).to(q.dtype))
        if index == 0 and before is None:
            state = torch.bmm(monomials(k.to(wide), powers, choices), v.to(wide))
        elif index + 1 < len(queries) or before is not None:
            state = torch.baddbmm(state, monomials(k.to(wide), powers, choices), v.to(wide))
    return torch.cat(parts, -2).unflatten(0, leading).squeeze(0), state.unflatten(0, leading).squeeze(0)


def as_matrices(coefficients: list[Tensor], dtype: torch.dtype, like: Tensor) -> list[Tensor]:
    """Numbers, [...], beside matrices of which the leading dimensions, those of `like`, are one: [B or 1, 1, 1]."""
    found: list[Tensor] = []
    for each in coefficients:
        each = each.to(dtype).unsqueeze(-1).unsqueeze(-1)
        many = each.dim() > 2
        found.append(each.expand(like.shape[:-2] + each.shape[-2:]).flatten(0, -3) if many else each.unsqueeze(0))
    return found


def polynomial_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    terms: list[Tensor],
    powers: list[int],
    offset: int | None,
    normalise: bool,
    rows: int,
) -> Tensor:
    """`polynomial_scan` (offset: an int) or `polynomial_sum` (None) by scores, a few rows of queries at a time."""
    leading = torch.broadcast_tensors(query[..., :1, :1], key[..., :1, :1], value[..., :1, :1])[0].shape[:-2]
    key = key.expand(leading + key.shape[-2:]).flatten(0, -3)
    value = with_ones(value, normalise)
    value = value.expand(leading + value.shape[-2:]).flatten(0, -3)
    parts: list[Tensor] = []
    start = 0
    for part in torch.split(query.expand(leading + query.shape[-2:]), rows, -2):
        q, stop = part.flatten(0, -3), key.size(-2)
        if offset is not None:
            stop = start + part.size(-2)
        score = polynomial(torch.bmm(q, key[:, :stop].mT), powers, terms).to(value.dtype)
        if offset is not None:
            score = score.tril(start - offset)
        parts.append(without_ones(torch.bmm(score, value[:, :stop]), normalise))
        start = stop
    return torch.cat(parts, -2).unflatten(0, leading).squeeze(0)


@accumulating
def polynomial_sum(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    coefficients: list[Tensor],
    powers: list[int],
    normalise: bool,
    chunk: int,
) -> Tensor:
    """out[n] = sum over m of p(query[n] . key[m]) value[m], p(s) = sum of coefficients[i] s^powers[i].

    A few rows at a time, with the scores of all keys or, where that is less work, with products of columns that are
    summed over the keys first. coefficients: one number per leading dimension, [...]. normalise: divided by the same
    sum without the value.
    """
    wide = accumulator(query)
    query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
    one = torch.broadcast_tensors(query[..., :1, :1], key[..., :1, :1], value[..., :1, :1])[0]
    leading, terms = one.shape[:-2], as_matrices(coefficients, wide, one)
    size, columns, queries, keys = query.size(-1), value.size(-1) + int(normalise), query.size(-2), key.size(-2)
    products = count_of_choices(size, powers)
    if queries * keys * (size + columns) <= (queries + keys) * products * columns:
        return polynomial_rows(query, key, value, terms, powers, None, normalise, chunk)
    choices, weights = choices_and_weights(size, powers, terms)
    state = torch.zeros_like(weights[..., :1])
    # Split once: the gradient of a slice would be as long as the sequence, for every chunk.
    chunks = torch.split(key.expand(leading + key.shape[-2:]), chunk, -2)
    values = torch.split(value.expand(leading + value.shape[-2:]), chunk, -2)
    for index in range(len(chunks)):
        k, v = chunks[index].flatten(0, -3).to(wide), with_ones(values[index].flatten(0, -3), normalise).to(wide)
        state = torch.baddbmm(state, monomials(k, powers, choices), v)
    state = weights * state
    parts: list[Tensor] = []
    for q in torch.split(query.expand(leading + query.shape[-2:]), chunk, -2):
        out = torch.bmm(monomials(q.flatten(0, -3).to(wide), powers, choices).mT, state)
        parts.append(without_ones(out, normalise).to(query.dtype))
    return torch.cat(parts, -2).unflatten(0, leading).squeeze(0)
