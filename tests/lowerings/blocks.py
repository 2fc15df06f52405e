"""Sums of which every query sees few keys, each with the rule that must find it, and near misses."""

from __future__ import annotations

from dataclasses import dataclass

from .formulas import HEADS, PLAIN, Case, formula

BAND = ("where M = N", "const W = 5", "lag = pos(N) - pos(M)")
IMAGE = "x[C, Y, X], g[C, Y, X]"
GRID = ("sequence Y, X", "const W = 3", "other = x[Y -> V][X -> U]")


@dataclass(frozen=True)
class Block:
    """rule: what the plan calls it; None: it must not be found."""

    case: Case
    rule: str | None

    def __str__(self) -> str:
        return self.case.name


def _block(name: str, rule: str | None, inputs: str, *lines: str, order: str = "O(N)", **more: object) -> Block:
    result = str(more.pop("result", "[H, N, E]" if inputs.startswith(HEADS) else "[N, E]"))
    return Block(Case(name, formula(name, inputs, *lines, result=result), order, **more), rule)  # type: ignore[arg-type]


BANDS = (
    _block("sigmoid", "band", PLAIN, *BAND, "return where(abs(lag) <= W, sigmoid(q @ k^T), 0) @ v"),
    _block("sigmoid_heads", "band", HEADS, *BAND, "return where(abs(lag) > W, 0, sigmoid(q @ k^T)) @ v"),
    _block("products", "band", PLAIN, *BAND, "return ((q @ k^T) * where(abs(lag) <= W, 1, 0)) @ v"),
    _block(
        "normalised", "band", PLAIN, *BAND,
        "a = where(not (abs(lag) > W), exp(q @ k^T), 0)",
        "return (a / sum[M](a)) @ v",
    ),
    _block(
        "minus_infinity", "band", PLAIN, *BAND,
        "a = exp(where(lag >= 0 and lag < W, q @ k^T, -inf))",
        "return (a @ v) / sum[M](a)",
    ),
    _block(
        "gate", "band", HEADS + ", g[H, N]", "where M = N", "sequence N",
        "c = cumsum[N](g)",
        "lag = pos(N) - pos(M)",
        "return where(lag >= 0 and lag <= 4, (q @ k^T) * exp(c - c[N -> M]), 0) @ v",
        negative=("g",),
    ),
    _block(
        "key_scores", "band", "s[M], v[M, E]", "where N = M", "sequence M",
        "lag = pos(N) - pos(M)",
        "return softmax[M](s, mask=lag >= 0 and lag <= 3) @ v",
        order="O(M)", written="O(M^2)",
    ),
    _block(
        "bias", "band", PLAIN, "where M = N",
        "lag = abs(pos(N) - pos(M))",
        "return softmax[M](q @ k^T - lag, mask=lag <= 3) @ v",
    ),
    _block(
        "table", "band", HEADS, "where M = N, L = 2 * W + 1", "const W = 2", "param b[H, L] = normal(1)",
        "lag = pos(N) - pos(M)",
        "a = softmax[M](q @ k^T + take[L](b, clamp(lag + W, 0, 2 * W)), mask=abs(lag) <= W)",
        "return sum[M](a * v)",
        sizes=(("L", 5),),
    ),
    _block(
        "unequal_sizes", "band", PLAIN,
        "return softmax[M](q @ k^T, mask=abs(pos(N) - pos(M)) <= 3) @ v",
        written="O(N*M)", tied=False,
    ),
    _block(
        "mask_after", "band", PLAIN, *BAND,
        "return where(lag >= 0, softmax[M](q @ k^T, mask=lag >= 0 and lag <= W), 0) @ v",
    ),
    _block("dilated", "dilated band", PLAIN, *BAND, "const r = 3",
           "return softmax[M](q @ k^T, mask=abs(lag) <= W * r and lag % r == 0) @ v"),
    _block("dilated_classes", "dilated band", HEADS, *BAND, "const r = 2",
           "a = softmax[M](where(lag >= 0 and lag < W and pos(N) % r == pos(M) % r, q @ k^T, -inf))",
           "return sum[M](a * v)"),
    _block("dilated_products", "dilated band", PLAIN, *BAND, "const r = 2",
           "return where(abs(lag) <= W and lag % r == 0, q @ k^T, 0) @ v"),
)  # fmt: skip

WINDOWS = (
    _block("products", "windows", PLAIN, *BAND, "return where(pos(N) // W == pos(M) // W, q @ k^T, 0) @ v"),
    _block("floor", "windows", PLAIN, *BAND,
           "return softmax[M](q @ k^T, mask=floor(pos(N) / W) == floor(pos(M) / W)) @ v"),
    _block("causal", "windows", HEADS, *BAND,
           "return softmax[M](where(pos(N) // W == pos(M) // W and lag >= 0, q @ k^T, -inf)) @ v"),
    _block("shifted", "windows", PLAIN, *BAND,
           "return softmax[M](where((pos(N) + 2) // W == (pos(M) + 2) // W, q @ k^T, -inf)) @ v"),
    _block("unequal_sizes", "windows", PLAIN, "const W = 5",
           "return softmax[M](where(pos(N) // W == pos(M) // W, q @ k^T, -inf)) @ v",
           written="O(N*M)", tied=False),
    _block(
        "rolled", "rolled windows", HEADS, "where M = N", "const W = 4",
        "row = (pos(N) - pos(H) * (W // 2)) % N",
        "column = (pos(M) - pos(H) * (W // 2)) % N",
        "return softmax[M](q @ k^T, mask=row // W == column // W and column <= row) @ v",
    ),
    _block(
        "rolled_and_columns", "rolled windows and columns", HEADS, "where M = N", "const W = 4, first = 3",
        "row = (pos(N) - pos(H)) % N",
        "column = (pos(M) - pos(H)) % N",
        "visible = (row // W == column // W or pos(M) < first) and pos(N) >= pos(M)",
        "return softmax[M](q @ k^T, mask=visible) @ v",
    ),
    _block("first_places", "windows", PLAIN, *BAND,
           "return softmax[M](where(pos(N) - pos(N) % W != pos(M) - pos(M) % W, -inf, q @ k^T)) @ v"),
    _block("from_the_start", "band", PLAIN, *BAND,
           "return softmax[M](where(lag >= 0 and pos(M) >= W * (pos(N) // W), q @ k^T, -inf)) @ v"),
    _block("window_and_previous", "band", PLAIN, *BAND,
           "return where(pos(N) - pos(N) % W - W <= pos(M) and not (pos(M) > pos(N)), q @ k^T, 0) @ v"),
    _block("columns", "band and columns", PLAIN, *BAND,
           "return softmax[M](q @ k^T, mask=(lag >= 0 and lag < W) or (pos(M) < 2 and lag >= 0)) @ v"),
)  # fmt: skip

IMAGES = (
    _block(
        "image_windows", "windows", IMAGE, *GRID,
        "same = pos(Y) // W == pos(V) // W and pos(X) // W == pos(U) // W",
        "a = softmax[V, U](sum[C](x * other), mask=same)",
        "return sum[V, U](a * g[Y -> V][X -> U])",
        order="O(Y*X)", written="O(Y^2*X^2)", result="[C, Y, X]",
    ),
    _block(
        "image_means", "band", IMAGE, *GRID,
        "rows = where(abs(pos(Y) - pos(V)) <= W // 2, 1, 0)",
        "columns = where(abs(pos(X) - pos(U)) <= W // 2, 1, 0)",
        "return sum[V, U](rows * columns * other) / sum[V, U](rows * columns) - g",
        order="O(Y*X)", written="O(Y^2*X^2)", result="[C, Y, X]",
    ),
)  # fmt: skip

MISSES = (
    # the normaliser needs every key
    _block("softmax_of_all", None, PLAIN, *BAND, "return where(abs(lag) <= W, softmax[M](q @ k^T), 0) @ v",
           order="O(N^2)"),
    # the normaliser needs keys that the product does not
    _block("softmax_of_more", None, PLAIN, *BAND,
           "return where(abs(lag) <= 2, softmax[M](q @ k^T, mask=abs(lag) <= W), 0) @ v", order="O(N^2)"),
    _block("one_side_only", None, PLAIN, *BAND, "return where(lag <= W, sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    _block("either_side", None, PLAIN, *BAND, "return where(lag > W or lag < -W, sigmoid(q @ k^T), 0) @ v",
           order="O(N^2)"),
    _block("two_widths", None, PLAIN, *BAND,
           "return where(pos(N) // W == pos(M) // (W + 1), sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    # the first place of one window against the number of the other
    _block("place_and_number", None, PLAIN, *BAND,
           "return where(pos(N) // W * W == pos(M) // W, sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    _block("other_windows", None, PLAIN, *BAND,
           "return where(pos(N) // W != pos(M) // W, sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    _block("number_apart", None, PLAIN, *BAND,
           "return where(pos(N) // W - pos(M) // W == 1, sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    _block("up_to_the_end", None, PLAIN, *BAND,
           "return where(W * (pos(N) // W + 1) > pos(M), sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    _block("larger_of_two", None, PLAIN, *BAND,
           "return where(max(lag, -lag) >= W, sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    _block("half_the_sequence", None, PLAIN, *BAND,
           "return where(abs(2 * lag) <= N, sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
    _block("adds_outside", None, PLAIN, *BAND, "return where(abs(lag) <= W, sigmoid(q @ k^T), 0.1) @ v",
           order="O(N^2)"),
    _block("rolled_apart", None, HEADS, "where M = N", "const W = 4",
           "row = (pos(N) - pos(H)) % N",
           "column = (pos(M) - 2 * pos(H)) % N",
           "return where(row // W == column // W, sigmoid(q @ k^T), 0) @ v", order="O(N^2)"),
)  # fmt: skip

BLOCKS = (*BANDS, *WINDOWS, *IMAGES)
