"""The algorithms of `kernels` on a piece of a sequence, from the state that the piece before left behind.

A piece is any number of positions from one on; one position takes the shortest way. Generated modules carry a copy of
the functions that they use. A state that holds nothing yet is an empty tensor of one dimension, so that a fresh one
needs no batch, device or dtype; a running state is in float32 where the operands are half precision. Where a
dimension is named, it is counted from the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .autocast import accumulating
from .kernels import (
    banded_attention,
    causal_chunks,
    decayed_chunks,
    feature_gated_chunks,
    feature_gated_feedback_chunks,
    feedback_chunks,
    gated_chunks,
    gated_prefix_chunks,
    linear_groups,
    over_batch,
    prefix_chunks,
    sink_attention,
    softmax_beside,
)
from .polynomials import choices_and_weights, count_of_choices, monomials, polynomial_chunks, with_ones, without_ones
from .precision import accumulator
from .running import running_maximum
from .transitions import state_groups, transition_feedback_chunks, transition_scan_chunks


def is_new(state: Tensor) -> bool:
    """Whether nothing has been kept yet."""
    return state.dim() == 1 and state.size(0) == 0


def fits(state: Tensor, shape: list[int]) -> bool:
    """Whether a state is new or ends in these sizes: -1 stands for any, and 1 fits all."""
    sizes = state.shape
    if len(sizes) < len(shape):
        return state.numel() == 0
    for i in range(-len(shape), 0):
        if sizes[i] != shape[i] and shape[i] != -1 and sizes[i] != 1:
            return state.numel() == 0
    return True


def with_part(whole: Tensor, part: Tensor, start: int, length: int, dim: int) -> Tensor:
    """A result of `length` positions with those of a part in their place; the first part makes it.

    As parts are copied while they are in the cache, their memory is that of the next.
    """
    if start == 0:
        shape = list(part.shape)
        shape[dim] = length
        whole = part.new_empty(shape)
    whole.narrow(dim, start, part.size(dim)).copy_(part)
    return whole


def begun(state: Tensor, start: Tensor) -> Tensor:
    """The state, or where it starts if nothing came before."""
    return start if is_new(state) else state


def extended(kept: Tensor, x: Tensor, dim: int) -> Tensor:
    """What was kept, and x after it; x alone, with room behind it, if nothing was kept."""
    if torch.jit.is_scripting():
        return x if is_new(kept) else torch.cat([kept, x], dim)
    else:
        return appended(kept, x, dim)


def in_memory(kept: Tensor, x: Tensor) -> bool:
    """Whether values are all there is to two tensors: no gradient, tangent, vmap or trace."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return False
    if type(kept) is not Tensor or type(x) is not Tensor or kept.requires_grad or x.requires_grad:
        return False
    if kept.is_inference() and not torch.is_inference_mode_enabled():
        return False
    if torch.autograd.forward_ad._current_level >= 0:
        return False
    strided = kept.layout == torch.strided and x.layout == torch.strided
    return strided and not torch._C._are_functorch_transforms_active()


def copied(x: Tensor, shape: list[int], dim: int) -> Tensor:
    """A tensor of this shape that begins as x, and room behind it; its storage knows the end."""
    count, before = shape[dim], x.size(dim)
    capacity = count + max(count // 8, 64)
    whole = [*shape[:dim], capacity, *shape[dim + 1 or len(shape) :]]
    memory = torch.empty(whole, dtype=x.dtype, device=x.device)
    memory.narrow(dim, 0, before).copy_(x)
    vars(memory.untyped_storage())["room"] = (memory.stride(), count, capacity)
    return memory.narrow(dim, 0, count).data


def appended(kept: Tensor, x: Tensor, dim: int) -> Tensor:
    """What was kept, and x after it: in its memory, if there is room that nobody reads.

    The storage knows how far it is filled, so that of two tensors that go on from the same one the
    second is a copy, unless the first is gone. What is traced, or has gradients, is always a copy.
    """
    if not in_memory(kept, x):
        return x if is_new(kept) else torch.cat([kept, x], dim)
    shape, added = [*kept.shape], [*x.shape]
    if len(shape) == 1 and shape[0] == 0:
        return copied(x, added, dim)
    before, more = shape[dim], added[dim]
    shape[dim] = more
    if shape != added or kept.dtype != x.dtype or kept.device != x.device:
        return torch.cat([kept, x], dim)
    count = shape[dim] = before + more
    storage = kept.untyped_storage()
    known = vars(storage)
    room = known.get("room", ((), 0, 0))
    strides, filled, capacity = room
    start, fits = kept.storage_offset(), strides == kept.stride()
    end = start // strides[dim] % capacity + count if fits else capacity + 1
    if end <= capacity and known.pop("room", None) is room:  # of two threads one has it
        # What is filled behind `kept` is free, if it and the storage's own object hold all of it.
        if end - more == filled or torch._C._storage_Use_Count(storage._cdata) <= 2:
            both, filled = kept.data.as_strided(shape, strides, start), end
        else:
            both = copied(kept, shape, dim)
        known["room"] = (strides, filled, capacity)
    else:
        both = copied(kept, shape, dim)
    both.narrow(dim, before, more).copy_(x)
    return both.data


def windowed(kept: Tensor, x: Tensor, dim: int, first: int, last: int) -> tuple[Tensor, Tensor]:
    """What was kept, and x after it; and what is kept of all these: the first and the last elements."""
    both = x if is_new(kept) else extended(kept, x, dim)
    surplus = both.size(dim) - first - last
    if surplus <= 0:
        return both, both
    after = both.narrow(dim, first + surplus, last)
    if first > 0:
        after = torch.cat([both.narrow(dim, 0, first), after], dim)
    elif surplus > last:  # a long piece is not held for its end
        after = after.clone()
    return both, after


def filled(x: Tensor, dim: int, count: int) -> Tensor:
    """x with its last element repeated until there are `count` of them."""
    missing = count - x.size(dim)
    return torch.cat([x, x.narrow(dim, -1, 1).repeat_interleave(missing, dim)], dim)


def recent(kept: Tensor, x: Tensor, dim: int, count: int) -> tuple[Tensor, Tensor]:
    """The last `count` elements before x, zeros where there are none, and x after them; and the last of all these."""
    if is_new(kept):
        kept = torch.zeros_like(x.narrow(dim, 0, 1)).repeat_interleave(count, dim)
    both = torch.cat([kept, x], dim)
    return both, both.narrow(dim, x.size(dim), count)


def sums_before(state: Tensor, rows: int, columns: int, like: Tensor) -> Tensor:
    """A sum that a scan carries, or zeros; in float32 where the operands are half precision."""
    if not is_new(state):
        return state
    wide = accumulator(like)
    return torch.zeros([rows, columns], dtype=wide, device=like.device)


def both_before(state: Tensor, total: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of key[m] value[m]^T, [F, E], and that of the keys, [F, 1], or zeros."""
    features = key.size(-1)
    return sums_before(state, features, value.size(-1), value), sums_before(total, features, 1, value)


def with_outer_product(before: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """before + key value^T of one position, [F, E]."""
    if value.dtype != before.dtype:
        key, value = key.to(before.dtype), value.to(before.dtype)
    return torch.addcmul(before, key.mT, value)


def with_position(before: Tensor, total: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """before + key value^T of one position, [F, E], and total + key, [F, 1]."""
    if value.dtype != before.dtype:
        key, value = key.to(before.dtype), value.to(before.dtype)
    column = key.mT
    return torch.addcmul(before, column, value), total + column


def read(query: Tensor, sums: Tensor) -> Tensor:
    """query . sums of one position."""
    if query.dtype == sums.dtype:
        return torch.matmul(query, sums)
    return torch.matmul(query.to(sums.dtype), sums).to(query.dtype)


def read_mean(query: Tensor, sums: Tensor, total: Tensor) -> Tensor:
    """query . sums / query . total of one position."""
    if query.dtype == sums.dtype:
        return torch.matmul(query, sums) / torch.matmul(query, total)
    wide = query.to(sums.dtype)
    return (torch.matmul(wide, sums) / torch.matmul(wide, total)).to(query.dtype)


def together(sums: Tensor, total: Tensor) -> Tensor:
    """The state of a scan that is divided by the sum of its weights as the chunks take it: [F, E + 1]."""
    return torch.cat([sums, total.expand_as(sums[..., :1])], -1)


def causal_scan_from(
    query: Tensor, key: Tensor, value: Tensor, state: Tensor, offset: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """`causal_scan` of a piece, and the next state: the sum of key[m] value[m]^T."""
    before = sums_before(state, key.size(-1), value.size(-1), value)
    if query.size(-2) > 1:
        return causal_chunks(query, key, value, before, offset, False, chunk)
    after = with_outer_product(before, key, value)
    return read(query, after if offset == 0 else before), after


def causal_mean_from(
    query: Tensor, key: Tensor, value: Tensor, state: Tensor, total: Tensor, offset: int, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`causal_scan` of a piece over the sum of its weights, the next state, and the sum of the keys."""
    before, seen = both_before(state, total, key, value)
    if query.size(-2) > 1:
        out, both = causal_chunks(query, key, value, together(before, seen), offset, True, chunk)
        return out, both[..., :-1].contiguous(), both[..., -1:]
    after, keys = with_position(before, seen, key, value)
    if offset != 0:
        return read_mean(query, before, seen), after, keys
    return read_mean(query, after, keys), after, keys


def decayed_scan_from(
    query: Tensor, key: Tensor, value: Tensor, rate: Tensor, decay: Tensor, state: Tensor, offset: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """`decayed_scan` of a piece, and the next state: the sum of key[m] value[m]^T, decayed up to the last position.

    decay: exp(rate), [1, 1].
    """
    before = sums_before(state, key.size(-1), value.size(-1), value)
    if query.size(-2) > 1:
        return decayed_chunks(query, key, value, rate, before, offset, False, chunk)
    before = before * decay
    after = with_outer_product(before, key, value)
    return read(query, after if offset == 0 else before), after


def decayed_mean_from(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    decay: Tensor,
    state: Tensor,
    total: Tensor,
    offset: int,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`decayed_scan` of a piece over the sum of its weights, the next state, and the sum of the keys."""
    before, seen = both_before(state, total, key, value)
    if query.size(-2) > 1:
        out, both = decayed_chunks(query, key, value, rate, together(before, seen), offset, True, chunk)
        return out, both[..., :-1].contiguous(), both[..., -1:]
    before, seen = before * decay, seen * decay
    after, keys = with_position(before, seen, key, value)
    if offset != 0:
        return read_mean(query, before, seen), after, keys
    return read_mean(query, after, keys), after, keys


def gated_scan_from(
    query: Tensor, key: Tensor, value: Tensor, gates: Tensor, state: Tensor, offset: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """`gated_scan` of a piece, and the next state, decayed up to the last position."""
    before = sums_before(state, key.size(-1), value.size(-1), value)
    if query.size(-2) > 1:
        return gated_chunks(query, key, value, gates, None, before, is_new(state), offset, False, chunk)
    if not is_new(state):
        before = before * torch.exp(gates.to(before.dtype).unsqueeze(-1))
    after = with_outer_product(before, key, value)
    return read(query, after if offset == 0 else before), after


def feature_gated_scan_from(
    query: Tensor, key: Tensor, value: Tensor, gates: Tensor, state: Tensor, offset: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """`feature_gated_scan` of a piece, and the next state, every feature decayed up to the last position."""
    before = sums_before(state, key.size(-1), value.size(-1), value)
    if query.size(-2) > 1:
        return feature_gated_chunks(query, key, value, gates, before, is_new(state), offset, chunk)
    if not is_new(state):
        before = before * gates.to(before.dtype).mT
    after = with_outer_product(before, key, value)
    return read(query, after if offset == 0 else before), after


def gated_mean_from(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Tensor,
    least: Tensor | None,
    state: Tensor,
    total: Tensor,
    offset: int,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`gated_scan` of a piece over the sum of its weights, the next state, and the sum of the keys."""
    before, seen = both_before(state, total, key, value)
    if query.size(-2) > 1:
        start = together(before, seen)
        out, both = gated_chunks(query, key, value, gates, least, start, is_new(state), offset, True, chunk)
        return out, both[..., :-1].contiguous(), both[..., -1:]
    if not is_new(state):
        decay = torch.exp(gates.to(before.dtype).unsqueeze(-1))
        before, seen = before * decay, seen * decay
    after, keys = with_position(before, seen, key, value)
    if offset == 0:
        before, seen = after, keys
    if least is None:
        return read_mean(query, before, seen), after, keys
    wide = query.to(before.dtype)
    bound = torch.maximum(torch.matmul(wide, seen).abs(), least.to(before.dtype).unsqueeze(-1))
    return (torch.matmul(wide, before) / bound).to(query.dtype), after, keys


@accumulating
def polynomial_scan_from(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    coefficients: list[Tensor],
    state: Tensor,
    powers: list[int],
    offset: int,
    normalise: bool,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`polynomial_scan` of a piece, and the next state: the sum of products of key[m] times value[m]^T."""
    wide = accumulator(query)
    if is_new(state):
        products, columns = count_of_choices(query.size(-1), powers), value.size(-1) + int(normalise)
        state = torch.zeros([products, columns], dtype=wide, device=value.device)
    if query.size(-2) > 1:
        return polynomial_chunks(query, key, value, coefficients, state, powers, offset, normalise, chunk)
    terms = [each.to(wide).unsqueeze(-1).unsqueeze(-1) for each in coefficients]
    choices, weights = choices_and_weights(query.size(-1), powers, terms)
    after = state + monomials(key.to(wide), powers, choices) * with_ones(value, normalise).to(wide)
    rows = monomials(query.to(wide), powers, choices) * weights
    out = torch.matmul(rows.mT, after if offset == 0 else state)
    return without_ones(out, normalise).to(query.dtype), after


@accumulating
def prefix_softmax_from(
    score: Tensor, value: Tensor, state: Tensor, last: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`prefix_softmax` of a piece, the next state, and the largest score so far."""
    wide = accumulator(value)
    new = is_new(state)
    before = torch.zeros([1, value.size(-1) + 1], dtype=wide, device=value.device) if new else state
    if value.size(-2) > 1:
        return prefix_chunks(score, value, before, None if new else last, chunk)
    score = score.to(wide).unsqueeze(-1)
    top = score if new else torch.maximum(score, last)
    after = torch.exp(score - top) * torch.nn.functional.pad(value.to(wide), [0, 1], value=1.0)
    if not new:
        after = after + torch.exp(last - top) * before
    return (after[..., :-1] / after[..., -1:]).to(value.dtype), after, top


@accumulating
def gated_prefix_from(
    value: Tensor, gates: Tensor, state: Tensor, offset: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """`gated_prefix` of a piece, and the next state, decayed up to the last position."""
    wide = accumulator(value)
    if value.size(-2) > 1:
        return gated_prefix_chunks(value, gates, None if is_new(state) else state, offset, chunk)
    if is_new(state):
        before = torch.zeros_like(gates * value, dtype=wide)
    else:
        before = state * torch.exp(gates.to(wide))
    after = before + value.to(wide)
    return (after if offset == 0 else before).to(value.dtype), after


def linear_recurrence_from(
    rate: Tensor, value: Tensor, start: Tensor | None, state: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    """`linear_recurrence` of a piece, and its last element."""
    before = start if is_new(state) else state.squeeze(dim)
    if value.size(dim) > 1:
        out = linear_groups(rate, value, before, dim)
        return out.to(value.dtype), out.narrow(dim, -1, 1)
    wide = accumulator(value)
    rate, out = rate.to(wide), value.to(wide)
    if before is None:
        out = out + torch.zeros_like(rate)
    else:
        out = torch.addcmul(out, rate, before.to(wide).unsqueeze(dim))
    return out.to(value.dtype), out


def causal_feedback_from(
    reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor | None, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """`causal_feedback` of a piece, and the next state, decayed up to the last position."""
    return feedback_chunks(reading, direction, value, gates, None if is_new(state) else state, chunk)


@accumulating
def feature_gated_feedback_from(
    reading: Tensor, direction: Tensor, value: Tensor, gates: Tensor, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """`feature_gated_feedback` of a piece, and the next state, every feature decayed up to the last position."""
    if value.size(-2) > 1:
        return feature_gated_feedback_chunks(reading, direction, value, gates, None if is_new(state) else state, chunk)
    sums, wide = sums_before(state, direction.size(-1), value.size(-1), value), accumulator(value)
    out = value.to(wide) + torch.matmul(reading.to(wide), sums)
    kept = sums if is_new(state) else sums * gates.to(wide).mT
    return out.to(value.dtype), with_outer_product(kept, direction.to(wide), out)


def linear_states_from(
    matrix: Tensor, value: Tensor, start: Tensor | None, state: Tensor, dense: bool
) -> tuple[Tensor, Tensor]:
    """`linear_states` of a piece, and its last element."""
    along = -3 if dense else -4
    out = state_groups(matrix, value, start if is_new(state) else state.squeeze(along), dense)
    return out.to(value.dtype), out.narrow(along, -1, 1)


def transition_scan_from(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    matrix: Tensor,
    rows: Tensor,
    columns: Tensor,
    state: Tensor,
    offset: int,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`transition_scan` of a piece, and the states after it."""
    before = None if is_new(state) else state
    return transition_scan_chunks(query, key, value, matrix, rows, columns, before, offset, chunk)


def transition_feedback_from(
    reading: Tensor,
    direction: Tensor,
    value: Tensor,
    matrix: Tensor,
    rows: Tensor,
    columns: Tensor,
    state: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """`transition_feedback` of a piece, and the states after it."""
    before = None if is_new(state) else state
    return transition_feedback_chunks(reading, direction, value, matrix, rows, columns, before, chunk)


def running_sum_from(x: Tensor, total: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The running sum of a piece, and its last element."""
    wide = accumulator(x)
    out = torch.cumsum(x.to(wide), dim)
    out = out if is_new(total) else out + total
    return out.to(x.dtype), out.narrow(dim, -1, 1)


def running_product_from(x: Tensor, total: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The running product of a piece, and its last element."""
    wide = accumulator(x)
    out = torch.cumprod(x.to(wide), dim)
    out = out if is_new(total) else out * total
    return out.to(x.dtype), out.narrow(dim, -1, 1)


def running_max_from(x: Tensor, top: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The running maximum of a piece, and its last element."""
    out = torch.cummax(x, dim)[0]
    out = out if is_new(top) else torch.maximum(out, top)
    return out, out.narrow(dim, -1, 1)


def running_maximum_from(score: Tensor, gates: Tensor, top: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """`running_maximum` of a piece, and its last element."""
    narrow, wide = score.dtype, accumulator(score)
    score, gates = score.to(wide), gates.to(wide)
    if not is_new(top):  # as one more score of the first position
        first = torch.maximum(score.narrow(-1, 0, 1), top + gates.narrow(-1, 0, 1))
        later = score.narrow(-1, 1, score.size(-1) - 1)
        score = torch.cat([first, later.expand(first.shape[:-1] + later.shape[-1:])], -1)
    out = running_maximum(score, gates, chunk)
    return out.to(narrow), out.narrow(-1, -1, 1)


def running_min_from(x: Tensor, bottom: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The running minimum of a piece, and its last element."""
    out = torch.cummin(x, dim)[0]
    out = out if is_new(bottom) else torch.minimum(out, bottom)
    return out, out.narrow(dim, -1, 1)


def running_logsumexp_from(x: Tensor, total: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The logarithm of the running sum of exponentials of a piece, and its last element."""
    wide = accumulator(x)
    out = torch.logcumsumexp(x.to(wide), dim)
    out = out if is_new(total) else torch.logaddexp(out, total)
    return out.to(x.dtype), out.narrow(dim, -1, 1)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scaled: bool) -> Tensor:
    """Softmax attention of the last positions of a sequence, [n, D], to all positions up to each, [N, D], [N, E].

    scaled: by 1 / sqrt(D).
    """
    scale: float | None = None if scaled else 1.0
    rows, columns = query.size(-2), key.size(-2)
    if rows == 1:  # it sees every key
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scale)
    if rows == columns:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    visible = torch.ones([rows, columns], dtype=torch.bool, device=query.device).tril(columns - rows)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scale)


def late_sink_attention(query: Tensor, key: Tensor, value: Tensor, sink: Tensor, scaled: bool) -> Tensor:
    """`causal_attention` with exp(sink[n]) added to the sum that weights are divided by; sink: [..., n] or [..., 1]."""
    rows, columns = query.size(-2), key.size(-2)
    if rows == 1:  # one row of weights is no map
        query = over_batch(query, 2, sink, 1)
        first = sink.unsqueeze(-1)
        shared = query.dim() > 2 and key.dim() > 2 and key.size(-3) == 1 and value.size(-3) == 1
        if shared:  # heads that share keys are rows of one product
            query = query.transpose(-2, -3)
            first = first.transpose(-2, -3) if first.dim() > 2 else first
        scale = query.size(-1) ** -0.5 if scaled else 1.0
        weight = softmax_beside(torch.matmul(query * scale, key.mT), first, [-1])
        out = torch.matmul(weight, value)
        return out.transpose(-2, -3) if shared else out
    if rows == columns:
        return sink_attention(query, key, value, None, sink, True, scaled)
    visible = torch.ones([rows, columns], dtype=torch.bool, device=query.device).tril(columns - rows)
    return sink_attention(query, key, value, visible, sink, False, scaled)


def banded_attention_from(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, before: int, after: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`banded_attention` of a piece, and the last `before` keys and values. after: 0 or less."""
    length = query.size(-2)
    if not is_new(keys):
        key, value = extended(keys, key, -2), extended(values, value, -2)
    earlier = key.size(-2) - length
    start = max(key.size(-2) - before, 0)
    left = (key[..., start:, :], value[..., start:, :])
    if length == 1 and after == 0:  # all that is kept is in the band
        out = torch.nn.functional.scaled_dot_product_attention(query * scale, key, value, scale=1.0)
        return out, left[0], left[1]
    rows = torch.cat([query[..., :1, :].repeat_interleave(earlier, -2), query], -2)
    return banded_attention(rows, key, value, before, after, scale)[..., earlier:, :], left[0], left[1]
