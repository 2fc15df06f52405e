"""The smallest formulas of mistakes that random ones have found. Each stays found."""

from __future__ import annotations

import time

import pytest

import attngraph
from attngraph.compiler.pipeline import check_source
from attngraph.grammar.source import Source

from .draft import Draft, assert_close, assert_means, read

DECAY_BY_A_NUMBER = Draft(
    """attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    where M = N
    lag = pos(N) - pos(M)
    return (where(lag >= 0, 0.9^lag, 0) * (q @ k^T)) @ v
""",
    {"N": 7, "M": 7, "D": 2, "E": 3},
)
MASK_WITH_A_BATCH_OF_ITS_OWN = Draft(
    """attention f(q[N, D], k[M, D], v[M, E], c[M] bool) -> [N, E]:
    return softmax[M](q @ k^T, mask=c) @ v
""",
    {"N": 5, "M": 3, "D": 2, "E": 3},
    {"c": (2,)},
)
BIAS_WITH_HEADS_OF_ITS_OWN = Draft(
    """attention f(q[N, D], k[M, D], v[M, E], b[H, N, M]) -> [H, N, E]:
    return softmax[M](q @ k^T + b) @ v
""",
    {"N": 5, "M": 3, "D": 2, "E": 3, "H": 2},
)
INPUT_THAT_CANCELS = Draft(
    """attention f(q[N, D], v[M, D], g[N], f[M]) -> [N, D], [N, D]:
    o = softmax[M](g + f) @ v
    return o, o + q
""",
    {"N": 5, "M": 3, "D": 2},
    {"g": (2, 2), "q": (2,)},
)
SUM_OF_WHOLE_NUMBERS = Draft(
    """attention f(q[N, D], k[M, D]) -> [N]:
    where M = N
    a = where(pos(N) >= pos(M), 1, 0) + q @ k^T
    return sum[M](a)
""",
    {"N": 4, "M": 4, "D": 2},
)
MANY_TERMS = Draft(
    """attention f(q[H, N, D], k[H, M, D], v[H, M, E], g[H, N]) -> [H, N, E]:
    where M = N
    s = (relu(q) + 0.1) @ (relu(k) + 0.1)^T
    return where(pos(N) >= pos(M), s^3 * s^3, 0) @ v + g
""",
    {"N": 4, "M": 4, "D": 2, "E": 2, "H": 2},
)
STEPS_THAT_READ_NO_REAL_NUMBER = Draft(
    """attention f(q[N, D]) -> [N, D]:
    scan N:
        state s[D] int = 2
        x = cos(s) * D
        s = (s + 1) % 7
        yield y = x
    return y
""",
    {"N": 4, "D": 3},
)
STEPS_COUNTED_BY_ONE_OF_SEVERAL_SIZES = Draft(
    """attention f(q[N, D]) -> [N]:
    scan N:
        state s[] int = 0
        x = s * D + N
        s = (s + 1) % 7
        yield y = x / N
    return y
""",
    {"N": 4, "D": 3},
)
STATE_OVER_AN_AXIS_OF_NOTHING_ELSE = Draft(
    """attention f(q[N, D]) -> [N, D]:
    param w[D, E] = normal(1)
    scan N:
        state s[E] = 0
        s = s + 1
        yield y = q + sum[E](s)
    return y
""",
    {"N": 4, "D": 3, "E": 2},
)
STATE_OVER_AN_AXIS_MADE_OF_NOTHING_ELSE = Draft(
    """attention f(q[N, D]) -> [N, D]:
    param w[D, E] = normal(1)
    x = concat[E, E -> C](w, w)
    scan N:
        state s[C] = 0
        s = s + 1
        yield y = q + sum[C](s)
    return y
""",
    {"N": 4, "D": 3, "E": 2},
)
FOUND = {name.lower(): value for name, value in list(globals().items()) if isinstance(value, Draft)}


@pytest.mark.parametrize("name", FOUND)
def test_plan_computes_the_text(name: str) -> None:
    sample = read(FOUND[name])
    written, planned = (sample.module(graph) for graph in sample.graphs.values())
    expected = sample.values(written)
    assert_means(expected, sample.reference(sample.formula.graph))
    assert_means(expected, sample.reference(sample.plan))
    assert_close(sample.values(planned), expected)
    assert_close(sample.gradients(planned), sample.gradients(written), relative=1e-8)
    assert_close(sample.values(sample.module(sample.plan, "torchscript")), expected)
    simple = read(Draft(attngraph.simplify(FOUND[name].text).text, FOUND[name].sizes, FOUND[name].batches))
    found = simple.values(simple.module(simple.plan))
    assert_close(tuple(mine.expand(theirs.shape) for mine, theirs in zip(found, expected, strict=True)), expected)


def test_a_power_of_sums_is_not_written_out() -> None:
    """Its 4096 terms took seconds, and more operations than a formula may have."""
    start = time.process_time()
    [report] = check_source(Source("<test>", MANY_TERMS.text))
    assert time.process_time() - start < 0.5
    assert report.ok
