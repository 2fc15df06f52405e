"""One mechanism in many spellings, each of which must come out in the same order by the same rule."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN = "q[N, D], k[M, D], v[M, E]"
PHI = "phi(x) = elu(x) + 1"
LAG = "lag = pos(N) - pos(M)"
TIED = ("sequence N, M", "where M = N")

AT_OR_BEFORE = (
    "lag >= 0", "pos(N) >= pos(M)", "pos(M) <= pos(N)", "not (pos(M) > pos(N))", "not (lag < 0)", "lag > -1",
    "pos(M) - pos(N) < 1", "pos(N) + 1 > pos(M)", "2 * lag >= 0", "not (not (lag >= 0))", "lag >= 0 and lag > -3",
    "lag > -2 and lag != -1", "not (lag < -1 or lag == -1)",
)  # fmt: skip
BEFORE = ("lag > 0", "pos(M) < pos(N)", "lag >= 1", "not (pos(M) >= pos(N))", "not (lag <= 0)", "2 * lag > 1",
          "lag >= 0 and lag != 0", "pos(N) != pos(M) and pos(M) <= pos(N)", "not (lag < 0 or pos(M) == pos(N))")


@dataclass(frozen=True)
class Mechanism:
    """lines: what all spellings have in common; spellings: the lines that differ, the last one the result.

    rule: what a step of the plan is called; order: of the plan. heads: whether every input may have an axis H in front.
    """

    name: str
    inputs: str
    lines: tuple[str, ...]
    spellings: tuple[tuple[str, ...], ...]
    rule: str
    order: str = "O(N)"
    result: str = "[N, E]"
    heads: bool = True


def _each(*spellings: str) -> tuple[tuple[str, ...], ...]:
    return tuple((spelling,) for spelling in spellings)


MECHANISMS = (
    Mechanism(
        "normalised linear attention", PLAIN, ("sequence N, M", PHI, "a = phi(q) @ phi(k)^T"),
        (
            *_each(
                "(a / sum[M](a)) @ v", "(a @ v) / sum[M](a)", "a @ v * (1 / sum[M](a))", "sum[M](a * v) / sum[M](a)",
                "sum[M](a * v / sum[M](a))", "l1_normalize[M](a) @ v", "exp(log(a) - log(sum[M](a))) @ v",
                "mean[M](a * v) / mean[M](a)", "(relu(a) / max(sum[M](abs(a)), 1e-6)) @ v", "(a * sum[M](a)^(-1)) @ v",
            ),
            ("b = sum[D](phi(q) * phi(k))", "sum[M](b * v) / sum[M](b)"),
            ("z = 1 / (sum[M](a) + 1e-6)", "z * (a @ v)"),
        ),
        "contraction order", "O(N + M)",
    ),
    Mechanism(
        "causal linear attention", PLAIN, (*TIED, LAG, PHI, "a = phi(q) @ phi(k)^T"),
        (
            *((f"b = where({mask}, a, 0)", "sum[M](b * v) / sum[M](b)") for mask in AT_OR_BEFORE),
            *((f"b = a * where({mask}, 1, 0)", "sum[M](b * v) / sum[M](b)") for mask in AT_OR_BEFORE),
            *((f"b = a * ({mask})", "(b @ v) / sum[M](b)") for mask in AT_OR_BEFORE),
            *((f"b = where(not ({mask}), 0, a)", "sum[M](b / sum[M](b) * v)") for mask in AT_OR_BEFORE),
            ("b = exp(where(lag >= 0, log(a), -inf))", "(b @ v) / sum[M](b)"),
            ("b = where(lag >= 0, a, 0)", "l1_normalize[M](b) @ v"),
        ),
        "causal scan",
    ),
    Mechanism(
        "causal softmax attention", PLAIN, (*TIED, LAG, "s = q @ k^T / sqrt(D)", "z = where(lag >= 0, s, -inf)"),
        (
            *_each(
                "sum[M](softmax[M](z) * v)", "sum[M](exp(log_softmax[M](z)) * v)",
                "sum[M](exp(z - logsumexp[M](z)) * v)", "sum[M](softmax[M](where(lag < 0, -inf, s)) * v)",
                "sum[M](softmax[M](s + where(lag >= 0, 0, -inf)) * v)", "sum[M](softmax[M](z - max[M](z)) * v)",
                "sum[M](softmax[M](s + where(lag < 0, -inf, 0)) * v)", "sum[M](softmax[M](s, mask=lag >= 0) * v)",
            ),
            ("e = exp(z)", "sum[M](e / sum[M](e) * v)"),
            ("e = where(lag < 0, 0, exp(s))", "sum[M](e / sum[M](e) * v)"),
            ("e = exp(z - max[M](z))", "sum[M](e / sum[M](e) * v)"),
            ("e = exp(z - max[M](z))", "sum[M](e * v) / sum[M](e)"),
            ("e = where(lag >= 0, exp(s), 0)", "sum[M](e * v) / sum[M](e)"),
            ("e = where(lag >= 0, exp(s - max[M](z)), 0)", "sum[M](e * v) / sum[M](e)"),
        ),
        "fused softmax", "O(N^2)",
    ),
    Mechanism(
        "causal softmax attention beside a sink", PLAIN + ", b[N]",
        (*TIED, LAG, "s = q @ k^T / sqrt(D)", "z = where(lag >= 0, s, -inf)"),
        (
            *_each(
                "sum[M](softmax[M](z, sink=b) * v)", "sum[M](softmax[M](s, mask=lag >= 0, sink=b) * v)",
                "sum[M](softmax[M](z) * v) * sigmoid(logsumexp[M](z) - b)",
            ),
            ("e = exp(z)", "sum[M](e / (exp(b) + sum[M](e)) * v)"),
            ("e = exp(z)", "sum[M](e * v) / (sum[M](e) + exp(b))"),
            ("e = where(lag >= 0, exp(s), 0)", "sum[M](e / (exp(b) + sum[M](e)) * v)"),
            ("t = max(max[M](z), b)", "e = exp(z - t)", "sum[M](e / (exp(b - t) + sum[M](e)) * v)"),
            ("t = max(b, max[M](z))", "e = exp(z - t)", "sum[M](e * v) / (sum[M](e) + exp(b - t))"),
            ("t = max[M](z)", "e = exp(z - t)", "sum[M](e / (sum[M](e) + exp(b - t)) * v)"),
            ("t = max(max[M](z), b)", "e = where(lag >= 0, exp(s - t), 0)", "sum[M](e / (sum[M](e) + exp(b - t)) * v)"),
            ("e = where(lag >= 0, exp(s), 0)", "sum[M](e * v) / (exp(b) + sum[M](e))"),
            ("e = where(lag >= 0, exp(s), 0)", "sum[M](e * v) / (1 + sum[M](e))"),
            ("e = where(lag >= 0, exp(s), 0)", "sum[M](e / (1 + sum[M](e)) * v)"),
        ),
        "fused softmax", "O(N^2)",
    ),
    Mechanism(
        "earlier positions only", PLAIN, (*TIED, LAG, "a = q @ k^T"),
        tuple((f"b = where({mask}, a, 0)", "sum[M](b * v)") for mask in BEFORE),
        "causal scan",
    ),
    Mechanism(
        "retention", PLAIN, (*TIED, "const base = 0.9", LAG, "gamma = base"),
        _each(
            *(
                spelling.replace("DECAY", decay)
                for decay in (
                    "gamma^lag", "gamma^(pos(N) - pos(M))", "exp(lag * log(gamma))",
                    "exp(-(pos(M) - pos(N)) * log(gamma))", "2^(lag * log(gamma) / log(2))",
                )
                for spelling in (
                    "((q @ k^T) * where(lag >= 0, DECAY, 0)) @ v", "where(lag >= 0, (q @ k^T) * DECAY, 0) @ v",
                    "((q @ k^T) * DECAY * where(lag >= 0, 1, 0)) @ v",
                )
            ),
            "((q @ k^T) * exp(where(lag >= 0, lag * log(gamma), -inf))) @ v",
            "((q @ k^T) * gamma^lag * (lag >= 0)) @ v", "((q @ k^T) * gamma^abs(lag) * where(lag >= 0, 1, 0)) @ v",
            "where(lag >= 0, (q @ k^T) * gamma^max(lag, 0), 0) @ v",
        ),
        "causal scan",
    ),
    Mechanism(
        "lightning attention", "q[H, N, D], k[H, M, D], v[H, M, E], slope[H]", (*TIED, LAG),
        _each(
            "((q @ k^T) * where(lag >= 0, exp(-slope * lag), 0)) @ v",
            "((q @ k^T) * exp(where(lag >= 0, -slope * lag, -inf))) @ v",
            "where(lag < 0, 0, (q @ k^T) * exp(slope * (pos(M) - pos(N)))) @ v",
        ),
        "causal scan", result="[H, N, E]", heads=False,
    ),
    Mechanism(
        "gated decay", PLAIN + ", g[N]", (*TIED, LAG, "c = cumsum[N](logsigmoid(g))", "d = c - c[N -> M]"),
        _each(
            "where(lag >= 0, (q @ k^T) * exp(d), 0) @ v", "((q @ k^T) * where(lag >= 0, exp(d), 0)) @ v",
            "((q @ k^T) * exp(d) * where(lag >= 0, 1, 0)) @ v", "((q @ k^T) * exp(where(lag >= 0, d, -inf))) @ v",
            "sum[M](where(not (lag >= 0), 0, exp(d)) * sum[D](q * k) * v)",
        ),
        "causal scan",
    ),
    Mechanism(
        "gated decay of weighted keys", PLAIN + ", g[N], i[M]",
        (*TIED, LAG, "c = cumsum[N](logsigmoid(g))", "d = c - c[N -> M]", "a = q @ k^T"),
        _each(
            "where(lag >= 0, a * exp(d + i), 0) @ v", "(a * exp(where(lag >= 0, i + c - c[N -> M], -inf))) @ v",
            "(a * exp(where(lag >= 0, i - (c[N -> M] - c), -inf))) @ v", "where(lag >= 0, a * exp(d) * exp(i), 0) @ v",
            "where(lag >= 0, a * exp(c + (i - c[N -> M])), 0) @ v",
        ),
        "causal scan",
    ),
    Mechanism(
        "selective state space", "u[N, F], delta[N, F], b[N, S], c[N, S]",
        (*TIED, LAG, "param a[F, S]", "t = cumsum[N](delta)", "d = a * (t - t[N -> M])", "x = (delta * u)[N -> M]"),
        _each(
            "sum[M, S](where(lag >= 0, c * exp(d) * b[N -> M] * x, 0))",
            "sum[M](where(lag >= 0, sum[S](c * exp(d) * b[N -> M]), 0) * x)",
            "sum[M, S](c * where(lag >= 0, exp(d), 0) * b[N -> M] * x)",
            "sum[M, S](c * exp(where(lag >= 0, d, -inf)) * b[N -> M] * x)",
        ),
        "element-wise scan", result="[N, F]",
    ),
    Mechanism(
        "kernel integral", PLAIN + ", w[M]", ("sequence N, M",),
        _each("((q @ k^T) * w) @ v", "sum[M]((q @ k^T) * w * v)", "(q @ layer_norm[D](k)^T) @ layer_norm[E](v) / M"),
        "contraction order", "O(N + M)",
    ),
    Mechanism(
        "powers of scores", PLAIN, ("sequence N, M", "s = q @ k^T / sqrt(D)"),
        (
            *_each("s^2 @ v", "square(s) @ v", "(s * s) @ v", "(s^2 @ v) / sum[M](s^2)"),
            *_each("abs(s)^2 @ v", "square(-abs(s) / 2) @ v"),
            ("a = 1 + s + s^2 / 2", "(a / sum[M](a)) @ v"),
            ("a = (1 + s)^2", "(a / sum[M](a)) @ v"),
        ),
        "polynomial sum", "O(N + M)",
    ),
    Mechanism(
        "squared distances", PLAIN, ("sequence N, M", "d = q - k"),
        (
            *_each(
                "sum[D](d * d) @ v", "sum[D](d^2) @ v", "sum[M](sum[D](square(k - q)) * v)",
                "sum[M](sum[D]((-d)^2) * v)",
            ),
            ("a = 1 + sum[D]((q - k)^2) / D", "(a @ v) / sum[M](a)"),
        ),
        "contraction order", "O(N + M)",
    ),
    Mechanism(
        "causal Taylor polynomial", PLAIN, (*TIED, LAG, "s = q @ k^T / sqrt(D)"),
        (
            ("a = where(lag >= 0, 1 + s + s^2 / 2, 0)", "(a / sum[M](a)) @ v"),
            ("a = (1 + s + square(s) / 2) * where(lag >= 0, 1, 0)", "(a @ v) / sum[M](a)"),
        ),
        "polynomial scan",
    ),
    Mechanism(
        "counts of earlier positions", PLAIN, (*TIED, LAG),
        (
            ("a = where(lag >= 0, 1, 0)", "sum[M](a * v) / sum[M](a)"),
            ("a = where(lag < 0, 0, 1)", "sum[M](a / sum[M](a) * v)"),
        ),
        "running sum",
    ),
    Mechanism(
        "cosFormer", PLAIN, ("sequence N, M", "t = pi / 2 / max(N, M)", "r = relu(q) @ relu(k)^T"),
        (
            ("a = r * cos(t * (pos(N) - pos(M)))", "(a @ v) / max(sum[M](a), 1e-6)"),
            ("a = r * cos(t * abs(pos(M) - pos(N)))", "(a / max(sum[M](a), 1e-6)) @ v"),
            ("a = r * cos(-abs(t * (pos(M) - pos(N))))", "(a / max(sum[M](a), 1e-6)) @ v"),
            ("a = r * sin(pi / 2 - t * (pos(N) - pos(M)))", "(a / max(sum[M](a), 1e-6)) @ v"),
            ("a = r * cos(1 - (2 - t * pos(N)) + (1 - t * pos(M)))", "(a / max(sum[M](a), 1e-6)) @ v"),
            ("a = r * cos(t * pos(N) - t * pos(M))", "(a / max(sum[M](a), 1e-6)) @ v"),
            ("a = r * (cos(t * pos(N)) * cos(t * pos(M)) + sin(t * pos(N)) * sin(t * pos(M)))",
             "(a / max(sum[M](a), 1e-6)) @ v"),
        ),
        "contraction order", "O(N + M)",
    ),
    Mechanism(
        "causal cosFormer", PLAIN, (*TIED, LAG, "t = pi / 2 / N", "r = relu(q) @ relu(k)^T"),
        (
            ("a = where(lag >= 0, r * cos(t * lag), 0)", "(a @ v) / max(sum[M](a), 1e-6)"),
            ("a = r * where(not (lag < 0), cos(t * lag), 0)", "(a / max(sum[M](a), 1e-6)) @ v"),
        ),
        "causal scan",
    ),
    Mechanism(
        "scores of keys", "k[M, D], v[M, E]", ("sequence M, N", "where N = M", "param u[D]", "t = sum[D](u * k)"),
        (
            *_each(
                "sum[M](softmax[M](t, mask=pos(N) >= pos(M)) * v)",
                "sum[M](softmax[M](where(pos(M) <= pos(N), t, -inf)) * v)",
                "sum[M](softmax[M](where(pos(M) > pos(N), -inf, t)) * v)",
                "sum[M](softmax[M](t, mask=not (pos(M) > pos(N))) * v)",
            ),
        ),
        "prefix softmax", "O(M)",
    ),
    Mechanism(
        "scores of queries plus scores of keys", PLAIN, (*TIED, LAG, "t = sum[D](k * k)", "r = sum[D](q * q)"),
        _each(
            "sum[M](softmax[M](r + t, mask=lag >= 0) * v)", "sum[M](softmax[M](where(lag >= 0, r + t, -inf)) * v)",
            "sum[M](softmax[M](t - r, mask=lag >= 0) * v)",
        ),
        "prefix softmax",
    ),
    Mechanism(
        "agents", PLAIN + ", agents[A, D]",
        ("sequence N, M", "x = softmax[A](q @ agents^T / sqrt(D))", "y = softmax[M](agents @ k^T / sqrt(D))"),
        _each("(x @ y) @ v", "x @ y @ v", "sum[M](sum[A](x * y) * v)"),
        "contraction order", "O(N + M)",
    ),
    Mechanism(
        "prefix sums of flows", PLAIN,
        (*TIED, LAG, "a = sigmoid(q)", "b = sigmoid(k)", "keep = where(lag >= 0, 1, 0)",
         "i = sum[D](a * sum[M](keep * b))"),
        _each(
            "sum[M](keep * (a @ b^T) / i * v)", "sum[M](where(lag >= 0, (a @ b^T) / i, 0) * v)",
            "((a @ b^T) * keep) @ v / i",
        ),
        "causal scan",
    ),
    Mechanism(
        "sliding window", PLAIN, (*TIED, "const W = 16", LAG, "s = q @ k^T / sqrt(D)"),
        tuple(
            (spelling,)
            for mask in (
                "abs(lag) <= W", "lag <= W and lag >= -W", "not (abs(lag) > W)", "not (lag > W or lag < -W)",
                "abs(pos(M) - pos(N)) < W + 1", "pos(M) >= pos(N) - W and pos(M) <= pos(N) + W", "lag >= 0 and lag < W",
                "max(lag, -lag) <= W", "-W <= min(lag, -lag)",
            )
            for spelling in (
                f"sum[M](softmax[M](where({mask}, s, -inf)) * v)", f"sum[M](softmax[M](s, mask={mask}) * v)",
                f"sum[M](where({mask}, s, 0) * v)", f"sum[M](sigmoid(s) * where({mask}, 1, 0) * v)",
            )
        ),
        "band",
    ),
    Mechanism(
        "dilated window", PLAIN, (*TIED, "const W = 16, r = 4", LAG, "s = q @ k^T / sqrt(D)"),
        tuple(
            (f"sum[M](softmax[M](s, mask={mask}) * v)",)
            for mask in (
                "abs(lag) <= W * r and lag % r == 0", "lag % r == 0 and lag >= 0 and lag <= W",
                "abs(lag) <= W and pos(N) % r == pos(M) % r", "abs(lag) < r * W and 0 == lag % r",
            )
        ),
        "dilated band",
    ),
    Mechanism(
        "windows", PLAIN, (*TIED, "const W = 16", LAG, "s = q @ k^T / sqrt(D)"),
        tuple(
            (spelling,)
            for mask in (
                "pos(N) // W == pos(M) // W", "pos(M) // W == pos(N) // W", "floor(pos(N) / W) == floor(pos(M) / W)",
                "not (pos(N) // W != pos(M) // W)", "pos(N) // W - pos(M) // W == 0",
                "pos(N) - pos(N) % W == pos(M) - pos(M) % W", "W * (pos(N) // W) == W * (pos(M) // W)",
                "pos(N) // W == pos(M) // W and lag >= 0", "(pos(N) + 4) // W == (pos(M) + 4) // W",
            )
            for spelling in (
                f"sum[M](softmax[M](where({mask}, s, -inf)) * v)", f"sum[M](where({mask}, s, 0) * v)",
            )
        ),
        "windows",
    ),
    Mechanism(
        "relative positions", PLAIN, (*TIED, "where L = 2 * N - 1", "param t[L]", "a = exp(q) @ exp(k)^T"),
        (
            ("b = a * exp(take[L](t, pos(N) - pos(M) + N - 1))", "sum[M](b * v) / sum[M](b)"),
            ("b = a * take[L](exp(t), M - 1 + pos(N) - pos(M))", "sum[M](b / sum[M](b) * v)"),
        ),
        "Fourier transform", "O(N*log(N))",
    ),
    Mechanism(
        "circular convolution", "y[N, C], w[N, C]", ("sequence N", "where M = N", "h = silu(w)"),
        _each(
            "sum[M](take[N](h, (pos(N) - pos(M)) % N) * y[N -> M])",
            "sum[M](y[N -> M] * take[N](h, (N + pos(N) - pos(M)) % N))",
        ),
        "Fourier transform", "O(N*log(N))", result="[N, C]",
    ),
)  # fmt: skip
