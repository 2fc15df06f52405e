"""Sums over earlier positions of states that are updated from each other, chunk by chunk.

Some states are stacked to a vector of K rows, `Z[n] = A[n] Z[n - 1] + ...`, with a small matrix A for each position.
What was added at position m has been multiplied by A[m + 1], ..., A[n] when position n reads it. These products are
made for halves of a chunk from those of its quarters: nothing is divided and no logarithm taken, so that any
coefficients are as good as others. Generated modules carry a copy of the functions that they use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .autocast import accumulating
from .precision import accumulator


def transition_products(
    matrix: Tensor, rows: Tensor, columns: Tensor, offset: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Products of the matrices of chunks, [..., C, K, K], with rows and columns, [..., C, K]; C is a power of two.

    With T(i, j) the product of the matrices i, ..., j, the last to the left:
    inside[n, m] = rows[n] T(m + 1, n - offset) columns[m] for m <= n - offset, [..., C, C];
    early[n] = rows[n] T(0, n - offset) and late[m] = T(m + 1, C - 1) columns[m], [..., C, K];
    whole = T(0, C - 1), [..., K, K].
    """
    early, late, whole = rows.unsqueeze(-2), columns.unsqueeze(-2), matrix
    inside = torch.zeros_like(early[..., :1])
    if offset == 0:
        early = torch.matmul(early, matrix)
        inside = (rows * columns).sum(-1, keepdim=True).unsqueeze(-1)
    while inside.size(-3) > 1:
        insides = inside.unflatten(-3, (-1, 2)).unbind(-3)
        earlies, lates = early.unflatten(-3, (-1, 2)).unbind(-3), late.unflatten(-3, (-1, 2)).unbind(-3)
        wholes = whole.unflatten(-3, (-1, 2)).unbind(-3)
        across = torch.matmul(earlies[1], lates[0].mT)
        above = torch.cat([insides[0], torch.zeros_like(across)], -1)
        inside = torch.cat([above, torch.cat([across, insides[1]], -1)], -2)
        early = torch.cat([earlies[0], torch.matmul(earlies[1], wholes[0])], -2)
        late = torch.cat([torch.matmul(lates[0], wholes[1].mT), lates[1]], -2)
        whole = torch.matmul(wholes[1], wholes[0])
    return inside.squeeze(-3), early.squeeze(-3), late.squeeze(-3), whole.squeeze(-3)


def stacked(matrix: Tensor, rows: Tensor, columns: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices, rows and columns for every position, over all leading dimensions: [..., N, K, K], [..., N, K] twice."""
    matrix = matrix.unsqueeze(0) if matrix.dim() < 3 else matrix
    rows = rows.unsqueeze(0) if rows.dim() < 2 else rows
    columns = columns.unsqueeze(0) if columns.dim() < 2 else columns
    leading = torch.broadcast_tensors(matrix[..., :1, 0, 0], rows[..., :1, 0], columns[..., :1, 0])[0].shape[:-1]
    count = matrix.size(-1)
    rows = rows.expand(list(leading) + [length, count])
    return matrix.expand(list(leading) + [length, count, count]), rows, columns.expand(list(leading) + [length, count])


def transition_chunks(
    matrix: Tensor, rows: Tensor, columns: Tensor, length: int, offset: int, chunk: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """`transition_products` of all chunks, and their length: `chunk`, or less for a short sequence."""
    size = 1
    while size < min(chunk, length):
        size *= 2
    matrix, rows, columns = stacked(matrix, rows, columns, length)
    missing = -length % size
    if missing > 0:
        one = torch.eye(matrix.size(-1), dtype=matrix.dtype, device=matrix.device)
        matrix = torch.cat([matrix, one.expand(list(matrix.shape[:-3]) + [missing, one.size(0), one.size(0)])], -3)
        rows = torch.nn.functional.pad(rows, [0, 0, 0, missing])
        columns = torch.nn.functional.pad(columns, [0, 0, 0, missing])
    count = (-1, size)
    matrix, rows, columns = matrix.unflatten(-3, count), rows.unflatten(-2, count), columns.unflatten(-2, count)
    inside, early, late, whole = transition_products(matrix, rows, columns, offset)
    return inside, early, late, whole, size


def scaled_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """weight[n, k] * rows[n, f], [..., N, K * F]."""
    return (weight.unsqueeze(-1) * rows.unsqueeze(-2)).flatten(-2)


def sum_of_none(weight: Tensor, rows: Tensor, value: Tensor) -> Tensor:
    """The sum of `scaled_rows(weight, rows)^T value` over no positions, [..., K * F, E], in the dtype of the weight."""
    empty = scaled_rows(weight[..., :0, :], rows[..., :0, :].to(weight.dtype))
    return torch.matmul(empty.mT, value[..., :0, :].to(weight.dtype))


def carried_over(whole: Tensor, state: Tensor) -> Tensor:
    """A matrix [..., K, K] times a stack of K states, [..., K * F, E]."""
    count = whole.size(-1)
    split = state.unflatten(-2, (count, state.size(-2) // count))
    return torch.matmul(whole, split.flatten(-2)).unflatten(-1, (split.size(-2), split.size(-1))).flatten(-3, -2)


def transition_scan(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    matrix: Tensor,
    rows: Tensor,
    columns: Tensor,
    offset: int,
    chunk: int,
) -> Tensor:
    """out[n] = sum over m <= n - offset of weight[n, m] (query[n] . key[m]) value[m], for [N, F], [N, F], [N, E].

    The weight is rows[n] A[n - offset] ... A[m + 1] columns[m], with the matrix A, [N, K, K], and [N, K] twice; what
    is the same for all positions may have 1 in place of N.
    """
    return transition_scan_chunks(query, key, value, matrix, rows, columns, None, offset, chunk)[0]


@accumulating
def transition_scan_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    matrix: Tensor,
    rows: Tensor,
    columns: Tensor,
    state: Tensor | None,
    offset: int,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`transition_scan` of positions after those that `state` sums up, and what sums up all of them: [K * F, E]."""
    wide = accumulator(value)
    matrix, rows, columns = matrix.to(wide), rows.to(wide), columns.to(wide)
    inside, early, late, whole, size = transition_chunks(matrix, rows, columns, value.size(-2), offset, chunk)
    # Split once: the gradient of a slice would be as long as the sequence, for every chunk.
    queries, keys = torch.split(query, size, -2), torch.split(key, size, -2)
    values = torch.split(value, size, -2)
    weights, earlies, lates, wholes = inside.unbind(-3), early.unbind(-3), late.unbind(-3), whole.unbind(-3)
    sums = state if state is not None else sum_of_none(lates[0], key, value)
    parts: list[Tensor] = []
    for index in range(len(values)):
        q, k, v = queries[index], keys[index], values[index].to(wide)
        length = v.size(-2)
        score = torch.matmul(q, k.mT) * weights[index][..., :length, :length]
        before = scaled_rows(earlies[index][..., :length, :], q.to(wide))
        parts.append((torch.matmul(score, v) + torch.matmul(before, sums)).to(value.dtype))
        added = scaled_rows(lates[index][..., :length, :], k.to(wide))
        sums = carried_over(wholes[index], sums) + torch.matmul(added.mT, v)
    return torch.cat(parts, -2), sums


def transition_feedback(
    reading: Tensor,
    direction: Tensor,
    value: Tensor,
    matrix: Tensor,
    rows: Tensor,
    columns: Tensor,
    chunk: int,
) -> Tensor:
    """out[n] = value[n] + sum over m < n of weight[n, m] (reading[n] . direction[m]) out[m]; [N, F], [N, F], [N, E].

    The weight is rows[n] A[n - 1] ... A[m + 1] columns[m], with the matrix A, [N, K, K], and [N, K] twice.
    """
    return transition_feedback_chunks(reading, direction, value, matrix, rows, columns, None, chunk)[0]


@accumulating
def transition_feedback_chunks(
    reading: Tensor,
    direction: Tensor,
    value: Tensor,
    matrix: Tensor,
    rows: Tensor,
    columns: Tensor,
    state: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`transition_feedback` of positions after those that `state` sums up, and what sums up all of them.

    Inside a chunk a triangular system is solved. state: the sum of columns[m] direction[m] out[m]^T, each times the
    matrices since then, [K * F, E].
    """
    wide = accumulator(value)
    matrix, rows, columns = matrix.to(wide), rows.to(wide), columns.to(wide)
    inside, early, late, whole, size = transition_chunks(matrix, rows, columns, value.size(-2), 1, chunk)
    # Split once: the gradient of a slice would be as long as the sequence, for every chunk.
    readings, directions = torch.split(reading.to(wide), size, -2), torch.split(direction.to(wide), size, -2)
    values = torch.split(value.to(wide), size, -2)
    weights, earlies, lates, wholes = inside.unbind(-3), early.unbind(-3), late.unbind(-3), whole.unbind(-3)
    sums = state if state is not None else sum_of_none(lates[0], direction, value)
    parts: list[Tensor] = []
    for index in range(len(values)):
        w, u = readings[index], directions[index]
        length = w.size(-2)
        out = values[index] + torch.matmul(scaled_rows(earlies[index][..., :length, :], w), sums)
        if length > 1:
            coupling = torch.matmul(w, u.mT) * weights[index][..., :length, :length]
            out = torch.linalg.solve_triangular(-coupling, out, upper=False, unitriangular=True)
        parts.append(out)
        added = scaled_rows(lates[index][..., :length, :], u)
        sums = carried_over(wholes[index], sums) + torch.matmul(added.mT, out)
    return torch.cat(parts, -2).to(value.dtype), sums


def composed(left: Tensor, right: Tensor, dense: bool) -> Tensor:
    """A product of matrices: [..., K, K] or, element by element, [..., K, K, X, 1]."""
    return torch.matmul(left, right) if dense else (left.unsqueeze(-3) * right.unsqueeze(-5)).sum(-4)


def applied(matrix: Tensor, state: Tensor, dense: bool) -> Tensor:
    """A product with states: [..., K, K] and [..., K, E], or by element [..., K, K, X, 1] and [..., K, X, E]."""
    return torch.matmul(matrix, state) if dense else (matrix * state.unsqueeze(-4)).sum(-3)


def linear_states(matrix: Tensor, value: Tensor, start: Tensor | None, dense: bool) -> Tensor:
    """out[n] = matrix[n] out[n - 1] + value[n] along the first of the dimensions that are named; out[-1] = start, or 0.

    dense: [N, K, K] and [N, K, E]; else element by element, [N, K, K, X, 1] and [N, K, X, E]. The matrix may be the
    same for all positions, 1 in place of N.
    """
    return state_groups(matrix, value, start, dense).to(value.dtype)


@accumulating
def state_groups(matrix: Tensor, added: Tensor, start: Tensor | None, dense: bool) -> Tensor:
    """`linear_states` of what is added, in float32 where the operands are half precision.

    Positions in groups of 16, whose steps are composed one after the other, in all groups at the same time; then
    groups in groups of 16, and so on; at last what comes into a group is added. A matrix that is the same for all
    positions is composed once.
    """
    wide = accumulator(added)
    matrix, value = matrix.to(wide), added.to(wide)
    dim, along = (-3, -3) if dense else (-5, -4)  # of the positions
    matrix = matrix.unsqueeze(0) if matrix.dim() < -dim else matrix
    first = torch.zeros_like(value.select(along, 0)) if start is None else start.to(wide)
    value = value + torch.zeros_like(applied(matrix.narrow(dim, 0, 1), first.unsqueeze(along), dense))
    constant = matrix.size(dim) == 1 and value.size(along) > 1
    composites: list[Tensor] = []  # of the positions of a group up to each: the matrix
    sums: list[Tensor] = []  # and the offset
    lengths: list[int] = []
    while value.size(along) > 16:
        length = value.size(along)
        count = (length + 15) // 16
        ends = [0] * (-2 * along - 1) + [count * 16 - length]
        values = torch.nn.functional.pad(value, ends).unflatten(along, (count, 16)).unbind(along)
        factors = [matrix] * 16
        if not constant:
            ends = [0] * (-2 * dim - 1) + [count * 16 - length]
            factors = list(torch.nn.functional.pad(matrix, ends).unflatten(dim, (count, 16)).unbind(dim))
        matrix, value = factors[0], values[0]
        some_matrices, some_values = [matrix], [value]
        for index in range(1, 16):
            value = values[index] + applied(factors[index], value, dense)
            matrix = composed(factors[index], matrix, dense)
            some_matrices.append(matrix)
            some_values.append(value)
        composites.append(torch.stack(some_matrices, dim))
        sums.append(torch.stack(some_values, along))
        lengths.append(length)
    values = value.unbind(along)
    factors = [matrix.select(dim, 0)] * len(values) if constant else list(matrix.unbind(dim))
    state = first
    states: list[Tensor] = []
    for index in range(len(values)):
        state = values[index] + applied(factors[index], state, dense)
        states.append(state)
    out = torch.stack(states, along)
    for level in range(len(sums) - 1, -1, -1):
        begin = first.unsqueeze(along).expand(out.narrow(along, 0, 1).shape)
        before = torch.cat([begin, out.narrow(along, 0, out.size(along) - 1)], along).unsqueeze(along)
        out = sums[level] + applied(composites[level], before, dense)
        out = out.flatten(along - 1, along).narrow(along, 0, lengths[level])
    return out
