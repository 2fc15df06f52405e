"""Algorithms as plain torch functions. Generated modules carry a copy of those that they use.

Each takes matrices with any leading dimensions, which broadcast; runs under TorchScript; and keeps
its running state in float32 where the operands are half precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .autocast import accumulating
from .halves import block_size, in_blocks, pairs_by_halves
from .precision import accumulator
from .tiles import rows_of_block


def causal_scan(query: Tensor, key: Tensor, value: Tensor, offset: int, normalise: bool, chunk: int) -> Tensor:
    """out[n] = sum over m <= n - offset of (query[n] . key[m]) value[m], for [N, F], [N, F], [N, E].

    normalise: divided by the same sum without the value.
    """
    return causal_chunks(query, key, value, None, offset, normalise, chunk)[0]


def leading_dimensions(matrices: list[Tensor]) -> list[int]:
    """The leading dimensions that matrices have together."""
    leading: list[int] = []
    for matrix in matrices:
        for _ in range(matrix.dim() - 2 - len(leading)):
            leading.insert(0, 1)
        for i in range(-matrix.dim(), -2):
            if matrix.size(i) != 1:
                leading[i + 2] = matrix.size(i)
    return leading


def cut(matrix: Tensor, leading: list[int], chunk: int) -> list[Tensor]:
    """The rows of a matrix in chunks, with these leading dimensions; with one of them, where that is a view."""
    matrix = matrix.expand(leading + [matrix.size(-2), matrix.size(-1)])
    if len(leading) == 0:
        matrix = matrix.unsqueeze(0)
    elif matrix.is_contiguous():
        matrix = matrix.flatten(0, -3)
    # Once: the gradient of a slice would be as long as the sequence, for every chunk.
    return list(torch.split(matrix, chunk, -2))


@accumulating
def causal_chunks(
    query: Tensor, key: Tensor, value: Tensor, before: Tensor | None, offset: int, normalise: bool, chunk: int
) -> tuple[Tensor, Tensor]:
    """`causal_scan` of positions after those that `before` sums up, and what sums up all of them.

    Chunk by chunk: a small masked product inside, and a carried sum of key[m] value[m]^T for what lies before.
    Time N * (chunk * (F + E) + F * E). before, and the second result: [F, E], with a further column, the sum of
    the keys, where `normalise`. Without `before`, the second result means nothing.
    """
    wide = accumulator(query)
    leading = leading_dimensions([query, key, value])
    queries, keys, values = cut(query, leading, chunk), cut(key, leading, chunk), cut(value, leading, chunk)
    state = total = query
    if before is not None:
        before = before.expand(leading + [before.size(-2), before.size(-1)]).unsqueeze(0).flatten(0, -3)
        state, total = before[..., : value.size(-1)], before[..., value.size(-1) :].mT
    parts: list[Tensor] = []
    for index in range(len(queries)):
        # Matrices with one leading dimension; a chunk that has to be copied for it is in cache.
        q, k, v = queries[index].flatten(0, -3), keys[index].flatten(0, -3), values[index].flatten(0, -3)
        first, last = index == 0 and before is None, index + 1 == len(queries) and before is None
        score = torch.bmm(q, k.mT).tril(-offset)
        out = torch.bmm(score, v).to(wide)
        if not first:
            out = torch.baddbmm(out, q.to(wide), state)
        if normalise:
            weight = score.to(wide).sum(-1).unsqueeze(-2)  # a row: products with a column are slow
            out = out / (weight if first else torch.baddbmm(weight, total, q.to(wide).mT)).mT
        parts.append(out.to(q.dtype))
        if not last:
            late = k.to(wide)
            state = torch.bmm(late.mT, v.to(wide)) if first else torch.baddbmm(state, late.mT, v.to(wide))
            if normalise:
                added = late.sum(-2, keepdim=True)
                total = added if first else total + added
    if before is not None:
        state = (torch.cat([state, total.mT], -1) if normalise else state).view(leading + list(before.shape[-2:]))
    out = torch.cat(parts, -2)
    return out.view(leading + [out.size(-2), out.size(-1)]), state


def decayed_scan(
    query: Tensor, key: Tensor, value: Tensor, rate: Tensor, offset: int, normalise: bool, chunk: int
) -> Tensor:
    """out[n] = sum over m <= n - offset of exp(rate * (n - m)) (query[n] . key[m]) value[m].

    rate: one number per leading dimension, [...]. normalise: divided by the same sum without the value.
    """
    return decayed_chunks(query, key, value, rate, None, offset, normalise, chunk)[0]


def with_column_of_ones(value: Tensor) -> Tensor:
    """[..., E + 1]: sums of these are beside the sums of their weights."""
    return torch.cat([value, torch.ones_like(value[..., :1])], -1)


def over_bound(out: Tensor, least: Tensor) -> Tensor:
    """Sums [..., N, E + 1] over the absolute value of the last of each row, or over `least`, [..., N], if larger."""
    return out[..., :-1] / torch.maximum(out[..., -1:].abs(), least.unsqueeze(-1).to(out.dtype))


@accumulating
def decayed_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    before: Tensor | None,
    offset: int,
    normalise: bool,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`decayed_scan` of positions after those that `before` sums up, and what sums up all of them.

    Only differences n - m >= 0 inside one chunk are exponentiated, so a decay (rate <= 0) never
    overflows, whatever N. before, and the second result: as `causal_chunks` has them, seen from the last position.
    """
    wide = accumulator(query)
    # the logarithm of 0 is one whose exponential is 0: infinity times a lag of 0 is no number
    rate = rate.to(wide).clamp(min=-746.0 if wide == torch.float64 else -105.0).unsqueeze(-1).unsqueeze(-1)
    leading = leading_dimensions([query, key, value, rate])
    queries, keys, values = cut(query, leading, chunk), cut(key, leading, chunk), cut(value, leading, chunk)
    rate = rate.expand(leading + [1, 1]).flatten(0, -3) if len(leading) > 0 else rate.unsqueeze(0)
    length = min(chunk, query.size(-2))
    position = torch.arange(length, device=query.device)
    lag = position.unsqueeze(-1) - position
    decay = torch.exp(rate * lag.clamp(min=0)).tril(-offset).to(query.dtype)
    from_start = torch.exp(rate * (position + 1).unsqueeze(-1))
    to_end = torch.exp(rate * (length - 1 - position).unsqueeze(-1))
    state = total = query
    if before is not None:
        before = before.expand(leading + [before.size(-2), before.size(-1)]).unsqueeze(0).flatten(0, -3)
        state, total = before[..., : value.size(-1)], before[..., value.size(-1) :].mT
    parts: list[Tensor] = []
    for index in range(len(queries)):
        # Matrices with one leading dimension; a chunk that has to be copied for it is in cache.
        q, k, v = queries[index].flatten(0, -3), keys[index].flatten(0, -3), values[index].flatten(0, -3)
        first, last = index == 0 and before is None, index + 1 == len(queries) and before is None
        size = q.size(-2)
        if size < length:  # the last one
            decay, from_start, to_end = decay[:, :size, :size], from_start[:, :size], to_end[:, length - size :]
        score = torch.bmm(q, k.mT) * decay
        out, early = torch.bmm(score, v).to(wide), q
        if not first:
            early = q.to(wide) * from_start
            out = torch.baddbmm(out, early, state)
        if normalise:
            weight = score.to(wide).sum(-1).unsqueeze(-2)  # a row: products with a column are slow
            out = out / (weight if first else torch.baddbmm(weight, total, early.mT)).mT
        parts.append(out.to(q.dtype))
        if not last:
            late, whole = k.to(wide) * to_end, from_start[:, size - 1 :]
            state = torch.bmm(late.mT, v.to(wide)) if first else torch.baddbmm(state * whole, late.mT, v.to(wide))
            if normalise:
                added = late.sum(-2, keepdim=True)
                total = added if first else total * whole + added
    if before is not None:
        state = (torch.cat([state, total.mT], -1) if normalise else state).view(leading + list(before.shape[-2:]))
    out = torch.cat(parts, -2)
    return out.view(leading + [out.size(-2), out.size(-1)]), state


def running_gates(gates: Tensor, first: bool) -> Tensor:
    """The running sums of logarithms of gates in a chunk, [..., C, X]: how much its start has decayed at each position.

    first: nothing comes before the chunk, and its first gate is not looked at. The logarithm of a gate of 0 becomes
    one whose exponential is 0.
    """
    gates = gates.clamp(min=-746.0 if gates.dtype == torch.float64 else -105.0)
    if first:
        gates = torch.nn.functional.pad(gates[..., 1:, :], [0, 0, 1, 0])
    return torch.cumsum(gates, -2)


def gated_scan(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Tensor,
    least: Tensor | None,
    offset: int,
    normalise: bool,
    chunk: int,
) -> Tensor:
    """out[n] = sum over m <= n - offset of exp(gates[m + 1] + ... + gates[n]) (query[n] . key[m]) value[m].

    gates: [..., N], the logarithms of the gates. normalise: divided by the same sum without the value, with `least`,
    [..., N], by its absolute value, or by `least` where that is larger.
    """
    return gated_chunks(query, key, value, gates, least, None, True, offset, normalise, chunk)[0]


@accumulating
def gated_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Tensor,
    least: Tensor | None,
    before: Tensor | None,
    begins: bool,
    offset: int,
    normalise: bool,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`gated_scan` of positions after those that `before` sums up, and what sums up all of them.

    Gates are added up inside a chunk only, so no sum of them grows with N, and only sums over n >= m are exponentiated.
    before, and the second result: as `causal_chunks` has them, seen from the last position. begins: these are the
    first positions, and the first gate is not looked at.
    """
    wide = accumulator(query)
    length = min(chunk, query.size(-2))
    position = torch.arange(length, device=query.device)
    hidden = position.unsqueeze(-1) - position < offset
    state = torch.matmul(key[..., :0, :].mT.to(wide), value[..., :0, :].to(wide))
    total = torch.zeros_like(key[..., :1, :].mT, dtype=wide)
    if before is not None:
        state, total = before[..., : value.size(-1)], before[..., value.size(-1) :]
    # Split once: the gradient of a slice would be as long as the sequence, for every chunk.
    queries, keys = torch.split(query, chunk, -2), torch.split(key, chunk, -2)
    values, some_gates = torch.split(value, chunk, -2), torch.split(gates.to(wide).unsqueeze(-1), chunk, -2)
    bounds = some_gates if least is None else torch.split(least.to(wide).unsqueeze(-1), chunk, -2)
    parts: list[Tensor] = []
    for index in range(len(queries)):
        q, k, v = queries[index], keys[index], values[index]
        size, c = q.size(-2), running_gates(some_gates[index], index == 0 and begins)
        difference = (c - c.mT).masked_fill(hidden[:size, :size], -float("inf"))
        score = torch.matmul(q, k.mT) * torch.exp(difference).to(q.dtype)
        early = q.to(wide) * torch.exp(c)
        out = torch.matmul(score, v).to(wide) + torch.matmul(early, state)
        if normalise:
            weight = score.to(wide).sum(-1, keepdim=True) + torch.matmul(total.mT, early.mT).mT  # rows are quick
            out = out / (weight if least is None else torch.maximum(weight.abs(), bounds[index]))
        parts.append(out.to(q.dtype))
        if index + 1 < len(queries) or before is not None:
            end = c[..., -1:, :]
            kept = torch.exp(end)
            late = k.to(wide) * torch.exp(end - c)
            state = state * kept + torch.matmul(late.mT, v.to(wide))
            if normalise:
                total = total * kept + late.sum(-2).unsqueeze(-1)
    if normalise and before is not None:
        leading = torch.broadcast_tensors(state[..., :1], total)[0].shape[:-1]
        state = torch.cat([state.expand(leading + state.shape[-1:]), total.expand(leading + total.shape[-1:])], -1)
    return torch.cat(parts, -2), state


def feature_gated_scan(
    query: Tensor, key: Tensor, value: Tensor, gates: Tensor, offset: int, chunk: int
) -> Tensor:
    """out[n] = sum over m <= n - offset, f of gates[m + 1, f] ... gates[n, f] query[n, f] key[m, f] value[m].

    gates: [..., N, F].
    """
    return feature_gated_chunks(query, key, value, gates, None, True, offset, chunk)[0]


@accumulating
def feature_gated_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Tensor,
    before: Tensor | None,
    begins: bool,
    offset: int,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`feature_gated_scan` of positions after those that `before` sums up, and what sums up all of them: [F, E].

    begins: these are the first positions, and the first gate is not looked at. chunk: a power of two. What needs no
    state is computed for four chunks at a time.
    """
    wide = accumulator(query)
    state = torch.matmul(key[..., :0, :].mT.to(wide), value[..., :0, :].to(wide)) if before is None else before
    gates = gates.to(wide)
    if begins:
        gates = torch.nn.functional.pad(gates[..., 1:, :], [0, 0, 1, 0], value=1.0)
    size = block_size(query.size(-2), chunk)
    # Split once: the gradient of a slice would be as long as the sequence, for every group.
    queries, keys = torch.split(query, 4 * size, -2), torch.split(key, 4 * size, -2)
    values, some_gates = torch.split(value, 4 * size, -2), torch.split(gates, 4 * size, -2)
    parts: list[Tensor] = []
    for index in range(len(queries)):
        q, k = in_blocks(queries[index].to(wide), size, 0.0), in_blocks(keys[index].to(wide), size, 0.0)
        v, g = in_blocks(values[index].to(wide), size, 0.0), in_blocks(some_gates[index], size, 1.0)
        score, start, end, whole = pairs_by_halves(q, k, g, offset, False)
        inside, reads = torch.matmul(score, v).unbind(-3), (q * start).unbind(-3)
        added, kept = torch.matmul((k * end).mT, v).unbind(-3), whole.mT.unbind(-3)
        outs: list[Tensor] = []
        for block in range(len(inside)):
            outs.append(inside[block] + torch.matmul(reads[block], state))
            state = state * kept[block] + added[block]
        parts.append(torch.cat(outs, -2)[..., : queries[index].size(-2), :].to(query.dtype))
    return torch.cat(parts, -2), state


def prefix_softmax(score: Tensor, value: Tensor, chunk: int) -> Tensor:
    """out[n] = sum over m <= n of exp(score[m]) value[m] / sum over m <= n of exp(score[m]).

    score: [..., N]; value: [..., N, E]. The largest score of a span in which the running maximum rises little is
    subtracted, else the running maximum: nothing overflows and no denominator vanishes.
    """
    return prefix_chunks(score, value, None, None, chunk)[0]


def level_spans(rises: list[float], chunk: int) -> tuple[list[int], list[bool]]:
    """Chunks put together to spans of up to 16 in which a maximum rises by 60 at most; whether each span is such.

    rises: by how much it rises in each chunk; a chunk in which it rises more, or by no number, is a span of its own.
    """
    sizes: list[int] = []
    level: list[bool] = []
    total = 0.0
    for rise in rises:
        if len(sizes) > 0 and total + rise <= 60.0 and sizes[-1] < 16 * chunk:
            sizes[-1] += chunk
            total += rise
        else:
            sizes.append(chunk)
            level.append(rise <= 60.0)
            total = rise
    return sizes, level


@accumulating
def prefix_chunks(
    score: Tensor, value: Tensor, before: Tensor | None, last: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`prefix_softmax` of positions after those that `before` sums up, what sums up all of them, and the top score.

    Running sums of exponentials, of which none that counts is smaller than exp(-60), span after span. Where the
    running maximum rises faster, every position of a chunk has its own, in a map of [chunk, chunk].
    before, and the second result: the sums of exp(score[m] - last) value[m] and of exp(score[m] - last), [1, E + 1];
    last: the largest score so far, [1, 1].
    """
    wide = accumulator(value)
    score = score.to(wide).unsqueeze(-1)
    top = torch.cummax(score, -2)[0]
    if last is None:
        last = top[..., :1, :]
    else:
        top = torch.maximum(top, last)
    # numbers that decide which sums are made, and are no part of them
    ends = torch.cat([each[..., -1:, :] for each in torch.split(top.detach(), chunk, -2)], -2)
    risen = (ends - torch.cat([last.detach().expand(ends[..., :1, :].shape), ends[..., :-1, :]], -2)).squeeze(-1)
    steepest = torch.nn.functional.pad(risen.unsqueeze(0).flatten(0, -2), [0, 0, 0, 1]).amax(0)
    rises = [float("inf")] * steepest.size(0)
    if steepest.is_cpu:  # for those of a GPU the processor would have to wait
        known: list[float] = steepest.to(torch.float64).tolist()
        rises = known
    sizes, level = level_spans(rises, chunk)
    sizes[-1] -= len(rises) * chunk - value.size(-2)
    mixed, total = last, torch.zeros_like(last)
    if before is not None:
        mixed, total = before[..., :-1], before[..., -1:]
    # Split once: the gradient of a slice would be as long as the sequence, for every span.
    values, scores, tops = torch.split(value, sizes, -2), torch.split(score, sizes, -2), torch.split(top, sizes, -2)
    parts: list[Tensor] = []
    for index in range(len(values)):
        v, s, t = values[index].to(wide), scores[index], tops[index]
        first, end = index == 0 and before is None, t[..., -1:, :]
        if level[index]:
            kept, weight = torch.exp(last - end), torch.exp(s - end)
            above, below = weight * v, torch.cumsum(weight, -2) + kept * total
            if not first:
                above.narrow(-2, 0, 1).add_(kept * mixed)
            above = torch.cumsum(above, -2)
        else:
            position = torch.arange(v.size(-2), device=value.device)
            kept, later = torch.exp(last - t), position > position.unsqueeze(-1)
            weight = torch.exp((s.mT - t).masked_fill(later, -float("inf")))
            above, below = torch.matmul(weight, v), weight.sum(-1, keepdim=True) + kept * total
            if not first:
                above = above + kept * mixed
        parts.append((above / below).to(value.dtype))
        last, total, mixed = end, below[..., -1:, :], above[..., -1:, :]
    if before is not None:
        leading = torch.broadcast_tensors(mixed[..., :1], total)[0].shape[:-1]
        mixed = torch.cat([mixed.expand(leading + mixed.shape[-1:]), total.expand(leading + total.shape[-1:])], -1)
    return torch.cat(parts, -2) if len(parts) > 1 else parts[0], mixed, last


def gated_prefix(value: Tensor, gates: Tensor, offset: int, chunk: int) -> Tensor:
    """out[n] = sum over m <= n - offset of exp(gates[m + 1] + ... + gates[n]) value[m], element by element.

    value, gates: [..., N, E].
    """
    return gated_prefix_chunks(value, gates, None, offset, chunk)[0]


@accumulating
def gated_prefix_chunks(
    value: Tensor, gates: Tensor, before: Tensor | None, offset: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """`gated_prefix` of positions after those that `before` sums up, and what sums up all of them.

    Gates are added up inside a chunk only, and only sums over n >= m are exponentiated. before, and the second result:
    [1, E].
    """
    wide = accumulator(value)
    length = min(chunk, value.size(-2))
    position = torch.arange(length, device=value.device)
    hidden = (position.unsqueeze(-1) - position < offset).unsqueeze(-1)
    state = torch.zeros_like(gates[..., :1, :].to(wide) * value[..., :1, :].to(wide)) if before is None else before
    # Split once: the gradient of a slice would be as long as the sequence, for every chunk.
    values, some_gates = torch.split(value, chunk, -2), torch.split(gates, chunk, -2)
    parts: list[Tensor] = []
    for index in range(len(values)):
        v = values[index].to(wide)
        size, c = v.size(-2), running_gates(some_gates[index].to(wide), index == 0 and before is None)
        difference = (c.unsqueeze(-2) - c.unsqueeze(-3)).masked_fill(hidden[:size, :size], -float("inf"))
        inside = (torch.exp(difference) * v.unsqueeze(-3)).sum(-2)
        parts.append((inside + torch.exp(c) * state).to(value.dtype))
        end = c[..., -1:, :]
        state = torch.exp(end) * state + (torch.exp(end - c) * v).sum(-2, keepdim=True)
    return torch.cat(parts, -2), state


def linear_recurrence(rate: Tensor, value: Tensor, start: Tensor | None, dim: int) -> Tensor:
    """out[n] = rate[n] * out[n - 1] + value[n] along a dimension, counted from the end; out[-1] = start, or 0."""
    return linear_groups(rate, value, start, dim).to(value.dtype)


def linear_groups(rate: Tensor, value: Tensor, start: Tensor | None, dim: int) -> Tensor:
    """`linear_recurrence`, in float32 where the operands are half precision.

    Positions in groups of 16, whose steps are composed one after the other, in all groups at the same time; then
    groups in groups of 16, and so on; at last what comes into a group is added. Time 6 N; nothing is divided.
    """
    wide = accumulator(value)
    rate, value = rate.to(wide), value.to(wide)
    first = torch.zeros_like(value.select(dim, 0)) if start is None else start.to(wide)
    first = first.unsqueeze(dim)
    value = torch.broadcast_tensors(value, rate, first)[0]
    composed: list[Tensor] = []  # of the positions of a group up to each: the coefficient
    sums: list[Tensor] = []  # and the offset
    lengths: list[int] = []
    while value.size(dim) > 16:
        length = value.size(dim)
        count = (length + 15) // 16
        ends = [0] * (-2 * dim - 1) + [count * 16 - length]
        rates = torch.nn.functional.pad(rate, ends).unflatten(dim, (count, 16)).unbind(dim)
        values = torch.nn.functional.pad(value, ends).unflatten(dim, (count, 16)).unbind(dim)
        rate, value = rates[0], values[0]
        some_rates, some_values = [rate], [value]
        for index in range(1, 16):
            value = torch.addcmul(values[index], rates[index], value)
            rate = rates[index] * rate
            some_rates.append(rate)
            some_values.append(value)
        composed.append(torch.stack(some_rates, dim))
        sums.append(torch.stack(some_values, dim))
        lengths.append(length)
    rates, values = rate.unbind(dim), value.unbind(dim)
    state = first.squeeze(dim)
    states: list[Tensor] = []
    for index in range(len(values)):
        state = torch.addcmul(values[index], rates[index], state)
        states.append(state)
    out = torch.stack(states, dim)
    first = first.expand(out.narrow(dim, 0, 1).shape)
    for level in range(len(sums) - 1, -1, -1):
        before = torch.cat([first, out.narrow(dim, 0, out.size(dim) - 1)], dim).unsqueeze(dim)
        out = torch.addcmul(sums[level], composed[level], before).flatten(dim - 1, dim).narrow(dim, 0, lengths[level])
    return out


def causal_feedback(reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor | None, chunk: int) -> Tensor:
    """out[n] = value[n] + sum over m < n of weight[n, m] (reading[n] . direction[m]) out[m]; [N, F], [N, F], [N, E].

    gates: [..., N]; the weight is exp(gates[m + 1] + ... + gates[n - 1]), or 1 without them.
    """
    return feedback_chunks(reading, direction, value, gates, None, chunk)[0]


@accumulating
def feedback_chunks(
    reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor | None, state: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    """`causal_feedback` of positions after those that `state` sums up, and what sums up all of them.

    Inside a chunk a triangular system is solved; gates are added up inside a chunk only, and only sums over n > m are
    exponentiated. state, and the second result: the sum of direction[m] out[m]^T, [F, E], seen from the last position.
    """
    wide = accumulator(value)
    steps = torch.zeros_like(value[..., :1], dtype=wide) if gates is None else gates.to(wide).unsqueeze(-1)
    sums = torch.matmul(direction[..., :0, :].mT.to(wide), value[..., :0, :].to(wide)) if state is None else state
    # Split once: the gradient of a slice would be as long as the sequence, for every chunk.
    readings, directions = torch.split(reading.to(wide), chunk, -2), torch.split(direction.to(wide), chunk, -2)
    values, some_gates = torch.split(value.to(wide), chunk, -2), torch.split(steps, chunk, -2)
    parts: list[Tensor] = []
    for index in range(len(values)):
        w, u, c = readings[index], directions[index], running_gates(some_gates[index], index == 0 and state is None)
        b = torch.nn.functional.pad(c[..., :-1, :], [0, 0, 1, 0])
        out = values[index] + torch.matmul(w * torch.exp(b), sums)
        size = w.size(-2)
        if size > 1:
            hidden = torch.ones([size, size], dtype=torch.bool, device=w.device).triu()
            inside = torch.matmul(w, u.mT) * torch.exp((b - c.mT).masked_fill(hidden, -float("inf")))
            out = torch.linalg.solve_triangular(-inside, out, upper=False, unitriangular=True)
        parts.append(out)
        end = c[..., -1:, :]
        sums = sums * torch.exp(end) + torch.matmul((u * torch.exp(end - c)).mT, out)
    return torch.cat(parts, -2).to(value.dtype), sums


def feature_gated_feedback(reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor, chunk: int) -> Tensor:
    """out[n] = value[n] + sum over m < n, f of weight[n, m, f] reading[n, f] direction[m, f] out[m]; gates: [N, F].

    The weight is gates[m + 1, f] ... gates[n - 1, f].
    """
    return feature_gated_feedback_chunks(reading, direction, value, gates, None, chunk)[0]


@accumulating
def feature_gated_feedback_chunks(
    reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor, state: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    """`feature_gated_feedback` of positions after those that `state` sums up, and what sums up all of them: [F, E].

    Inside a chunk, a power of two, a triangular system is solved. What needs no state is computed for four chunks at a
    time.
    """
    wide = accumulator(value)
    gates = gates.to(wide)
    if state is None:  # the first gate has nothing to decay, and is not looked at
        gates = torch.nn.functional.pad(gates[..., 1:, :], [0, 0, 1, 0], value=1.0)
    sums = torch.matmul(direction[..., :0, :].mT.to(wide), value[..., :0, :].to(wide)) if state is None else state
    size = block_size(value.size(-2), chunk)
    # Split once: the gradient of a slice would be as long as the sequence, for every group.
    readings, directions = torch.split(reading, 4 * size, -2), torch.split(direction, 4 * size, -2)
    values, some_gates = torch.split(value, 4 * size, -2), torch.split(gates, 4 * size, -2)
    parts: list[Tensor] = []
    for index in range(len(values)):
        w, u = in_blocks(readings[index].to(wide), size, 0.0), in_blocks(directions[index].to(wide), size, 0.0)
        x, g = in_blocks(values[index].to(wide), size, 0.0), in_blocks(some_gates[index], size, 1.0)
        inside, start, end, whole = pairs_by_halves(w, u, g, 1, True)
        systems, own, reads = (-inside).unbind(-3), x.unbind(-3), (w * start).unbind(-3)
        late, kept = (u * end).mT.unbind(-3), whole.mT.unbind(-3)
        outs: list[Tensor] = []
        for block in range(len(own)):
            out = own[block] + torch.matmul(reads[block], sums)
            if size > 1:
                out = torch.linalg.solve_triangular(systems[block], out, upper=False, unitriangular=True)
            outs.append(out)
            sums = sums * kept[block] + torch.matmul(late[block], out)
        parts.append(torch.cat(outs, -2)[..., : values[index].size(-2), :].to(value.dtype))
    return torch.cat(parts, -2), sums


def over_batch(value: Tensor, rank: int, other: Tensor, other_rank: int) -> Tensor:
    """The value as a view with every leading dimension that another one has: [2, 1, N, D] over [3, M] is [2, 3, N, D].

    rank, other_rank: how many of their last dimensions are their own.
    """
    first, other_first = value, other
    for _ in range(rank):
        first = first.select(-1, 0)
    for _ in range(other_rank):
        other_first = other_first.select(-1, 0)
    leading = torch.broadcast_tensors(first, other_first)[0]
    return value.expand(leading.shape + value.shape[value.dim() - rank :])


def over_batches(value: Tensor, rank: int, others: list[Tensor], ranks: list[int]) -> Tensor:
    """The value as a view with every leading dimension that any of the others has; ranks as in `over_batch`."""
    for index in range(len(others)):
        value = over_batch(value, rank, others[index], ranks[index])
    return value


def vectors_times_rows(vectors: Tensor, rows: Tensor, axes: str) -> Tensor:
    """vectors[h, d] rows[..., h, m, d] summed over d.

    A product of matrices repeats the vectors, and the rows too if they do not lie one after the other; einsum, to
    which `axes` says the same, takes the batch as further rows of each h, and copies them if they do.
    """
    if rows.is_contiguous():
        return torch.matmul(vectors.unsqueeze(-2), rows.mT).squeeze(-2)
    return torch.einsum(axes, vectors, rows)


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scaled: bool
) -> Tensor:
    """out[n] = sum over m of softmax over m of (query[n] . key[m] + mask[n, m]) value[m], for [N, D], [M, D], [M, E].

    scaled: scores are divided by sqrt(D). torch's fused kernels take exactly two leading dimensions, the same
    for all, and on a processor values as wide as queries; otherwise it would store the map. What differs is
    brought to that; keys and values that the last leading dimension shares are not copied.
    """
    width, columns = query.size(-1), value.size(-1)
    scale = width**-0.5 if scaled else 1.0
    leading = query.shape[:-2]
    alike = query.dim() == 4 and key.shape[:-2] == leading and value.shape[:-2] == leading
    if alike and (width == columns or query.is_cuda) and (mask is None or mask.dim() != 3):
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scale
        )
    for _ in range(2):
        query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
    if width < columns and not query.is_cuda:
        query = torch.nn.functional.pad(query, [0, columns - width])
        key = torch.nn.functional.pad(key, [0, columns - width])
    if columns < width and not query.is_cuda:
        value = torch.nn.functional.pad(value, [0, width - columns])
    leading = torch.broadcast_tensors(query[..., :1, :1], key[..., :1, :1], value[..., :1, :1])[0].shape[:-2]
    q = query.expand(leading + query.shape[-2:]).flatten(0, -4)
    k = key.expand(leading + key.shape[-2:]).flatten(0, -4)
    v = value.expand(leading + value.shape[-2:]).flatten(0, -4)
    if mask is not None and mask.dim() > 2:
        seen = mask
        for _ in range(len(leading) + 2 - mask.dim()):
            seen = seen.unsqueeze(0)
        if seen.numel() > seen.size(-3) * seen.size(-2) * seen.size(-1):
            seen = seen.expand(leading[:-1] + seen.shape[-3:])
        mask = seen.flatten(0, -4)  # one that is the same for all stays a single one
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    return out[..., :columns].unflatten(0, leading[:-1]).squeeze(0).squeeze(0)


def softmax_beside(score: Tensor, sink: Tensor, dims: list[int]) -> Tensor:
    """exp(score) over the sum of exp(score) along some dimensions and of exp(sink), of which these have size 1."""
    wide = score.to(accumulator(score))
    beside = torch.nan_to_num(sink.to(wide.dtype), nan=float("nan"))  # infinity less infinity is no number
    top = torch.maximum(torch.amax(wide, dims, keepdim=True), beside).detach()
    weight = torch.exp(wide - top)
    return (weight / (weight.sum(dims, keepdim=True) + torch.exp(beside - top))).to(score.dtype)


def sink_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, sink: Tensor, causal: bool, scaled: bool
) -> Tensor:
    """`fused_attention` with exp(sink[n]) added to the sum that weights are divided by; sink: [..., N] or [..., 1].

    As attention to one more key in front, which no mask hides and whose value is 0: one more feature is 1 for it and 0
    for all others, and tells the queries its score. Under a causal mask there is one more query, too.
    """
    width = query.size(-1)
    query = over_batch(query, 2, sink, 1)
    first = torch.nan_to_num(sink.to(query.dtype), nan=float("nan"))  # 0 times infinity is no number
    first = first.unsqueeze(-1).expand(list(query.shape[:-1]) + [1])
    if scaled:
        query = query * width**-0.5
    query = torch.cat([query, first], -1)
    beside = torch.zeros_like(key[..., :1, :])
    beside = torch.nn.functional.pad(beside, [0, 1], value=1.0)
    key = torch.cat([beside, torch.nn.functional.pad(key, [0, 1])], -2)
    value = torch.nn.functional.pad(value, [0, 0, 1, 0])
    if mask is not None:
        seen = mask.expand(list(mask.shape[:-1]) + [key.size(-2) - 1])
        shown = torch.ones_like(seen[..., :1]) if seen.dtype == torch.bool else torch.zeros_like(seen[..., :1])
        mask = torch.cat([shown, seen], -1)
    if causal:
        query = torch.nn.functional.pad(query, [0, 0, 1, 0])
    out = fused_attention(query, key, value, mask, causal, False)
    return out[..., 1:, :] if causal else out


def lagged_attention(
    query: Tensor, key: Tensor, value: Tensor, after: Tensor, before: Tensor | None, scaled: bool
) -> Tensor:
    """Softmax attention of [N, D], [N, D], [N, E] with a bias that depends on the lag n - m only.

    after: the bias of the lags 0..N-1; before: that of the lags 0, -1, ..; None: later keys are hidden. scaled: scores
    are divided by sqrt(D). The bias of a block of queries, the last of them first, is a view of the table of lags, and
    is added while scores are computed. Where gradients are wanted, and in half precision, torch's fused kernels get it.
    """
    length, width = query.size(-2), query.size(-1)
    rows = rows_of_block(query)
    falling = after.flip(-1)
    if before is None:
        table = torch.nn.functional.pad(falling, [0, rows], value=-float("inf"))
    else:
        rising = before[..., 1:]
        table = torch.cat([falling, rising], -1)  # of the same leading dimensions: both are values of one expression
    wanted = query.requires_grad or key.requires_grad or value.requires_grad or table.requires_grad
    half = query.dtype == torch.float16 or query.dtype == torch.bfloat16
    fused = half or query.device.type != "cpu" or (wanted and torch.is_grad_enabled())
    starts = list(range(0, length, rows))
    if fused or length == 0:
        parts: list[Tensor] = []
        for start in starts:
            stop = min(start + rows, length)
            last = stop if before is None else length
            bias = table.narrow(-1, length - stop, stop - start + last - 1).unfold(-1, last, 1).flip(-2)
            q, k, v = query[..., start:stop, :], key[..., :last, :], value[..., :last, :]
            q = over_batch(q, 2, bias, 2)
            parts.append(fused_attention(q, k, v, bias, False, scaled))
        if len(parts) == 0:
            return fused_attention(query, key, value, None, False, scaled)
        return torch.cat(parts, -2)
    leading = leading_dimensions([query, key, value, table.unsqueeze(-2)])
    q = query.expand(leading + [length, width]).unsqueeze(0).flatten(0, -3)
    k = key.expand(leading + [length, width]).unsqueeze(0).flatten(0, -3)
    v = value.expand(leading + [length, value.size(-1)]).unsqueeze(0).flatten(0, -3)
    table = table.expand(leading + [table.size(-1)]).unsqueeze(0).flatten(0, -2)
    scale = width**-0.5 if scaled else 1.0
    together = max(1, 524288 // (rows * length))  # heads whose part of the map a processor's cache holds
    columns: list[Tensor] = []
    for first in range(0, q.size(0), together):
        some_q, some_k = q[first : first + together], k[first : first + together].mT
        some_v, some = v[first : first + together], table[first : first + together]
        parts = []
        for start in starts:
            stop = min(start + rows, length)
            last = stop if before is None else length
            bias = some.narrow(-1, length - stop, stop - start + last - 1).unfold(-1, last, 1)
            score = torch.baddbmm(bias, some_q[:, start:stop].flip(-2), some_k[:, :, :last], alpha=scale)
            parts.append(torch.bmm(torch.softmax(score, -1), some_v[:, :last]).flip(-2))
        columns.append(torch.cat(parts, -2))
    return torch.cat(columns, 0).view(leading + [length, value.size(-1)])


def banded_attention(query: Tensor, key: Tensor, value: Tensor, before: int, after: int, scale: float) -> Tensor:
    """Softmax attention of position n to the keys n - before .. n + after, for [N, D], [N, D], [N, E].

    Block by block of queries, each with the blocks of keys that it can see: time N * (block + before + after).
    """
    leading = leading_dimensions([query, key, value, query.unsqueeze(0).unsqueeze(0)])
    block = min(max(64, min((before + after) // 2, 1024)), max(query.size(-2), 1))
    # Split once: the gradient of a slice would be as long as the sequence, for every block.
    queries = torch.split(query.expand(leading + [query.size(-2), query.size(-1)]), block, -2)
    # Blocks on either side; a band that leaves its own position out has a negative width on one of them.
    back = min(max((before + block - 1) // block, 0), len(queries))
    ahead = min(max((after + block - 1) // block, 0), len(queries))
    width, rows, length = (back + 1 + ahead) * block, len(queries) * block, key.size(-2)
    around = [0, 0, back * block, rows - length + ahead * block]
    keys = torch.nn.functional.pad(key, around).unfold(-2, width, block).mT.unbind(-3)
    values = torch.nn.functional.pad(value, around).unfold(-2, width, block).mT.unbind(-3)
    position = torch.arange(width, device=query.device)
    lag = position[back * block : (back + 1) * block].unsqueeze(-1) - position
    near = (lag <= before) & (lag >= -after)
    parts: list[Tensor] = []
    for index in range(len(queries)):
        # keys that there are; torch's fused kernels take exactly two leading dimensions, of which one may be repeated
        start = max(back - index, 0) * block
        stop = min(width, length + (back - index) * block)
        k, v = keys[index][..., start:stop, :], values[index][..., start:stop, :]
        q = queries[index].flatten(0, -4)
        k = k.expand(leading + [stop - start, k.size(-1)]).flatten(0, -4)
        v = v.expand(leading + [stop - start, v.size(-1)]).flatten(0, -4)
        mask = near[: q.size(-2), start:stop]
        parts.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale))
    out = torch.cat(parts, -2)
    return out.view(leading + [out.size(-2), out.size(-1)]).squeeze(0).squeeze(0)


def windowed_attention(query: Tensor, key: Tensor, value: Tensor, window: int, scale: float) -> Tensor:
    """Softmax attention inside windows 0..W-1, W..2W-1, ... of one sequence, for [N, D], [N, D], [N, E].

    The last window may be shorter.
    """
    length = query.size(-2)
    count = length // window
    whole = count * window
    leading = leading_dimensions([query, key, value])
    # torch's fused kernels, which store no map, take exactly two leading dimensions: all of them, and the windows
    q = query.expand(leading + [length, query.size(-1)]).unsqueeze(0).flatten(0, -3)
    k = key.expand(leading + [length, key.size(-1)]).unsqueeze(0).flatten(0, -3)
    v = value.expand(leading + [length, value.size(-1)]).unsqueeze(0).flatten(0, -3)
    parts: list[Tensor] = []
    if count > 0:
        inside = torch.nn.functional.scaled_dot_product_attention(
            q[:, :whole].unflatten(-2, (count, window)),
            k[:, :whole].unflatten(-2, (count, window)),
            v[:, :whole].unflatten(-2, (count, window)),
            scale=scale,
        )
        parts.append(inside.flatten(-3, -2))
    if whole < length or count == 0:
        last = torch.nn.functional.scaled_dot_product_attention(
            q[:, whole:].unsqueeze(1), k[:, whole:].unsqueeze(1), v[:, whole:].unsqueeze(1), scale=scale
        )
        parts.append(last.squeeze(1))
    out = parts[0] if len(parts) == 1 else torch.cat(parts, -2)
    return out.view(leading + [length, out.size(-1)])


@accumulating
def toeplitz_product(table: Tensor, value: Tensor, zero: int, queries: int) -> Tensor:
    """out[n] = sum over m of table[n - m + zero] value[m] for n < queries, over the m with an entry; for [L] and [M].

    L >= queries + 2 zero - M + 1. Table and values are laid on a circle on which no sum that is wanted meets another
    one; there the product is a convolution. Lengths with many factors of two have the quickest transforms.
    """
    wide = accumulator(value)
    length = (table.size(-1) + value.size(-1) - 1 - zero + 63) // 64 * 64
    spectrum = torch.fft.rfft(table.to(wide), n=length) * torch.fft.rfft(value.to(wide), n=length)
    return torch.fft.irfft(spectrum, n=length)[..., zero : zero + queries].to(value.dtype)
