"""Formulas that look like those an algorithm is for, and are not: it must decline, and the values must be right."""

from __future__ import annotations

from .formulas import HEADS, PLAIN, Case, formula


def _miss(name: str, inputs: str, *lines: str, order: str, ops: tuple[str, ...] = (), **more: object) -> Case:
    result = str(more.pop("result", "[N, E]"))
    return Case(name, formula(name, inputs, *lines, result=result), order, ops, **more)  # type: ignore[arg-type]


MASKS = (
    _miss(
        "sees_one_ahead",
        PLAIN,
        "where M = N",
        "return where(pos(N) >= pos(M) - 1, q @ k^T, 0) @ v",
        order="O(N*log(N))",
        ops=("toeplitz_product",),
    ),
    _miss(
        "other_way_round",
        PLAIN,
        "where M = N",
        "return where(pos(N) <= pos(M), q @ k^T, 0) @ v",
        order="O(N*log(N))",
        ops=("toeplitz_product",),
    ),
    _miss(
        "twice_the_position",
        PLAIN,
        "where M = N",
        "return where(2 * pos(N) >= pos(M), q @ k^T, 0) @ v",
        order="O(N^2)",
    ),
    _miss(
        "every_other_key",
        PLAIN,
        "where M = N",
        "return where(pos(N) >= pos(M) and pos(M) % 2 == 0, q @ k^T, 0) @ v",
        order="O(N^2)",
    ),
    _miss(
        "unequal_sizes",
        PLAIN,
        "return where(pos(N) >= pos(M), q @ k^T, 0) @ v",
        order="O(N*M)",
        written="O(N*M)",
        tied=False,
    ),
    _miss(
        "unequal_sizes_of_a_lag",
        PLAIN,
        "return ((q @ k^T) * exp(-abs(pos(N) - pos(M)))) @ v",
        order="O(N*M)",
        written="O(N*M)",
        tied=False,
    ),
    _miss(
        "mask_of_two_pairs",
        "q[N, D], k[M, D], v[P, M, E]",
        "where M = N, P = N",
        "sequence N, M, P",
        "a = where(pos(N) >= pos(M), q @ k^T, 0) * where(pos(N) >= pos(P), 1, 0)",
        "return sum[M, P](a * v)",
        order="O(N^2*log(N))",
        written="O(N^3)",
        ops=("toeplitz_product",),
    ),
    _miss(
        "mask_of_heads",
        HEADS,
        "where H = 3, G = H",
        "sequence N, M",
        "w = where(pos(H) >= pos(G), 1, 0)",
        "return sum[G](w * ((q[H -> G] @ k[H -> G]^T) @ v[H -> G]))",
        order="O(N + M)",
        written="O(N*M)",
        result="[H, N, E]",
        tied=False,
        sizes=(("H", 3),),
    ),
    _miss(
        "mask_that_data_choose",
        "q[N, D], k[M, D], v[M, E], first[N]",
        "where M = N",
        "return where(first <= pos(M), q @ k^T, 0) @ v",
        order="O(N^2)",
    ),
)

POLYNOMIALS = (
    _miss(
        "product_of_two_scores",
        PLAIN + ", r[N, D]",
        "where M = N",
        "return where(pos(N) >= pos(M), (q @ k^T) * (r @ k^T), 0) @ v",
        order="O(N)",
        ops=("causal_scan",),
    ),
    _miss(
        "product_with_itself_turned_round",
        "q[N, D], k[M, D], v[M, D]",
        "a = sum[D](q * k) * sum[D](q * v)",
        "return a @ v / M",
        order="O(N + M)",
        written="O(N*M)",
        tied=False,
        result="[N, D]",
    ),
    _miss(
        "other_values_for_other_powers",
        PLAIN + ", u[M, E]",
        "where M = N",
        "s = q @ k^T",
        "seen(w) = where(pos(N) >= pos(M), w, 0)",
        "return sum[M](seen(s) * v + seen(s^2) * u)",
        order="O(N)",
        ops=("polynomial_scan", "causal_scan"),
    ),
    _miss(
        "square_that_decays",
        PLAIN,
        "where M = N",
        "lag = pos(N) - pos(M)",
        "return ((q @ k^T)^2 * where(lag >= 0, 0.9^lag, 0)) @ v",
        order="O(N)",
        ops=("decayed_scan",),
    ),
    _miss(
        "square_of_a_norm",
        PLAIN,
        "s = abs(q @ k^T)",
        "return s^2 @ v",
        order="O(N*M)",
        written="O(N*M)",
        tied=False,
    ),
)

DECAYS = (
    _miss(
        "base_of_unknown_sign",
        HEADS + ", base[H]",
        "where M = N",
        "sequence N",
        "lag = pos(N) - pos(M)",
        "return ((q @ k^T) * where(lag >= 0, base^lag, 0)) @ v",
        order="O(N*log(N))",
        ops=("toeplitz_product",),
        result="[H, N, E]",
    ),
    _miss(
        "base_that_may_be_zero",
        HEADS + ", base[H]",
        "where M = N",
        "sequence N",
        "lag = pos(N) - pos(M)",
        "return ((q @ k^T) * where(lag >= 0, relu(base)^lag, 0)) @ v",
        order="O(N*log(N))",
        ops=("toeplitz_product",),
        result="[H, N, E]",
    ),
    _miss(
        "lag_and_one",
        PLAIN,
        "where M = N",
        "lag = pos(N) - pos(M)",
        "return ((q @ k^T) * where(lag >= 0, 0.5^(lag + 1), 0)) @ v",
        order="O(N*log(N))",
        ops=("toeplitz_product",),
    ),
    _miss(
        "square_of_the_lag",
        PLAIN,
        "where M = N",
        "lag = pos(N) - pos(M)",
        "return ((q @ k^T) * where(lag >= 0, 0.9^(lag^2), 0)) @ v",
        order="O(N*log(N))",
        ops=("toeplitz_product",),
    ),
    _miss(
        "levels_that_differ",
        HEADS + ", g[H, N], f[H, N]",
        "where M = N",
        "sequence N",
        "c = cumsum[N](g)",
        "d = cumsum[N](f)",
        "return where(pos(N) >= pos(M), (q @ k^T) * exp(c - d[N -> M]), 0) @ v",
        order="O(N)",
        ops=("causal_scan",),  # exp(c) * exp(-d): a product, as for any two values
        result="[H, N, E]",
        negative=("g", "f"),
    ),
    _miss(
        "gate_without_a_mask",
        HEADS + ", g[H, N]",
        "where M = N",
        "sequence N",
        "c = cumsum[N](g)",
        "return ((q @ k^T) * exp(c - c[N -> M])) @ v",
        order="O(N^2)",
        result="[H, N, E]",
        negative=("g",),
    ),
    _miss(
        "gate_further_back",
        HEADS + ", g[H, N]",
        "where M = N",
        "sequence N",
        "c = cumsum[N](g)",
        "return where(pos(N) >= pos(M) + 3, (q @ k^T) * exp(c - c[N -> M]), 0) @ v",
        order="O(N^2)",
        result="[H, N, E]",
        negative=("g",),
    ),
    _miss(
        "two_decays",
        PLAIN,
        "where M = N",
        "lag = pos(N) - pos(M)",
        "return ((q @ k^T) * where(lag >= 0, 0.5^lag + 0.25^lag, 0)) @ v",
        order="O(N)",
        ops=("decayed_scan", "decayed_scan"),
    ),
)

SOFTMAXES = (
    _miss(
        "key_scores_seen_ahead",
        "s[M], v[M, E]",
        "where N = M",
        "sequence M",
        "return softmax[M](s, mask=pos(N) <= pos(M)) @ v",
        order="O(M^2)",
        written="O(M^2)",
    ),
    _miss(
        "softmax_over_queries",
        PLAIN,
        "return softmax[N](q @ k^T) @ v",
        order="O(N*M)",
        written="O(N*M)",
        tied=False,
    ),
    _miss(
        "map_of_two_sums",
        PLAIN,
        "a = relu(q @ k^T)",
        "return (a / (sum[M](a) + 1)) @ v",
        order="O(N*M)",
        written="O(N*M)",
        tied=False,
    ),
    _miss(
        "softmax_of_two_sums",
        PLAIN + ", u[M, E]",
        "a = softmax[M](q @ k^T)",
        "return a @ v + square(a) @ u",
        order="O(N*M)",
        written="O(N*M)",
        tied=False,
    ),
    _miss(
        "scores_that_couple_a_factor",
        PLAIN + ", w[N, M]",
        "sequence N, M",
        "return (softmax[M](q @ k^T) * w) @ v",
        order="O(N*M)",
        written="O(N*M)",
        tied=False,
    ),
)

LOCAL = (
    _miss(
        "band_of_real_width",
        PLAIN,
        "where M = N",
        "const W = 2.5",
        "return softmax[M](q @ k^T, mask=abs(pos(N) - pos(M)) <= W) @ v",
        order="O(N^2)",
        ops=("fused_attention",),
    ),
    _miss(
        "windows_of_different_widths",
        PLAIN,
        "where M = N",
        "return softmax[M](q @ k^T, mask=pos(N) // 4 == pos(M) // 2) @ v",
        order="O(N^2)",
        ops=("fused_attention",),
    ),
    _miss(
        "windows_that_differ",
        PLAIN,
        "where M = N",
        "return softmax[M](q @ k^T, mask=pos(N) // 4 != pos(M) // 4) @ v",
        order="O(N^2)",
        ops=("fused_attention",),
    ),
)

TRANSFORMS = (
    _miss(
        "lag_with_a_width_of_the_query",
        "width[N, A], k[M, D], v[M, E]",
        "where M = N",
        "w = sum[A](width^2) + 1",
        "return exp(-(pos(N) - pos(M))^2 / (2 * w)) @ (v * sum[D](k))",
        order="O(N^2)",
        sizes=(("A", 2),),
    ),
    _miss(
        "sum_of_positions",
        PLAIN,
        "where M = N",
        "return ((q @ k^T) * tanh((pos(N) + pos(M)) / N)) @ v",
        order="O(N^2)",
    ),
)

MISSES = (*MASKS, *POLYNOMIALS, *DECAYS, *SOFTMAXES, *LOCAL, *TRANSFORMS)
