"""The algorithms of `kernels` without loops over the sequence, for targets that trace.

A traced loop takes its number of turns for a constant, and with it the length of the sequence. Here all chunks
are computed at once, by products with one more dimension, and the states between them by `carried`. The names,
arguments and results are those of `kernels`; what a loop holds for one chunk is held for all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .autocast import accumulating
from .halves import pairs_by_halves
from .polynomials import polynomial, with_ones, without_ones
from .precision import accumulator
from .running import doubled
from .tiles import pointwise
from .transitions import applied, composed, scaled_rows, stacked, transition_products


def in_chunks(matrix: Tensor, chunk: int) -> Tensor:
    """[..., N, X] as [..., chunks, chunk, X]; the last row is repeated to fill the last chunks.

    There are at least two chunks: of a dimension that may be 1, a trace takes only one of the two cases.
    """
    length = matrix.size(-2)
    count = (length + chunk - 1) // chunk + 1
    rows = torch.arange(count * chunk, device=matrix.device).clamp(max=length - 1)
    return matrix.index_select(-2, rows).unflatten(-2, (count, chunk))


def steps_in_chunks(steps: Tensor, chunk: int) -> Tensor:
    """`in_chunks` of what is added up: nothing is added behind the last row, where copies of it might overflow."""
    behind = torch.arange(((steps.size(-2) + chunk - 1) // chunk + 1) * chunk, device=steps.device) >= steps.size(-2)
    return in_chunks(steps, chunk).masked_fill(behind.unflatten(0, (-1, chunk)).unsqueeze(-1), 0.0)


def since_previous(level: Tensor, ends: Tensor) -> Tensor:
    """level[g, c] - ends[g - 1], and 0 in the first group: [..., G, C, X] and [..., G, X]."""
    group = torch.arange(ends.size(-2), device=ends.device)
    previous = ends.index_select(-2, (group - 1).clamp(min=0)).unsqueeze(-2)
    return (level - previous).masked_fill((group == 0).unsqueeze(-1).unsqueeze(-1), 0.0)


def carried_by_pairs(update: Tensor, steps: Tensor) -> Tensor:
    """`carried`, every pair of steps by itself: time C * C * X."""
    step = torch.arange(update.size(-2), device=update.device)
    since = (step.unsqueeze(-1) - 1 > step).unsqueeze(-1)
    before = steps.index_select(-2, (step - 1).clamp(min=0)).unsqueeze(-2)
    passed = torch.cumsum(torch.where(since, before, 0.0), -3)  # of every pair the steps between, and of no others
    weight = torch.exp(passed.masked_fill((step.unsqueeze(-1) <= step).unsqueeze(-1), -float("inf")))
    if steps.size(-1) == 1:
        return torch.matmul(weight.squeeze(-1), update)
    return (weight * update.unsqueeze(-3)).sum(-2)


def carried(update: Tensor, steps: Tensor) -> Tensor:
    """out[j] = sum over i < j of exp(steps[i + 1] + ... + steps[j - 1]) update[i]; [..., C, X] and [..., C, 1 or X].

    Steps in groups of 16: pairs inside a group, and pairs of groups; time C * (16 + C / 256) * X. Where no step is
    above 0, no exponent is.
    """
    count = update.size(-2)
    inner, some = in_chunks(update, 16), steps_in_chunks(steps, 16)
    levels = torch.cumsum(some, -2)
    ends = levels[..., -1:, :]
    groups = (torch.exp(ends - levels) * inner).sum(-2)
    outer = carried_by_pairs(groups, ends.squeeze(-2)).unsqueeze(-2)
    return (carried_by_pairs(inner, some) + torch.exp(since_start(levels)) * outer).flatten(-3, -2)[..., :count, :]


def since_start(levels: Tensor) -> Tensor:
    """The running sums of chunks, [..., C, X], up to the position before."""
    return torch.cat([torch.zeros_like(levels[..., :1, :]), levels[..., :-1, :]], -2)


def gates_as_chunks(gates: Tensor, chunk: int) -> Tensor:
    """Logarithms of gates in chunks: [..., N, X] as [..., chunks, chunk, X].

    The first gate of all is not looked at. A gate of 0 is one whose exponential is 0.
    """
    gates = gates.clamp(min=-746.0 if gates.dtype == torch.float64 else -105.0)
    begins = torch.arange(gates.size(-2), device=gates.device) == 0
    return steps_in_chunks(gates.masked_fill(begins.unsqueeze(-1), 0.0), chunk)


def gates_in_chunks(gates: Tensor, chunk: int) -> Tensor:
    """The running sums of logarithms of gates inside chunks: [..., N, X] as [..., chunks, chunk, X]."""
    return torch.cumsum(gates_as_chunks(gates, chunk), -2)


def in_rows(out: Tensor, normalise: bool, length: int) -> Tensor:
    """[..., chunks, chunk, E] as [..., N, E]; normalise: divided by the last column, which goes."""
    if normalise:
        out = out[..., :-1] / out[..., -1:]
    return out.flatten(-3, -2)[..., :length, :]


@accumulating
def causal_scan(query: Tensor, key: Tensor, value: Tensor, offset: int, normalise: bool, chunk: int) -> Tensor:
    """out[n] = sum over m <= n - offset of (query[n] . key[m]) value[m], for [N, F], [N, F], [N, E].

    normalise: divided by the same sum without the value.
    """
    wide = accumulator(query)
    q, k, v = in_chunks(query, chunk), in_chunks(key, chunk), in_chunks(value, chunk)
    if normalise:
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    score = torch.matmul(q, k.mT).tril(-offset)
    update = torch.matmul(k.mT.to(wide), v.to(wide))
    state = torch.cumsum(update, -3) - update
    out = torch.matmul(score.to(wide), v.to(wide)) + torch.matmul(q.to(wide), state)
    return in_rows(out, normalise, query.size(-2)).to(query.dtype)


@accumulating
def decayed_scan(
    query: Tensor, key: Tensor, value: Tensor, rate: Tensor, offset: int, normalise: bool, chunk: int
) -> Tensor:
    """out[n] = sum over m <= n - offset of exp(rate * (n - m)) (query[n] . key[m]) value[m].

    rate: one number per leading dimension, [...]. normalise: divided by the same sum without the value.
    """
    wide = accumulator(query)
    q, k, v = in_chunks(query, chunk), in_chunks(key, chunk), in_chunks(value, chunk).to(wide)
    if normalise:
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    # the logarithm of 0 is one whose exponential is 0: infinity times a lag of 0 is no number
    rate = rate.to(wide).clamp(min=-746.0 if wide == torch.float64 else -105.0).unsqueeze(-1).unsqueeze(-1)
    rates = rate.unsqueeze(-1)
    position = torch.arange(chunk, device=query.device)
    lag = position.unsqueeze(-1) - position
    decay = torch.exp(rates * lag.clamp(min=0)).masked_fill(lag < offset, 0.0)
    late = k.to(wide) * torch.exp(rates * (chunk - 1 - position).unsqueeze(-1))
    update = torch.matmul(late.mT, v)
    steps = (rate * chunk).expand((*rate.shape[:-2], q.size(-3), 1))
    state = carried(update.flatten(-2), steps).unflatten(-1, (update.size(-2), update.size(-1)))
    early = q.to(wide) * torch.exp(rates * (position + 1).unsqueeze(-1))
    out = torch.matmul(torch.matmul(q, k.mT) * decay, v) + torch.matmul(early, state)
    return in_rows(out, normalise, query.size(-2)).to(query.dtype)


@accumulating
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
    wide = accumulator(query)
    q, k, v = in_chunks(query, chunk), in_chunks(key, chunk), in_chunks(value, chunk).to(wide)
    if normalise:
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    c = gates_in_chunks(gates.to(wide).unsqueeze(-1), chunk)
    end = c[..., -1:, :]
    position = torch.arange(chunk, device=query.device)
    difference = (c - c.mT).masked_fill(position.unsqueeze(-1) - position < offset, -float("inf"))
    update = torch.matmul((k.to(wide) * torch.exp(end - c)).mT, v)
    state = carried(update.flatten(-2), end.squeeze(-2)).unflatten(-1, (update.size(-2), update.size(-1)))
    early = q.to(wide) * torch.exp(c)
    out = torch.matmul(torch.matmul(q, k.mT) * torch.exp(difference), v) + torch.matmul(early, state)
    if least is not None:
        bound = torch.maximum(out[..., -1:].abs(), in_chunks(least.to(wide).unsqueeze(-1), chunk))
        out, normalise = out[..., :-1] / bound, False
    return in_rows(out, normalise, query.size(-2)).to(query.dtype)


def plain_gates_as_chunks(gates: Tensor, chunk: int) -> Tensor:
    """Gates in chunks: [..., N, X] as [..., chunks, chunk, X].

    The first gate of all is not looked at, and behind the last one there is none.
    """
    begins = torch.arange(gates.size(-2), device=gates.device) == 0
    rows = torch.arange(((gates.size(-2) + chunk - 1) // chunk + 1) * chunk, device=gates.device)
    behind = (rows >= gates.size(-2)).unflatten(0, (-1, chunk)).unsqueeze(-1)
    return in_chunks(gates.masked_fill(begins.unsqueeze(-1), 1.0), chunk).masked_fill(behind, 1.0)


@accumulating
def feature_gated_scan(
    query: Tensor, key: Tensor, value: Tensor, gates: Tensor, offset: int, chunk: int
) -> Tensor:
    """out[n] = sum over m <= n - offset, f of gates[m + 1, f] ... gates[n, f] query[n, f] key[m, f] value[m].

    gates: [..., N, F].
    """
    wide = accumulator(query)
    q, k = in_chunks(query, chunk).to(wide), in_chunks(key, chunk).to(wide)
    v, g = in_chunks(value, chunk).to(wide), plain_gates_as_chunks(gates.to(wide), chunk)
    score, start, end, whole = pairs_by_halves(q, k, g, offset, False)
    after = linear_recurrence(whole.mT, torch.matmul((k * end).mT, v), None, -3)
    group = torch.arange(after.size(-3), device=after.device)
    state = after.index_select(-3, (group - 1).clamp(min=0)).masked_fill((group == 0).view(-1, 1, 1), 0.0)
    out = torch.matmul(score, v) + torch.matmul(q * start, state)
    return in_rows(out, False, query.size(-2)).to(query.dtype)


@accumulating
def prefix_softmax(score: Tensor, value: Tensor, chunk: int) -> Tensor:
    """out[n] = sum over m <= n of exp(score[m]) value[m] / sum over m <= n of exp(score[m]).

    score: [..., N]; value: [..., N, E]. The running maximum is subtracted.
    """
    wide = accumulator(value)
    v = in_chunks(value, chunk).to(wide)
    v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    score = score.to(wide).unsqueeze(-1)
    s, c = in_chunks(score, chunk), -in_chunks(torch.cummax(score, -2)[0], chunk)
    end = c[..., -1:, :]
    position = torch.arange(chunk, device=value.device)
    weight = torch.exp((s.mT + c).masked_fill(position > position.unsqueeze(-1), -float("inf")))
    update = torch.matmul(torch.exp(s + end).mT, v)
    steps = since_previous(end, end.squeeze(-2)).squeeze(-2)
    state = carried(update.squeeze(-2), steps).unsqueeze(-2)
    out = torch.matmul(weight, v) + torch.exp(since_previous(c, end.squeeze(-2))) * state
    return in_rows(out, True, value.size(-2)).to(value.dtype)


def running_maximum(score: Tensor, gates: Tensor, chunk: int) -> Tensor:
    """out[n] = max over m <= n of score[m] + gates[m + 1] + ... + gates[n], for [..., N] both.

    By doubling in chunks, and from chunk to chunk, 2 ** 20 of them at most.
    """
    wide = accumulator(score)
    top, fall = torch.broadcast_tensors(score.to(wide), gates.to(wide))
    length = top.size(-1)
    top = in_chunks(top.unsqueeze(-1), chunk).squeeze(-1)
    top, fall = doubled(top, in_chunks(fall.unsqueeze(-1), chunk).squeeze(-1))
    ends, whole = top[..., -1], fall[..., -1]
    group = torch.arange(ends.size(-1), device=ends.device)
    for power in range(20):
        rows, none = (group - 2**power).clamp(min=0), group < 2**power
        ends = torch.maximum(ends, ends.index_select(-1, rows).masked_fill(none, -float("inf")) + whole)
        whole = whole + whole.index_select(-1, rows).masked_fill(none, 0.0)
    before = ends.index_select(-1, (group - 1).clamp(min=0)).masked_fill(group == 0, -float("inf"))
    return torch.maximum(top, before.unsqueeze(-1) + fall).flatten(-2)[..., :length].to(score.dtype)


@accumulating
def gated_prefix(value: Tensor, gates: Tensor, offset: int, chunk: int) -> Tensor:
    """out[n] = sum over m <= n - offset of exp(gates[m + 1] + ... + gates[n]) value[m], element by element.

    value, gates: [..., N, E].
    """
    wide = accumulator(value)
    v, c = in_chunks(value, chunk).to(wide), gates_in_chunks(gates.to(wide), chunk)
    end = c[..., -1:, :]
    position = torch.arange(chunk, device=value.device)
    hidden = (position.unsqueeze(-1) - position < offset).unsqueeze(-1)
    difference = (c.unsqueeze(-2) - c.unsqueeze(-3)).masked_fill(hidden, -float("inf"))
    inside = (torch.exp(difference) * v.unsqueeze(-3)).sum(-2)
    update = (torch.exp(end - c) * v).sum(-2)
    state = carried(update, end.squeeze(-2)).unsqueeze(-2)
    out = inside + torch.exp(c) * state
    return in_rows(out, False, value.size(-2)).to(value.dtype)


def all_products(x: Tensor, power: int) -> Tensor:
    """Every product of `power` columns of x, in every order: [..., D] as [..., D^power]."""
    out = torch.ones_like(x[..., :1])
    for _ in range(power):
        out = (out.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)
    return out


@accumulating
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
    wide = accumulator(query)
    q, k, v = in_chunks(query, chunk), in_chunks(key, chunk), in_chunks(value, chunk)
    if normalise:
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    terms = [each.to(wide).unsqueeze(-1).unsqueeze(-1).unsqueeze(-1) for each in coefficients]
    score = polynomial(torch.matmul(q, k.mT), powers, terms).tril(-offset)
    out = torch.matmul(score.to(wide), v.to(wide))
    for index in range(len(powers)):
        update = torch.matmul(all_products(k.to(wide), powers[index]).mT, v.to(wide))
        state = torch.cumsum(update, -3) - update
        out = out + terms[index] * torch.matmul(all_products(q.to(wide), powers[index]), state)
    return in_rows(out, normalise, query.size(-2)).to(query.dtype)


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

    coefficients: one number per leading dimension, [...]. normalise: divided by the same sum without the value.
    """
    wide = accumulator(query)
    v = with_ones(value, normalise).to(wide)
    terms = [each.to(wide).unsqueeze(-1).unsqueeze(-1) for each in coefficients]
    state = torch.matmul(all_products(key.to(wide), powers[0]).mT, v)
    out = terms[0] * torch.matmul(all_products(query.to(wide), powers[0]), state)
    for index in range(1, len(powers)):
        state = torch.matmul(all_products(key.to(wide), powers[index]).mT, v)
        out = out + terms[index] * torch.matmul(all_products(query.to(wide), powers[index]), state)
    return without_ones(out, normalise).to(query.dtype)


def linear_recurrence(rate: Tensor, value: Tensor, start: Tensor | None, dim: int) -> Tensor:
    """out[n] = rate[n] * out[n - 1] + value[n] along a dimension, counted from the end; out[-1] = start, or 0.

    The number of operations must not depend on the length: groups of 16, groups of those, and what is left by doubling,
    2 ** 20 of them at most. Groups are at least two, the last ones filled up with repeated positions that nobody reads.
    """
    wide = accumulator(value)
    kind, length = value.dtype, value.size(dim)
    rate, value = rate.to(wide), value.to(wide)
    first = torch.zeros_like(value.select(dim, 0)) if start is None else start.to(wide)
    first = first.unsqueeze(dim)
    value = torch.broadcast_tensors(value, rate, first)[0]
    shape = [-1] + [1] * (-dim - 1)
    composed: list[Tensor] = []
    sums: list[Tensor] = []
    for _ in range(2):
        count = (value.size(dim) + 15) // 16 + 1
        rows = torch.arange(count * 16, device=value.device).clamp(max=value.size(dim) - 1)
        rates = rate.index_select(dim, rows).unflatten(dim, (count, 16))
        values = value.index_select(dim, rows).unflatten(dim, (count, 16))
        rate, value = rates.select(dim, 0), values.select(dim, 0)
        some_rates, some_values = [rate], [value]
        for index in range(1, 16):
            value = torch.addcmul(values.select(dim, index), rates.select(dim, index), value)
            rate = rates.select(dim, index) * rate
            some_rates.append(rate)
            some_values.append(value)
        composed.append(torch.stack(some_rates, dim))
        sums.append(torch.stack(some_values, dim))
    group = torch.arange(value.size(dim), device=value.device)
    for power in range(20):
        rows, none = (group - 2**power).clamp(min=0), (group < 2**power).view(shape)
        value = torch.addcmul(value, rate, value.index_select(dim, rows).masked_fill(none, 0.0))
        rate = rate * rate.index_select(dim, rows).masked_fill(none, 1.0)
    out = torch.addcmul(value, rate, first)
    for level in (1, 0):
        # a group begins where the one before it ends
        group = torch.arange(sums[level].size(dim - 1), device=value.device)
        before = out.index_select(dim, (group - 1).clamp(min=0))
        before = torch.where((group == 0).view(shape), first, before).unsqueeze(dim)
        out = torch.addcmul(sums[level], composed[level], before).flatten(dim - 1, dim)
    return out.narrow(dim, 0, length).to(kind)


def affine_states(matrix: Tensor, offset: Tensor) -> Tensor:
    """out[g] = matrix[g - 1] out[g - 1] + offset[g - 1], out[0] = 0, for [G, F, F] and [G, F, E].

    Groups of 16 are composed, and what is left by doubling, 2 ** 20 of them at most.
    """
    length = offset.size(-3)
    count = (length + 15) // 16 + 1
    rows = torch.arange(count * 16, device=offset.device).clamp(max=length - 1)
    steps = matrix.index_select(-3, rows).unflatten(-3, (count, 16))
    adds = offset.index_select(-3, rows).unflatten(-3, (count, 16))
    a, b = steps.select(-3, 0), adds.select(-3, 0)
    some_a, some_b = [a], [b]
    for index in range(1, 16):
        step = steps.select(-3, index)
        a, b = torch.matmul(step, a), torch.matmul(step, b) + adds.select(-3, index)
        some_a.append(a)
        some_b.append(b)
    group = torch.arange(count, device=offset.device)
    one = torch.eye(matrix.size(-1), dtype=matrix.dtype, device=matrix.device)
    for power in range(20):
        rows, none = (group - 2**power).clamp(min=0), (group < 2**power).unsqueeze(-1).unsqueeze(-1)
        b = b + torch.matmul(a, b.index_select(-3, rows).masked_fill(none, 0.0))
        a = torch.matmul(a, torch.where(none, one, a.index_select(-3, rows)))
    before = b.index_select(-3, (group - 1).clamp(min=0)).masked_fill((group == 0).unsqueeze(-1).unsqueeze(-1), 0.0)
    out = torch.stack(some_b, -3) + torch.matmul(torch.stack(some_a, -3), before.unsqueeze(-3))
    # gathered, not cut off: what is one shorter may have the length 1, of which a trace takes only one of the two cases
    step = torch.arange(length, device=offset.device)
    before = out.flatten(-4, -3).index_select(-3, (step - 1).clamp(min=0))
    return before.masked_fill((step == 0).unsqueeze(-1).unsqueeze(-1), 0.0)


def solved_in_chunks(coupling: Tensor, value: Tensor, reads: Tensor) -> Tensor:
    """out[n] = rows[n] + sum over m < n of coupling[n, m] out[m] in chunks of 16, for rows of values and of reads.

    [..., 16, 16], [..., 16, E] and [..., 16, F]; the result is [..., 16, E + F].
    """
    leading = torch.broadcast_tensors(value[..., :1], reads[..., :1], coupling[..., :1])[0].shape[:-1]
    both = torch.cat([value.expand(leading + value.shape[-1:]), reads.expand(leading + reads.shape[-1:])], -1)
    rows = [both[..., :1, :]]
    for index in range(1, 16):
        solved = torch.cat(rows, -2)
        rows.append(both[..., index : index + 1, :] + torch.matmul(coupling[..., index : index + 1, :index], solved))
    return torch.cat(rows, -2)


@accumulating
def causal_feedback(reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor | None, chunk: int) -> Tensor:
    """out[n] = value[n] + sum over m < n of weight[n, m] (reading[n] . direction[m]) out[m]; [N, F], [N, F], [N, E].

    gates: [..., N]; the weight is exp(gates[m + 1] + ... + gates[n - 1]), or 1 without them. Every chunk is a linear
    function of the state before it, which its rows are solved for one after the other in all chunks together; chunks
    of 16.
    """
    wide = accumulator(value)
    steps = torch.zeros_like(value[..., :1], dtype=wide) if gates is None else gates.to(wide).unsqueeze(-1)
    columns = value.size(-1)
    w, u = in_chunks(reading.to(wide), 16), in_chunks(direction.to(wide), 16)
    x, c = in_chunks(value.to(wide), 16), gates_in_chunks(steps, 16)
    b, end = since_start(c), c[..., -1:, :]
    position = torch.arange(16, device=value.device)
    difference = (b - c.mT).masked_fill(position.unsqueeze(-1) <= position, -float("inf"))
    inside = torch.matmul(w, u.mT) * torch.exp(difference)
    early = w * torch.exp(b)
    solved = solved_in_chunks(inside, x, early)
    late = (u * torch.exp(end - c)).mT
    one = torch.eye(w.size(-1), dtype=wide, device=value.device)
    step = torch.matmul(late, solved[..., columns:]) + torch.exp(end) * one
    state = affine_states(step, torch.matmul(late, solved[..., :columns]))
    out = solved[..., :columns] + torch.matmul(solved[..., columns:], state)
    return in_rows(out, False, value.size(-2)).to(value.dtype)


@accumulating
def feature_gated_feedback(reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor, chunk: int) -> Tensor:
    """out[n] = value[n] + sum over m < n, f of weight[n, m, f] reading[n, f] direction[m, f] out[m]; gates: [N, F].

    The weight is gates[m + 1, f] ... gates[n - 1, f]. Every chunk is a linear function of the state before it, as in
    `causal_feedback`; chunks of 16.
    """
    wide = accumulator(value)
    columns = value.size(-1)
    w, u = in_chunks(reading.to(wide), 16), in_chunks(direction.to(wide), 16)
    x, g = in_chunks(value.to(wide), 16), plain_gates_as_chunks(gates.to(wide), 16)
    inside, start, end, whole = pairs_by_halves(w, u, g, 1, True)
    solved = solved_in_chunks(inside, x, w * start)
    late = (u * end).mT
    one = torch.eye(w.size(-1), dtype=wide, device=value.device)
    step = torch.matmul(late, solved[..., columns:]) + whole.mT * one
    state = affine_states(step, torch.matmul(late, solved[..., :columns]))
    out = solved[..., :columns] + torch.matmul(solved[..., columns:], state)
    return in_rows(out, False, value.size(-2)).to(value.dtype)


def over_length(rows: Tensor, length: int) -> Tensor:
    """The rows, of which there are so many: a trace that has a name for each length learns that two are the same."""
    return rows.expand([*rows.shape[:-2], length, rows.size(-1)])


def transition_parts(
    matrix: Tensor, rows: Tensor, columns: Tensor, length: int, offset: int, chunk: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`transition_products` of all chunks."""
    matrix, rows, columns = stacked(matrix, rows, columns, length)
    count = (matrix.size(-1), matrix.size(-1))
    matrices = in_chunks(matrix.flatten(-2), chunk).unflatten(-1, count)
    return transition_products(matrices, in_chunks(rows, chunk), in_chunks(columns, chunk), offset)


@accumulating
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

    The weight is rows[n] A[n - offset] ... A[m + 1] columns[m], with the matrix A, [N, K, K], and [N, K] twice.
    """
    wide = accumulator(value)
    matrix, rows, columns = matrix.to(wide), rows.to(wide), columns.to(wide)
    query, key = over_length(query, value.size(-2)), over_length(key, value.size(-2))
    inside, early, late, whole = transition_parts(matrix, rows, columns, value.size(-2), offset, chunk)
    q, k, v = in_chunks(query, chunk), in_chunks(key, chunk), in_chunks(value, chunk).to(wide)
    update = torch.matmul(scaled_rows(late, k.to(wide)).mT, v)
    shape = (k.size(-1), v.size(-1))
    added = update.unflatten(-2, (whole.size(-1), shape[0])).flatten(-2)
    state = affine_states(whole, added + torch.zeros_like(torch.matmul(whole, added)))
    state = state.unflatten(-1, shape).flatten(-3, -2)
    out = torch.matmul(torch.matmul(q, k.mT) * inside, v) + torch.matmul(scaled_rows(early, q.to(wide)), state)
    return in_rows(out, False, value.size(-2)).to(value.dtype)


@accumulating
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

    The weight is rows[n] A[n - 1] ... A[m + 1] columns[m], with the matrix A, [N, K, K], and [N, K] twice. Every chunk
    is a linear function of the states before it, as in `causal_feedback`; chunks of 16.
    """
    wide = accumulator(value)
    matrix, rows, columns = matrix.to(wide), rows.to(wide), columns.to(wide)
    reading, direction = over_length(reading, value.size(-2)), over_length(direction, value.size(-2))
    inside, early, late, whole = transition_parts(matrix, rows, columns, value.size(-2), 1, 16)
    w, u, x = in_chunks(reading.to(wide), 16), in_chunks(direction.to(wide), 16), in_chunks(value.to(wide), 16)
    width = value.size(-1)
    coupling, reads = torch.matmul(w, u.mT) * inside, scaled_rows(early, w)
    solved = solved_in_chunks(coupling, x, reads)
    adds = scaled_rows(late, u).mT
    one = torch.eye(u.size(-1), dtype=wide, device=value.device)
    # the matrix of the states for every feature
    every = whole.unsqueeze(-1).unsqueeze(-3) * one.unsqueeze(-2).unsqueeze(0)
    step = torch.matmul(adds, solved[..., width:]) + every.flatten(-4, -3).flatten(-2)
    state = affine_states(step, torch.matmul(adds, solved[..., :width]))
    out = solved[..., :width] + torch.matmul(solved[..., width:], state)
    return in_rows(out, False, value.size(-2)).to(value.dtype)


def linear_states(matrix: Tensor, value: Tensor, start: Tensor | None, dense: bool) -> Tensor:
    """out[n] = matrix[n] out[n - 1] + value[n] along the first of the dimensions that are named; out[-1] = start, or 0.

    dense: [N, K, K] and [N, K, E]; else element by element, [N, K, K, X, 1] and [N, K, X, E]. Groups of 16 are
    composed, groups of those, and what is left by doubling, 2 ** 20 of them at most.
    """
    kind = value.dtype
    wide = torch.float32 if kind in (torch.float16, torch.bfloat16) else kind
    matrix, value = matrix.to(wide), value.to(wide)
    dim, along = (-3, -3) if dense else (-5, -4)  # of the positions
    matrix = matrix.unsqueeze(0) if matrix.dim() < -dim else matrix
    first = torch.zeros_like(value.select(along, 0)) if start is None else start.to(wide)
    first = first.unsqueeze(along)
    value = value + torch.zeros_like(applied(matrix.narrow(dim, 0, 1), first, dense))
    length, constant = value.size(along), matrix.size(dim) == 1
    composites: list[Tensor] = []
    sums: list[Tensor] = []
    for _ in range(2):
        count = (value.size(along) + 15) // 16 + 1
        places = torch.arange(count * 16, device=value.device).clamp(max=value.size(along) - 1)
        values = value.index_select(along, places).unflatten(along, (count, 16)).unbind(along)
        factors = [matrix] * 16
        if not constant:
            factors = list(matrix.index_select(dim, places).unflatten(dim, (count, 16)).unbind(dim))
        matrix, value = factors[0], values[0]
        some_matrices, some_values = [matrix], [value]
        for index in range(1, 16):
            value = values[index] + applied(factors[index], value, dense)
            matrix = composed(factors[index], matrix, dense)
            some_matrices.append(matrix)
            some_values.append(value)
        composites.append(torch.stack(some_matrices, dim))
        sums.append(torch.stack(some_values, along))
    group = torch.arange(value.size(along), device=value.device)
    shape, square = [-1] + [1] * (-along - 1), [-1] + [1] * (-dim - 1)
    if constant:
        matrix = matrix * torch.ones_like(group, dtype=wide).view(square)
    one = torch.eye(value.size(along + 1), dtype=wide, device=value.device)
    one = one if dense else one.unsqueeze(-1).unsqueeze(-1)
    for power in range(20):
        places, none = (group - 2**power).clamp(min=0), group < 2**power
        value = value + applied(matrix, value.index_select(along, places).masked_fill(none.view(shape), 0.0), dense)
        matrix = composed(matrix, torch.where(none.view(square), one, matrix.index_select(dim, places)), dense)
    out = value + applied(matrix, first, dense)
    for level in (1, 0):
        # a group begins where the one before it ends
        group = torch.arange(sums[level].size(along - 1), device=value.device)
        before = out.index_select(along, (group - 1).clamp(min=0))
        before = torch.where((group == 0).view(shape), first, before).unsqueeze(along)
        out = (sums[level] + applied(composites[level], before, dense)).flatten(along - 1, along)
    return out.narrow(along, 0, length).to(kind)


def sum_of_pairs(query: Tensor, key: Tensor, weight: Tensor, function: str, rows: int) -> Tensor:
    """out[n, m] = sum over a of weight[a] f(query[n, a] + key[m, a]), for [N, A], [M, A], [A]."""
    value = pointwise(query.unsqueeze(-2) + key.unsqueeze(-3), function)
    return torch.matmul(value, weight.unsqueeze(-2).unsqueeze(-1)).squeeze(-1)


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scaled: bool
) -> Tensor:
    """out[n] = sum over m of softmax over m of (query[n] . key[m] + mask[n, m]) value[m], for [N, D], [M, D], [M, E].

    scaled: scores are divided by sqrt(D). torch asks of tensors with four dimensions whether the values are as wide
    as the queries, and an exported program would be held to the answer for its example: it gets five.
    """
    whole = torch.compiler.is_exporting() and query.dim() == 4
    out = torch.nn.functional.scaled_dot_product_attention(
        query.unsqueeze(0) if whole else query,
        key,
        value,
        attn_mask=mask,
        is_causal=causal,
        scale=None if scaled else 1.0,
    )
    return out.squeeze(0) if whole else out


def adaptive_pool(x: Tensor, places: int) -> Tensor:
    """The mean over `places` bins that cover the last dimension.

    torch's own pooling fixes the length where it is traced, and exporters write one that is right for multiples of
    `places` only: here bins are gathered, each as many elements as the longest has.
    """
    length = x.size(-1)
    bins = torch.arange(places, device=x.device)
    first, last = bins * length // places, ((bins + 1) * length + places - 1) // places
    rows = first.unsqueeze(-1) + torch.arange(length // places + 2, device=x.device)
    inside = rows < last.unsqueeze(-1)
    read = x.index_select(-1, rows.clamp(max=length - 1).flatten()).unflatten(-1, (places, length // places + 2))
    return read.masked_fill(~inside, 0.0).sum(-1) / (last - first)


def banded_attention(query: Tensor, key: Tensor, value: Tensor, before: int, after: int, scale: float) -> Tensor:
    """Softmax attention of position n to the keys n - before .. n + after, for [N, D], [N, D], [N, E].

    Each block of queries has a copy of the keys that it can see: memory N * (1 + (before + after) / block).
    """
    length = query.size(-2)
    block = max(64, min(before + after, 1024))
    q = in_chunks(query * scale, block)
    start = torch.arange(q.size(-3), device=query.device) * block
    near = start.unsqueeze(-1) + torch.arange(-before, block + after, device=query.device)
    rows = near.clamp(0, length - 1).flatten()
    k = key.index_select(-2, rows).unflatten(-2, (near.size(0), near.size(1)))
    v = value.index_select(-2, rows).unflatten(-2, (near.size(0), near.size(1)))
    lag = (start.unsqueeze(-1) + torch.arange(block, device=query.device)).unsqueeze(-1) - near.unsqueeze(-2)
    exists = ((near >= 0) & (near < length)).unsqueeze(-2)
    visible = (lag <= before) & (lag >= -after) & exists
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=1.0)
    return in_rows(mixed, False, length)


def windowed_attention(query: Tensor, key: Tensor, value: Tensor, window: int, scale: float) -> Tensor:
    """Softmax attention inside windows 0..W-1, W..2W-1, ... of one sequence, for [N, D], [N, D], [N, E].

    The last window is filled up with keys that nobody sees.
    """
    q, k, v = in_chunks(query * scale, window), in_chunks(key, window), in_chunks(value, window)
    start = torch.arange(q.size(-3), device=query.device).unsqueeze(-1) * window
    visible = (start + torch.arange(window, device=query.device) < query.size(-2)).unsqueeze(-2)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=1.0)
    return in_rows(mixed, False, query.size(-2))


def vectors_times_rows(vectors: Tensor, rows: Tensor, axes: str) -> Tensor:
    """vectors[h, d] rows[..., h, m, d] summed over d: a trace does not ask how the rows lie in memory."""
    return torch.einsum(axes, vectors, rows)


def digits(number: int, base: int) -> int:
    """One for every power of the base that the number reaches: a sum of sizes, which a trace keeps as a size.

    In base 2 a term counts two digits: a number below 4 has as many digits as it is, but 2 at most.
    """
    terms, most = (base * base, 2) if base == 2 else (base, 1)
    count, power = torch.sym_min(number, most), terms
    while power < 2**62:
        count = count + torch.sym_min(number // power, most)
        power *= terms
    return count


def slid(
    rows: Tensor, kernel: Tensor, rank: int, groups: int, stride: int, dilation: int, same: bool, transposed: bool
) -> Tensor:
    """Where the width of the kernel is a size, rows are padded before, by as much as the kernel takes away: the places
    that there were are left, be the width even or odd, which a trace would have to ask.
    """
    taps = kernel.shape[-rank:]
    padding: list[int] = [0] * rank
    if same and all(isinstance(size, int) and size % 2 == 1 for size in taps):
        padding = [dilation * (size // 2) for size in taps]
    elif same:
        before = [(dilation * (size // 2), dilation * (size - 1)) for size in reversed(taps)]
        rows = torch.nn.functional.pad(rows, [side for left, both in before for side in (left, both - left)])
    steps, spread, nothing = [stride] * rank, [dilation] * rank, [0] * rank
    return torch.convolution(rows, kernel, None, steps, padding, spread, transposed, nothing, groups)
