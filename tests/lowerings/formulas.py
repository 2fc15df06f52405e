"""Formulas in the quadratic form of their papers, each with the algorithm that the compiler must find."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN = "q[N, D], k[M, D], v[M, E]"
HEADS = "q[H, N, D], k[H, M, D], v[H, M, E]"


@dataclass(frozen=True)
class Case:
    """A formula as text.

    written, order: growth of the text and of its plan in the sequence axes. ops: the operations that make the
    plan what it is, each as often as the plan has it. tied: M = N. sizes: of axes besides N, M, D, E and H.
    negative: inputs that are logarithms of gates; positive: inputs that are steps of time or rates.
    """

    name: str
    text: str
    order: str
    ops: tuple[str, ...] = ()
    written: str = "O(N^2)"
    tied: bool = True
    negative: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return self.name


def formula(name: str, inputs: str, *lines: str, result: str = "[N, E]") -> str:
    """The text of a formula."""
    return f"attention {name}({inputs}) -> {result}:\n" + "".join(f"    {line}\n" for line in lines)


# Kernels that a plan may have; everything else is contractions and elementwise work.
KERNELS = (
    "causal_scan",
    "decayed_scan",
    "gated_scan",
    "running_maximum",
    "feature_gated_scan",
    "gated_prefix",
    "polynomial_scan",
    "polynomial_sum",
    "linear_recurrence",
    "linear_states",
    "transition_scan",
    "transition_feedback",
    "causal_feedback",
    "feature_gated_feedback",
    "prefix_softmax",
    "banded_attention",
    "windowed_attention",
    "toeplitz_product",
    "fused_attention",
)

LINEAR = (
    Case(
        "linear",
        formula(
            "linear",
            PLAIN,
            "phi(x) = elu(x) + 1",
            "a = phi(q) @ phi(k)^T",
            "return (a / sum[M](a)) @ v",
        ),
        "O(N + M)",
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "galerkin",
        formula("galerkin", PLAIN, "return q @ k^T @ v / M"),
        "O(N + M)",
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "kernel_integral",
        formula(
            "kernel_integral",
            "q[N, D], k[M, D], v[M, E], w[M]",
            "sequence N, M",
            "standardised(x) = (x - mean[M](x)) / sqrt(var[M](x) + 1e-3)",
            "return ((q @ standardised(k)^T) * w) @ standardised(v)",
        ),
        "O(N + M)",
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "squared",
        formula("squared", PLAIN, "a = (q @ k^T / sqrt(D))^2 + 0.1", "return (a / sum[M](a)) @ v"),
        "O(N + M)",
        ("polynomial_sum",),
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "exponential_sum",
        formula(
            "exponential_sum",
            "a[N, D], b[M, D], v[M, E]",
            "w = exp((sum[D](a) + sum[D](b)) / 8)",
            "return (w / sum[M](w)) @ v",
        ),
        "O(M)",
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "agent",
        formula(
            "agent",
            "q[N, D], k[M, D], v[M, E], agents[A, D]",
            "sequence N, M",
            "return softmax[A](q @ agents^T) @ softmax[M](agents @ k^T) @ v",
        ),
        "O(N + M)",
        written="O(N*M)",
        tied=False,
        sizes=(("A", 3),),
    ),
    Case(
        "cosformer",
        formula(
            "cosformer",
            PLAIN,
            "a = (sigmoid(q) @ sigmoid(k)^T) * cos(pi / 2 * (pos(N) - pos(M)) / max(N, M))",
            "return (a / sum[M](a)) @ v",
        ),
        "O(N + M)",
        written="O(N*M)",
        tied=False,
    ),
)

SCANS = (
    Case(
        "causal",
        formula(
            "causal",
            HEADS,
            "where M = N",
            "phi(x) = elu(x) + 1",
            "a = where(pos(N) >= pos(M), phi(q) @ phi(k)^T, 0)",
            "return (a / sum[M](a)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("causal_scan",),
    ),
    Case(
        "strictly_causal",
        formula("strictly_causal", PLAIN, "where M = N", "return where(pos(N) > pos(M), q @ k^T, 0) @ v"),
        "O(N)",
        ("causal_scan",),
    ),
    Case(
        "two_behind",
        formula("two_behind", PLAIN, "where M = N", "return where(pos(N) >= pos(M) + 2, q @ k^T, 0) @ v"),
        "O(N)",
        ("causal_scan",),
    ),
    Case(
        "retention_over_the_sum_of_weights_or_one",
        formula(
            "bounded_retention",
            HEADS,
            "where M = N",
            "gamma = 1 - 2^(-5 - pos(H))",
            "lag = pos(N) - pos(M)",
            "w = (q @ k^T) * where(lag >= 0, gamma^lag, 0) / sqrt(D)",
            "return (w / max(abs(sum[M](w)), 1)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("decayed_scan",),
    ),
    Case(
        "causal_sum_over_a_bound_of_the_query",
        formula(
            "bounded_sum",
            PLAIN + ", least[N]",
            "where M = N",
            "sequence N",
            "w = where(pos(N) > pos(M), q @ k^T, 0)",
            "return (w / max(exp(least), abs(sum[M](w)))) @ v",
        ),
        "O(N)",
        ("causal_scan",),
    ),
    Case(
        "retention",
        formula(
            "retention",
            HEADS,
            "where M = N",
            "gamma = 1 - 2^(-5 - pos(H))",
            "lag = pos(N) - pos(M)",
            "return ((q @ k^T) * where(lag >= 0, gamma^lag, 0)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("decayed_scan",),
    ),
    Case(
        "normalised_retention",
        formula(
            "normalised_retention",
            HEADS,
            "where M = N",
            "lag = pos(N) - pos(M)",
            "a = (sigmoid(q) @ sigmoid(k)^T) * where(lag >= 0, 0.75^lag, 0)",
            "return (a / sum[M](a)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("decayed_scan",),
    ),
    Case(
        "lightning",
        formula(
            "lightning",
            HEADS + ", slope[H]",
            "where M = N",
            "sequence N",
            "lag = pos(N) - pos(M)",
            "return ((q @ k^T) * where(lag >= 0, exp(-slope * lag), 0)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("decayed_scan",),
        positive=("slope",),
    ),
    Case(
        "strict_decay",
        formula(
            "strict_decay",
            PLAIN,
            "where M = N",
            "lag = pos(N) - pos(M)",
            "return ((q @ k^T) * where(lag > 0, 0.5^lag, 0)) @ v",
        ),
        "O(N)",
        ("decayed_scan",),
    ),
    Case(
        "decay_three_behind",
        formula(
            "decay_three_behind",
            HEADS,
            "where M = N",
            "rate = 2^(-pos(H))",
            "lag = pos(N) - pos(M)",
            "a = where(lag >= 3, (sigmoid(q) @ sigmoid(k)^T) * exp(-rate * lag), 0)",
            "return (a / (sum[M](a) + 1)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("decayed_scan", "decayed_scan"),
    ),
    Case(
        "gated",
        formula(
            "gated",
            HEADS + ", g[H, N]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "return where(pos(N) >= pos(M), (q @ k^T) * exp(c - c[N -> M]), 0) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("gated_scan",),
        negative=("g",),
    ),
    Case(  # a level that is no running sum: its gates are the differences of neighbours
        "level_given",
        formula(
            "level_given",
            HEADS + ", a[H, N]",
            "where M = N",
            "sequence N",
            "return where(pos(N) >= pos(M), (q @ k^T) * exp(2 * (a - a[N -> M])), 0) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("gated_scan",),
    ),
    Case(
        "gated_with_slope",
        formula(
            "gated_with_slope",
            HEADS + ", g[H, N], s[H], w[H]",
            "where M = N",
            "sequence N",
            "c = (cumsum[N](g) + s - pos(N) / 7) / (-1 - w) - cumsum[N](g)",
            "return where(pos(N) >= pos(M), (q @ k^T) * exp(c[N -> M] - c), 0) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("gated_scan",),
        negative=("g",),
        positive=("w",),
    ),
    Case(
        "normalised_gated",
        formula(
            "normalised_gated",
            HEADS + ", g[H, N]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "a = where(pos(N) >= pos(M), (sigmoid(q) @ sigmoid(k)^T) * exp(c - c[N -> M]), 0)",
            "return (a / sum[M](a)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("gated_scan",),
        negative=("g",),
    ),
    Case(
        "input_gate",
        formula(
            "input_gate",
            HEADS + ", g[H, N], i[H, M]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "a = (q @ k^T) * exp(where(pos(N) >= pos(M), i + c - c[N -> M], -inf))",
            "return (a @ v) / max(abs(sum[M](a)), 1)",
            result="[H, N, E]",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
        negative=("g",),
    ),
    Case(
        "input_and_output_gates",
        formula(
            "input_and_output_gates",
            PLAIN + ", g[N], i[M], o[N], b[M]",
            "where M = N",
            "c = cumsum[N](g)",
            "d = o - (c[N -> M] - i) + c + 2 * b",
            "return where(pos(N) >= pos(M), (q @ k^T) * exp(d), 0) @ v",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
        negative=("g",),
    ),
    Case(
        "input_gate_of_a_decay",
        formula(
            "input_gate_of_a_decay",
            PLAIN + ", i[M]",
            "where M = N",
            "a = (q @ k^T) * exp(i - (pos(N) - pos(M)) / 10)",
            "return where(pos(N) >= pos(M), a, 0) @ v",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
    ),
    Case(
        "softmax_of_gates",
        formula(
            "softmax_of_gates",
            "v[M, E], g[N], i[M]",
            "where M = N",
            "c = cumsum[N](g)",
            "return softmax[M](where(pos(N) >= pos(M), i + c - c[N -> M], -inf)) @ v",
        ),
        "O(N)",
        ("prefix_softmax",),
        negative=("g",),
    ),
    Case(
        "gated_per_feature",
        formula(
            "gated_per_feature",
            "q[N, D], k[M, D], v[M, E], g[N, D]",
            "where M = N",
            "c = cumsum[N](g)",
            "decay = exp(c - c[N -> M])",
            "return where(pos(N) >= pos(M), sum[D](q * k * decay), 0) @ v",
        ),
        "O(N)",
        ("feature_gated_scan",),
        negative=("g",),
    ),
    Case(
        "gated_per_feature_of_heads",
        formula(
            "gated_per_feature_of_heads",
            HEADS + ", f[H, N, D]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](logsigmoid(f))",
            "return where(pos(N) > pos(M), sum[D](q * k * exp(c - c[N -> M])), 0) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("feature_gated_scan",),
    ),
    Case(  # the key has no features, the gates lack one of those of the query
        "gated_per_feature_of_two",
        formula(
            "gated_per_feature_of_two",
            "q[N, D, F], k[M, F], v[H, M, E], g[H, N, D], w[M, D]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "return sum[M, D, F](where(pos(N) >= pos(M), q * k * w * exp(c - c[N -> M]), 0) * v)",
            result="[H, N, E]",
        ),
        "O(N)",
        ("feature_gated_scan",),
        negative=("g",),
        sizes=(("F", 2),),
    ),
    Case(  # of heads that share queries and keys
        "gated_values_of_heads",
        formula(
            "gated_values_of_heads",
            "q[N, D], k[M, D], v[H, M, E], g[H, N]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "return sum[M](where(pos(N) >= pos(M), (q @ k^T) * exp(c - c[N -> M]), 0) * v)",
            result="[H, N, E]",
        ),
        "O(N)",
        ("gated_scan",),
        negative=("g",),
    ),
    Case(
        "gated_per_feature_without_keys",
        formula(
            "gated_per_feature_without_keys",
            "q[N, D], v[M, E], g[N, D]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "return sum[M, D](where(pos(N) >= pos(M), q * exp(c - c[N -> M]), 0) * v)",
        ),
        "O(N)",
        ("feature_gated_scan",),
        negative=("g",),
    ),
    Case(
        "selective_ssm",
        formula(
            "selective_ssm",
            "u[N, F], delta[N, F], b[N, S], c[N, S]",
            "where M = N",
            "param a[F, S] = -1",
            "time = cumsum[N](delta)",
            "decay = where(pos(N) >= pos(M), exp(a * (time - time[N -> M])), 0)",
            "state = sum[M](decay * b[N -> M] * (delta * u)[N -> M])",
            "return sum[S](c * state)",
            result="[N, F]",
        ),
        "O(N)",
        ("gated_prefix",),
        positive=("delta",),
        sizes=(("F", 3), ("S", 2)),
    ),
    Case(
        "causal_cosformer",
        formula(
            "causal_cosformer",
            PLAIN,
            "where M = N",
            "lag = pos(N) - pos(M)",
            "a = where(lag >= 0, (sigmoid(q) @ sigmoid(k)^T) * cos(pi / 2 * lag / max(N, M)), 0)",
            "return (a / sum[M](a)) @ v",
        ),
        "O(N)",
        ("causal_scan", "causal_scan"),
    ),
)

POLYNOMIALS = (
    Case(
        "taylor",
        formula(
            "taylor",
            PLAIN,
            "where M = N",
            "s = q @ k^T / sqrt(D)",
            "w = where(pos(N) >= pos(M), 1 + s + s^2 / 2, 0)",
            "return (w / sum[M](w)) @ v",
        ),
        "O(N)",
        ("polynomial_scan",),
    ),
    Case(
        "squared_scores",
        formula("squared_scores", PLAIN, "where M = N", "return where(pos(N) >= pos(M), (q @ k^T)^2, 0) @ v"),
        "O(N)",
        ("polynomial_scan",),
    ),
    Case(
        "cube_of_a_sum",
        formula("cube", PLAIN, "where M = N", "return where(pos(N) > pos(M), (1 + q @ k^T / D)^3, 0) @ v / N"),
        "O(N)",
        ("polynomial_scan",),
    ),
    Case(
        "far_squares",
        formula("far", PLAIN, "where M = N", "return where(pos(N) >= pos(M) + 3, 1 - (q @ k^T)^2, 0) @ v"),
        "O(N)",
        ("polynomial_scan",),
    ),
    Case(
        "learned_polynomial",
        formula(
            "learned",
            HEADS + ", a[H]",
            "where M = N",
            "param b[] = 0.5",
            "sequence N",
            "phi(x) = elu(x) + 1",
            "s = phi(q) @ phi(k)^T",
            "w = where(pos(N) >= pos(M), 0.1 + b^2 * s + a^2 * s^2, 0)",
            "return (w / sum[M](w)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("polynomial_scan",),
    ),
    Case(
        "square_over_heads",
        formula(
            "over_heads", "q[H, N, D], k[H, M, D], v[M, E]", "s = sum[H, D](q * k)", "return (s^2 + 2 * s) @ v / M"
        ),
        "O(N + M)",
        ("polynomial_sum",),
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "queries_of_shared_keys",
        formula("shared_keys", "q[H, N, D], k[M, D], v[M, E]", "return (q @ k^T)^2 @ v / M", result="[H, N, E]"),
        "O(N + M)",
        ("polynomial_sum",),
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "score_for_every_column",
        formula("columns", "q[N, D], k[M, D, E]", "sequence N, M", "return sum[M](sum[D](q * k)^2)"),
        "O(N + M)",
        ("polynomial_sum",),
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "weighted_scores",
        formula("weighted", PLAIN + ", w[D], u[N], x[M]", "s = (q * w) @ k^T", "return (u * s^3 * x) @ v"),
        "O(N + M)",
        ("polynomial_sum",),
        written="O(N*M)",
        tied=False,
    ),
)

PREFIXES = (
    Case(
        "key_only",
        formula(
            "key_only",
            "s[M], v[M, E]",
            "where N = M",
            "sequence M",
            "return softmax[M](where(pos(N) >= pos(M), s, -inf)) @ v",
        ),
        "O(M)",
        ("prefix_softmax",),
        written="O(M^2)",
    ),
    Case(
        "aaren",
        formula(
            "aaren",
            "k[H, M, D], v[H, M, E]",
            "where N = M",
            "param query[H, D]",
            "t = sum[D](query * k) / sqrt(D)",
            "return sum[M](softmax[M](t, mask=pos(N) >= pos(M)) * v)",
            result="[H, N, E]",
        ),
        "O(M)",
        ("prefix_softmax",),
        written="O(M^2)",
        sizes=(("H", 2),),
    ),
)

LEVELS = (
    # exponentials of scores of keys under a level, less the largest of them or less something else of the query
    Case(
        "mlstm",
        formula(
            "mlstm",
            HEADS + ", i[H, M], f[H, N]",
            "where M = N",
            "c = cumsum[N](logsigmoid(f))",
            "level = where(pos(N) >= pos(M), c - c[N -> M] + i, -inf)",
            "top = max[M](level)",
            "weights = (q @ k^T / sqrt(D)) * exp(level - top)",
            "return (weights / max(abs(sum[M](weights)), exp(-top))) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
    ),
    Case(
        "gates_and_weights_of_keys_over_their_sum",
        formula(
            "weighted",
            PLAIN + ", i[M], g[N]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "phi(x) = elu(x) + 1",
            "w = where(pos(N) >= pos(M), (phi(q) @ phi(k)^T) * exp(c - c[N -> M] + i), 0)",
            "return (w / sum[M](w)) @ v",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
        negative=("g",),
    ),
    Case(
        "level_less_a_shift_of_the_query",
        formula(
            "shifted",
            PLAIN + ", i[M], g[M], s[N]",
            "where M = N",
            "sequence N",
            "c = cumsum[M](g)",
            "return ((q @ k^T) * where(pos(M) > pos(N), 0, exp(i - s - c + c[M -> N]))) @ v",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
        negative=("g",),
    ),
    Case(
        "level_of_no_gates",
        formula(
            "no_gates",
            PLAIN + ", i[M]",
            "where M = N",
            "sequence N",
            "s = where(pos(N) >= pos(M), i, -inf)",
            "return ((q @ k^T) * exp(s - max[M](s))) @ v",
        ),
        "O(N)",
        ("gated_scan",),
    ),
    Case(
        "level_below_a_cummax",
        formula(
            "below_a_cummax",
            PLAIN + ", i[M]",
            "where M = N",
            "sequence N",
            "return ((q @ k^T) * where(pos(N) >= pos(M), exp(i - cummax[M](i)[M -> N]), 0)) @ v",
        ),
        "O(N)",
        ("gated_scan",),
    ),
    Case(
        "level_of_lags",
        formula(
            "of_lags",
            HEADS + ", i[H, M], slope[H]",
            "where M = N",
            "sequence N",
            "s = where(pos(N) >= pos(M), i - slope * (pos(N) - pos(M)), -inf)",
            "w = (q @ k^T) * exp(s - max[M](s))",
            "return w @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
        positive=("slope",),
    ),
    Case(
        "level_of_earlier_keys",
        formula(
            "strictly_earlier",
            PLAIN + ", i[M], g[M], s[N]",
            "where M = N",
            "sequence N",
            "c = cumsum[M](g)",
            "w = where(pos(N) > pos(M), (q @ k^T) * exp(i - s - c + c[M -> N]), 0)",
            "return (w / (abs(sum[M](w)) + 1)) @ v",
        ),
        "O(N)",
        ("running_maximum", "gated_scan", "gated_scan"),
        negative=("g",),
    ),
    Case(
        "level_of_keys_far_behind",
        formula(
            "far_behind",
            PLAIN + ", i[M], g[M], s[N]",
            "where M = N",
            "sequence N",
            "c = cumsum[M](g)",
            "return ((q @ k^T) * (pos(N) - pos(M) >= 3) * exp((i - s - c + c[M -> N]) / 2)) @ v",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
        negative=("g",),
    ),
    Case(
        "level_of_earlier_elements",
        formula(
            "earlier_elements",
            "k[M, E], v[M, E], g[N, E], s[N]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "w = exp(where(pos(N) > pos(M), c - c[N -> M] + k, -inf) - s)",
            "return sum[M](w * v)",
        ),
        "O(N)",
        ("running_maximum", "gated_scan"),
        negative=("g",),
    ),
    Case(
        "largest_of_a_key",
        formula(
            "no_mask",
            PLAIN + ", i[M], s[N]",
            "sequence N, M",
            "w = (q @ k^T) * exp(i - s)",
            "return w @ v",
        ),
        "O(N + M)",
        (),
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "level_of_every_element",
        formula(
            "of_elements",
            "k[M, E], v[M, E], g[N, E]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "s = where(pos(N) >= pos(M), c - c[N -> M] + k, -inf)",
            "w = exp(s - max[M](s))",
            "return sum[M](w * v) / sqrt(sum[M](w))",
        ),
        "O(N)",
        ("running_maximum", "gated_prefix", "gated_prefix"),
        negative=("g",),
    ),
    Case(
        "largest_so_far",
        formula(
            "largest",
            "i[H, M], g[H, N], b[N]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "return max[M](where(pos(M) > pos(N), -inf, b + 2 * (c - c[N -> M]) - i))",
            result="[H, N]",
        ),
        "O(N)",
        ("running_maximum",),
        negative=("g",),
    ),
    Case(
        "largest_of_a_sum",
        formula("of_a_sum", "a[N, D], b[M, D], u[M]", "sequence N, M", "return max[M](a - b + u)", result="[N, D]"),
        "O(N + M)",
        written="O(N*M)",
        tied=False,
    ),
)

LOCAL = (
    Case(
        "sliding",
        formula(
            "sliding",
            HEADS,
            "where M = N",
            "const W = 5",
            "lag = pos(N) - pos(M)",
            "return softmax[M](q @ k^T / sqrt(D), mask=lag >= 0 and lag <= W) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("banded_attention",),
    ),
    Case(
        "band",
        formula(
            "band",
            HEADS,
            "where M = N",
            "const W = 7",
            "return softmax[M](where(abs(pos(N) - pos(M)) < W, q @ k^T / sqrt(D), -inf)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("banded_attention",),
    ),
    Case(
        "far_band",
        formula(
            "far_band",
            PLAIN,
            "where M = N",
            "lag = pos(N) - pos(M)",
            "return softmax[M](q @ k^T, mask=lag >= 3 and lag <= 9) @ v",
        ),
        "O(N)",
        ("banded_attention",),
    ),
    Case(
        "windows",
        formula(
            "windows",
            HEADS,
            "where M = N",
            "const W = 7",
            "same = pos(N) // W == pos(M) // W",
            "return softmax[M](where(same, q @ k^T / sqrt(D), -inf)) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("windowed_attention",),
    ),
)

TRANSFORMS = (
    Case(
        "toeplitz",
        formula(
            "toeplitz",
            HEADS + ", bias[H, L]",
            "where M = N, L = 2 * N - 1",
            "sequence N, L",
            "c = exp(take[L](bias, pos(M) - pos(N) + N - 1))",
            "a = (sigmoid(q) @ sigmoid(k)^T) * c",
            "return (a / sum[M](a)) @ v",
            result="[H, N, E]",
        ),
        "O(N*log(N))",
        ("toeplitz_product", "toeplitz_product"),
    ),
    Case(
        "circular",
        formula(
            "circular",
            "y[E, N], kernel[E, N]",
            "sequence N",
            "source = y[N -> M]",
            "lag = (pos(N) - pos(M)) % N",
            "return sum[M](take[K](kernel[N -> K], lag) * source)",
            result="[E, N]",
        ),
        "O(N*log(N))",
        ("toeplitz_product",),
    ),
    Case(
        "long_convolution",
        formula(
            "long_convolution",
            "y[E, N], kernel[E, N]",
            "sequence N",
            "source = y[N -> M]",
            "lag = pos(N) - pos(M)",
            "weight = where(lag >= 0, take[K](kernel[N -> K], max(lag, 0)), 0)",
            "return sum[M](weight * source)",
            result="[E, N]",
        ),
        "O(N*log(N))",
        ("toeplitz_product",),
    ),
    Case(
        "long_convolution_of_earlier",
        formula(
            "long_convolution_of_earlier",
            "y[E, N], kernel[E, N]",
            "sequence N",
            "source = y[N -> M]",
            "lag = pos(N) - pos(M)",
            "weight = where(lag <= 0, 0, take[K](kernel[N -> K], max(lag, 0)) / (abs(lag) + 1))",
            "return sum[M](weight * source)",
            result="[E, N]",
        ),
        "O(N*log(N))",
        ("toeplitz_product",),
    ),
    Case(
        "linear_band",
        formula(
            "linear_band",
            PLAIN,
            "where M = N",
            "return where(abs(pos(N) - pos(M)) <= 3, q @ k^T, 0) @ v",
        ),
        "O(N)",
    ),
)

FUSED = (
    Case(
        "softmax",
        formula(
            "softmax",
            HEADS,
            "sequence N, M",
            "return softmax[M](q @ k^T / sqrt(D)) @ v",
            result="[H, N, E]",
        ),
        "O(N*M)",
        ("fused_attention",),
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "causal_softmax",
        formula(
            "causal_softmax",
            HEADS,
            "where M = N",
            "return softmax[M](q @ k^T / 3, mask=pos(N) >= pos(M)) @ v",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
    ),
    Case(
        "biased_softmax",
        formula(
            "biased_softmax",
            HEADS,
            "where M = N",
            "slope = 2^(-pos(H) - 1)",
            "s = q @ k^T / sqrt(D) - slope * abs(pos(N) - pos(M))",
            "return softmax[M](where(pos(N) >= pos(M), s, -inf)) @ v",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
    ),
    Case(
        "scores_of_two_products",
        formula(
            "scores_of_two_products",
            HEADS + ", qr[H, N, R], kr[M, R]",
            "where M = N",
            "sequence N, M",
            "s = (q @ k^T - 2 * (qr @ kr^T)) / sqrt(D + R)",
            "return softmax[M](s, mask=pos(N) >= pos(M)) @ v",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
        sizes=(("R", 2),),
    ),
    Case(
        "scores_of_two_products_and_a_bias",
        formula(
            "scores_of_two_products_and_a_bias",
            HEADS + ", qr[N, D], kr[H, M, D]",
            "where M = N",
            "sequence N, M",
            "s = abs(pos(N) - pos(M)) - qr @ kr^T / 3 + q @ k^T",
            "return softmax[M](s, mask=pos(N) >= pos(M)) @ v",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
    ),
    Case(
        "latents",
        formula(
            "latents",
            "q[H, N, D], qr[H, N, R], c[M, D], kr[M, R]",
            "where M = N",
            "sequence N, M",
            "param w[H, D, E] = normal(1)",
            "s = (qr @ kr^T + q @ c^T) / sqrt(D + R)",
            "return (softmax[M](s, mask=pos(N) >= pos(M)) @ c) @ w",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
        sizes=(("R", 2),),
    ),
    Case(
        "keys_that_are_values",
        formula(
            "keys_that_are_values",
            "q[N, D], x[M, D]",
            "where M = N",
            "return softmax[M](q @ x^T / sqrt(D), mask=pos(N) >= pos(M)) @ x",
            result="[N, D]",
        ),
        "O(N^2)",
        ("fused_attention",),
    ),
    Case(
        "sink",
        formula(
            "sink",
            HEADS + ", b[H]",
            "where M = N",
            "sequence N, M",
            "e = exp(where(pos(N) >= pos(M), q @ k^T / sqrt(D), -inf))",
            "return (e / (exp(b) + sum[M](e))) @ v",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
    ),
    Case(
        "sink_of_queries_and_a_bias",
        formula(
            "sink_of_queries_and_a_bias",
            HEADS,
            "where M = N",
            "sequence N, M",
            "s = q @ k^T / 3 - 2^(-pos(H) - 1) * (pos(N) - pos(M))",
            "return softmax[M](s, mask=pos(N) >= pos(M), sink=sum[D](q)) @ v",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
    ),
    Case(
        "sink_under_a_strict_mask",
        formula(
            "sink_under_a_strict_mask",
            "q[H, N, D], k[M, D], v[M, E], b[H]",
            "where M = N",
            "sequence N, M",
            "return softmax[M](q @ k^T, mask=pos(N) > pos(M), sink=b) @ v",
            result="[H, N, E]",
        ),
        "O(N^2)",
        ("fused_attention",),
    ),
    Case(
        "off_by_one",
        formula(
            "off_by_one",
            HEADS,
            "sequence N, M",
            "e = exp(q @ k^T / sqrt(D))",
            "return (e / (1 + sum[M](e))) @ v",
            result="[H, N, E]",
        ),
        "O(N*M)",
        ("fused_attention",),
        written="O(N*M)",
        tied=False,
    ),
    Case(
        "sink_beside_a_band",
        formula(
            "sink_beside_a_band",
            HEADS + ", b[H]",
            "where M = N",
            "sequence N, M",
            "lag = pos(N) - pos(M)",
            "return softmax[M](q @ k^T, mask=lag >= 0 and lag < 5, sink=b) @ v",
            result="[H, N, E]",
        ),
        "O(N)",
        ("fused_attention",),
    ),
    Case(
        "band_of_two_products",
        formula(
            "band_of_two_products",
            "q[H, N, D], qr[H, N, R], c[M, D], kr[M, R]",
            "where M = N",
            "sequence N, M",
            "lag = pos(N) - pos(M)",
            "return softmax[M](qr @ kr^T + q @ c^T, mask=lag >= 0 and lag <= 5) @ c",
            result="[H, N, D]",
        ),
        "O(N)",
        ("banded_attention",),
        sizes=(("R", 2),),
    ),
)


def _without_heads(name: str, *lines: str, order: str = "O(N + M)") -> Case:
    return Case(name, formula(name, PLAIN, *lines), order, written="O(N*M)", tied=False)


SIGNS = (
    _without_heads(
        "normalised_by_sum",
        "phi(x) = elu(x) + 1",
        "return l1_normalize[M](phi(q) @ phi(k)^T) @ v",
    ),
    _without_heads(
        "relu_of_positive",
        "a = relu(relu(q) @ relu(k)^T)",
        "return (a / max(sum[M](a), 0.1)) @ v",
    ),
    _without_heads("abs_of_positive", "return abs(sigmoid(q) @ softmax[D](k)^T) @ v / M"),
    _without_heads("max_of_positive", "return max(square(q) @ exp(k)^T, 0) @ v / M"),
    _without_heads("max_of_two", "return max(-1, exp(q) @ exp(k)^T) @ v / M"),
    _without_heads("clamp_of_positive", "return clamp(softmax[D](q) @ softmax[M](k)^T, min=-0.5) @ v"),
    _without_heads("min_of_negative", "return min(-(sigmoid(q) @ sigmoid(k)^T), 0) @ v / M"),
    # every query sees the same average
    _without_heads("shifted_softmax", "return softmax[M](sum[D](q) + sum[D](k)) @ v", order="O(M)"),
)


def recurrence(
    name: str,
    inputs: str,
    *lines: str,
    ops: tuple[str, ...],
    result: str = "[N, E]",
    sizes: tuple[tuple[str, int], ...] = (),
) -> Case:
    """A recurrence along N that is computed without going from step to step. lines: of the block, then the result."""
    *block, last = lines
    if "scan N:" not in block:
        block = ["scan N:", *(f"    {line}" for line in block)]
    text = formula(name, inputs, "sequence N", *block, last, result=result)
    return Case(name, text, "O(N)", ops, written="O(N)", sizes=sizes)


RECURRENCES = (
    # coefficients of any sign, by position and element
    recurrence(
        "signed_gates",
        "x[N, D], g[N, D]",
        "state h[D] = 0",
        "h = tanh(g) * h + x",
        "yield y = h",
        "return y",
        ops=("linear_recurrence",),
        result="[N, D]",
    ),
    # exact zeros, by a choice; a first state that is an input; the value before the step is read too
    recurrence(
        "resets",
        "x[N, D], g[N], h0[D]",
        "state h[D] = h0",
        "before = h",
        "h = where(g > 0, 0.9 * h, 0) - x / 2",
        "yield y = sin(h) * before",
        "return y",
        ops=("linear_recurrence",),
        result="[N, D]",
    ),
    # one coefficient for all elements and positions, and another state that reads it; both states at the end
    recurrence(
        "one_feeds_the_other",
        "x[N, D], u[D]",
        "state a[D] = 1, b[D] = u",
        "b = cos(x) * b + a",
        "a = 0.5 * a + x",
        "yield y = a * b",
        "return y + a - b",
        ops=("linear_recurrence", "linear_recurrence"),
        result="[N, D]",
    ),
    # axes that only the coefficient or only the offset has
    recurrence(
        "missing_axes",
        "x[N], g[N, E], f[N]",
        "state s[E] = 0, t[E] = 1",
        "s = sin(g) * s + x",
        "t = sin(f) * t + g",
        "yield y = s * t",
        "return y",
        ops=("linear_recurrence", "linear_recurrence"),
    ),
    # two states that are updated from each other, element by element; the first values are inputs
    recurrence(
        "exchange",
        "x[N, D], g[N, D], f[N], u[D]",
        "state a[D] = u, b[D] = 0",
        "old = a",
        "a = tanh(g) * a / 2 - b / 4 + x",
        "b = 0.5 * old + sigmoid(f) * b / 2",
        "yield y = a * b",
        "return y",
        ops=("linear_states",),
        result="[N, D]",
    ),
    # a Markov chain: the state times a stochastic matrix
    recurrence(
        "chain_of_states",
        "x[N, D], A[D, K]",
        "where D = 5, K = D",
        "step = softmax[K](A)",
        "scan N:",
        "    state h[D] = 1 / D",
        "    h = 0.9 * sum[D](step * h)[K -> D] + x",
        "    yield y = h",
        "return y",
        ops=("linear_states",),
        result="[N, D]",
        sizes=(("D", 5), ("K", 5)),
    ),
    # a memory that learns with momentum and forgets: two matrices, neither of which is stored
    recurrence(
        "momentum",
        "q[N, D], k[N, D], v[N, E], e[N], f[N], t[N], W0[D, E]",
        "state S[D, E] = 0, W[D, E] = W0",
        "p = l2_normalize[D](k)",
        "S = sigmoid(e) * S - sigmoid(t) * p * (p @ W - v)",
        "W = sigmoid(f) * W + S",
        "yield y = q @ W",
        "return y",
        ops=("linear_states", "transition_feedback", "transition_scan"),
    ),
    # the delta rule with forgetting: one matrix, which a step reads and writes along one direction
    recurrence(
        "gated_delta_rule",
        "q[N, D], k[N, D], v[N, E], f[N], t[N]",
        "state W[D, E] = 0",
        "p = l2_normalize[D](k)",
        "W = sigmoid(f) * W - sigmoid(t) * p * (p @ W - v)",
        "yield y = q @ W",
        "return y",
        ops=("causal_feedback", "gated_scan"),
    ),
    # Kimi Delta Attention: every feature of a key forgets by a gate of its own before the step reads; heads
    recurrence(
        "feature_gated_delta_rule",
        "q[H, N, D], k[H, N, D], v[H, N, E], f[H, N, D], t[H, N]",
        "state W[H, D, E] = 0",
        "p = l2_normalize[D](k)",
        "kept = sigmoid(f) * W",
        "W = kept + sigmoid(t) * p * (v - p @ kept)",
        "yield y = q @ W",
        "return y",
        ops=("feature_gated_feedback", "feature_gated_scan"),
        result="[H, N, E]",
    ),
    # RWKV-7: what is taken off is read before the gates, along another direction than the values are added along
    recurrence(
        "diagonal_and_rank_one",
        "r[N, D], k[N, D], w[N, D], c[N, D], a[N, D], v[N, E], W0[D, E]",
        "state W[E, D] = W0^T",
        "p = l2_normalize[D](c)",
        "W = exp(-exp(w)) * W - (W @ p) * p * sigmoid(a) + v * k",
        "yield y = W @ r",
        "return y",
        ops=("feature_gated_scan", "feature_gated_scan", "feature_gated_feedback", "feature_gated_scan"),
    ),
    # Longhorn: what a feature keeps is 1 less a share, which no logarithm says
    recurrence(
        "kept_by_shares",
        "q[N, D], k[N, D], v[N, E], b[N]",
        "e = sigmoid(b) / (1 + sigmoid(b) * sum[D](k^2))",
        "scan N:",
        "    state S[D, E] = 0",
        "    S = (1 - e * k^2) * S + e * k * v",
        "    yield y = q @ S",
        "return y",
        ops=("feature_gated_scan",),
    ),
    # coefficients of either sign under the delta rule
    recurrence(
        "signed_features_of_the_delta_rule",
        "q[N, D], k[N, D], v[N, E], f[N, D], t[N]",
        "state W[D, E] = 0",
        "p = l2_normalize[D](k)",
        "W = tanh(f) * W - sigmoid(t) * p * (p @ W - v)",
        "yield y = q @ W",
        "return y",
        ops=("feature_gated_feedback", "feature_gated_scan"),
    ),
    # the gates after the update, which decay what the step adds too; what is read is the matrix before
    recurrence(
        "gates_after_the_update",
        "q[N, D], k[N, D], v[N, E], f[N, D], t[N]",
        "state W[D, E] = 0",
        "p = l2_normalize[D](k)",
        "yield y = q @ W",
        "W = sigmoid(f) * (W + sigmoid(t) * p * (v - p @ W))",
        "return y",
        ops=("feature_gated_feedback", "feature_gated_scan"),
    ),
    # a sum of sums that leaks into the first: no feedback; heads
    recurrence(
        "leaking_sums",
        "q[H, N, D], k[H, N, D], v[H, N, E], g[H, N]",
        "state S[H, D, E] = 0, Z[H, D, E] = 0",
        "old = S",
        "S = 0.75 * S + 0.125 * sigmoid(g) * Z + k * v",
        "Z = 0.5 * Z + 0.25 * old",
        "yield y = q @ (S - Z)",
        "return y",
        ops=("transition_scan", "transition_scan"),
        result="[H, N, E]",
    ),
    # gated linear attention: the matrix is never stored at all positions
    recurrence(
        "gated_outer_product",
        "q[N, D], k[N, D], v[N, E], g[N]",
        "state S[D, E] = 0",
        "S = sigmoid(g) * S + k * v",
        "yield y = q @ S",
        "return y",
        ops=("gated_scan",),
    ),
    # HGRN2
    recurrence(
        "keys_of_gates",
        "q[H, N, D], f[H, N, D], v[H, N, E]",
        "state S[H, D, E] = 0",
        "g = sigmoid(f)",
        "S = g * S + (1 - g) * v",
        "yield y = q @ S",
        "return y",
        ops=("feature_gated_scan",),
        result="[H, N, E]",
    ),
    # RWKV-6: what a step adds is read with a weight of its own
    recurrence(
        "bonus_of_the_step",
        "r[H, N, D], k[H, N, D], w[H, N, D], u[H, D], v[H, N, E]",
        "state S[H, D, E] = 0",
        "yield y = r @ (S + u * k * v)",
        "S = exp(-exp(w)) * S + k * v",
        "return y",
        ops=("feature_gated_scan",),
        result="[H, N, E]",
    ),
    recurrence(
        "first_state_and_gated_features",
        "q[N, D], k[N, D], w[N, D], v[N, E], S0[D, E]",
        "state S[D, E] = S0",
        "before = S",
        "S = sigmoid(w) * S + k * v",
        "yield y = q @ (S + before)",
        "return y",
        ops=("feature_gated_scan", "feature_gated_scan"),
    ),
    # retention, with the matrix before the step and a first one
    recurrence(
        "decayed_outer_product",
        "q[N, D], k[N, D], v[N, E], S0[D, E]",
        "state S[D, E] = S0",
        "before = S",
        "S = 0.9 * S + k * v",
        "yield y = q @ before",
        "return y",
        ops=("decayed_scan",),
    ),
    recurrence(
        "gated_before_the_step",
        "q[N, D], k[N, D], v[N, E], g[N]",
        "state S[D, E] = 0",
        "before = S",
        "S = exp(-softplus(g)) * S + k * v",
        "yield y = q @ before",
        "return y + q @ S",
        ops=("gated_scan",),
    ),
    # no state is left: what a step makes of its inputs alone
    recurrence(
        "previous_token",
        "x[N, D], first[D]",
        "state last[D] = first",
        "yield y = x - last",
        "last = x",
        "return y",
        ops=(),
        result="[N, D]",
    ),
)

CASES = (*LINEAR, *SIGNS, *SCANS, *RECURRENCES, *POLYNOMIALS, *PREFIXES, *LEVELS, *LOCAL, *TRANSFORMS, *FUSED)
