"""Recurrences of every kind that a scan can say, and what each is there for."""

from __future__ import annotations

FORMULAS: dict[str, str] = {
    # one matrix, read before and after its update
    "delta": """
attention delta(q[N, D], k[N, D], v[N, E], beta[N]) -> [N, E]:
    require linear, causal, state O(D * E)
    scan N:
        state S[D, E] = 0
        before = k @ S
        S = S + beta * k * (v - before)
        yield y = q @ S - before
    return y
""",
    # two states that exchange their values; the axis is not the first of what is sliced; a value of each step
    "exchange": """
attention exchange(x[D, N], g[N, D]) -> [N, D], [D]:
    scan N:
        state a[D] = 0, b[D] = 1
        old = a
        a = b * g + x
        b = old - a / 2
        yield y = a * b
    return y, a + 2 * b
""",
    # what a step makes of no state has the batch of all the same
    "last": """
attention last(x[N, D], h[D], g[N]) -> [N, D], [D]:
    scan N:
        state before[D] = h
        yield y = before * g
        before = x
    return y, before
""",
    # counters, masks, positions: kinds other than real
    "visits": """
attention visits(s[N, M]) -> [N, M], [M] int:
    scan N:
        state free[M] bool = pos(M) >= 0
        state count[M] int = 0
        p = softmax[M](s - pos(N) * 0.01 * count, mask=free)
        best = argmax[M](p)
        free = pos(N) % 3 == 2 or free and pos(M) != best
        count = count + where(pos(M) == best, 1, 0)
        yield p_n = p
    return p_n, count
""",
    # a number of steps that a constant fixes; the state has sequence axes of its own
    "relax": """
attention relax(q[N, D], k[M, D]) -> [N, D]:
    where S = steps
    const steps = 4
    scan S:
        state x[N, D] = q
        x = x + softmax[M](x @ k^T / (1 + pos(S))) @ k / sqrt(D)
    return x
""",
    # one recurrence inside another, over the parts of one axis
    "nested": """
attention nested(x[N, D], g[N]) -> [N, D]:
    where N = G * I, I = 2
    xs = split[N -> G, I](x)
    gs = split[N -> G, I](g)
    scan G:
        state total[D] = 0
        start = tanh(total)
        scan I:
            state inner[D] = start
            inner = gs * inner + xs
            yield y = inner + pos(I) - pos(G)
        total = total + inner / 2
        yield z = y
    return merge[G, I -> N](z)
""",
    # local functions and other formulas read entries inside a scan, and whole values outside
    "calls": """
attention calls(x[N, D], w[D]) -> [N, D]:
    gate(v) = sigmoid(v * w + x)
    outside = gate(x)
    scan N:
        state s[D] = w
        s = gate(s) * s + outside
        yield y = momentum(s, w)
    return y

attention momentum(y0[D], g[D]) -> [D]:
    where R = 2
    scan R:
        state m[D] = 0
        m = m / 2 + y0 * g
    return m
""",
    # a causal map inside a step, over a renamed copy of the scanned axis
    "looking_back": """
attention looking_back(q[N, D], k[N, D], v[N, D]) -> [N, D]:
    keys = k[N -> M]
    values = v[N -> M]
    seen = pos(N) >= pos(M)
    require causal
    scan N:
        state s[D] = 0
        s = softmax[M](keys @ (q + s), mask=seen) @ values
        yield y = s
    return y
""",
    # no state: a map over positions, one after the other
    "stateless": """
attention stateless(x[N, D], y[M, D]) -> [N, M]:
    scan N:
        yield z = max[D](abs(x - y))
    return z
""",
}
SIZES = (
    {"N": 2, "M": 1, "D": 1, "E": 1},
    {"N": 14, "M": 5, "D": 3, "E": 7},
    {"N": 4, "M": 4, "D": 4, "E": 4},
)
