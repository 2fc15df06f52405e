"""What a target runs where it cannot carry an algorithm of the plan as it is, and what that costs."""

from __future__ import annotations

_CHUNKS = (
    "all chunks at once instead of a loop over them, since a traced loop would fix their number: "
    "the same order of time, "
)
_STATES = _CHUNKS + "memory for the states of all chunks"

ALL_CHUNKS = {
    "causal_scan": _STATES,
    "decayed_scan": _STATES,
    "gated_scan": _STATES,
    "feature_gated_scan": _STATES,
    "polynomial_scan": _STATES + ", and for the products of features of all positions",
    "polynomial_sum": _CHUNKS + "memory for the products of features of all positions",
    "prefix_softmax": _STATES,
    "running_maximum": _CHUNKS + "twenty doublings over the chunks, whatever their number",
    "gated_prefix": _STATES,
    "linear_recurrence": (
        "groups of positions composed on two levels and then by doubling, whatever the length, since a traced loop "
        "would fix the number of levels: the same order of memory, and of time up to millions of positions"
    ),
    "causal_feedback": _STATES + ", and for a matrix of two times the features for each",
    "feature_gated_feedback": _STATES + ", and for a matrix of two times the features for each",
    "linear_states": (
        "groups of positions composed on two levels and then by doubling, whatever the length, since a traced loop "
        "would fix the number of levels: the same order of memory, and of time up to millions of positions"
    ),
    "transition_scan": _STATES,
    "transition_feedback": _STATES + ", and for a matrix of two times the features of all states for each",
    "banded_attention": _CHUNKS + "memory for the keys that each block of queries sees",
    "sum_of_pairs": _CHUNKS + "memory for the value over queries, keys and features",
    "fused_attention": (
        "torch's attention without bringing its operands to the shapes that its fused kernels take: where there is one "
        "leading dimension, or values are not as wide as queries, memory for the map"
    ),
    "vectors_times_rows": (
        "an einsum however the rows lie in memory, which a trace does not know: where there is a batch, a copy of them"
    ),
    "windowed_attention": _CHUNKS + "the last window filled up",
    "adaptive_pool": (
        "the elements of each bin gathered, since torch's own pooling would fix the length in a trace: the same order "
        "of time and memory"
    ),
}

AT_ONCE_ON_GPU = (
    "all chunks at once instead of a loop over them, since a GPU would wait for the launches of every turn: "
    "the same order of time, memory for the states of all chunks"
)

FUNCTIONS = {
    "flexible_attention": (
        "FlexAttention computes changes of scores and masks where they are used, instead of a matrix of them; "
        "on a CPU only without gradients, in single or half precision, and where the changes read no tensor"
    ),
}

_ALL_QUERIES = (
    "all queries at once instead of a loop over blocks of them, since a traced loop would fix their number: "
    "memory for the map"
)
_SIZES = {
    "digits": (
        "comparisons with all powers of the base instead of a loop over digits, since a traced loop would fix the "
        "number of digits: a size like any other"
    ),
    "slid": (
        "rows padded before they are convolved where the width of the kernel is a size, since a trace would fix "
        "whether it is even: a copy of the rows"
    ),
}
TRACED = {**ALL_CHUNKS, "row_blocks": _ALL_QUERIES, "lagged_attention": _ALL_QUERIES, **_SIZES}
