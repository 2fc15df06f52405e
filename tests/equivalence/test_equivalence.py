"""Equality of formulas: proofs, counterexamples, and honest doubt."""

from __future__ import annotations

import pytest
import torch

import attngraph
from attngraph.compiler.equivalence import Equivalence, Side, Verdict, equivalent
from attngraph.compiler.equivalence.identities import identity
from attngraph.compiler.equivalence.matching import Matched
from attngraph.compiler.formula import Formula
from attngraph.compiler.pipeline import check_source
from attngraph.grammar.source import Source

HEADER = "attention f(q[N, D], k[M, D], v[M, E], b[N, M]) -> [N, E]:\n"


def formula(text: str) -> Formula:
    [report] = check_source(Source("<test>", text))
    assert report.formula is not None, [d.message for d in report.diagnostics]
    return report.formula


def body(*lines: str, header: str = HEADER) -> Side:
    found = formula(header + "".join(f"    {line}\n" for line in lines))
    return Side(found, found.graph)


def compare(left: str, right: str) -> Equivalence:
    """Without the rules: what they prove, this should find by itself."""
    return equivalent(body(f"return {left}"), body(f"return {right}"), rules=False)


PROVED = [
    ("(q @ k^T) @ v", "q @ (k^T @ v)"),
    ("(b / sum[M](b)) @ v", "(b @ v) / sum[M](b)"),
    ("softmax[M](b) @ v", "(exp(b) @ v) / sum[M](exp(b))"),
    ("softmax[M](b + sum[D](q)) @ v", "softmax[M](b) @ v"),
    ("softmax[M](q @ k^T / sqrt(D)) @ v", "softmax[M]((q / D^0.5) @ k^T) @ v"),
    ("exp(sum[D](q) + sum[D](k)) @ v", "exp(sum[D](q)) * (exp(sum[D](k)) @ v)"),
    ("cos(sum[D](q) - sum[D](k)) @ v", "(cos(sum[D](q)) * cos(sum[D](k)) + sin(sum[D](q)) * sin(sum[D](k))) @ v"),
    ("(q @ k^T)^2 @ v", "sum[D, F](q * q[D -> F] * sum[M](k * k[D -> F] * v))"),
    ("where(b > 0, 1, 0) @ v", "where(0 < b, 1, 0) @ v"),
    ("where(b >= 0, 1, 0) @ v", "(1 - where(0 > b, 1, 0)) @ v"),
    ("0.1 * b @ v + 0.2 * b @ v", "0.3 * b @ v"),
    ("tanh(b) @ v", "(2 * sigmoid(2 * b) - 1) @ v"),
    ("softmax[M](b + log(exp(b) + 2)) @ v", "(exp(b) * (exp(b) + 2) / sum[M](exp(b) * (exp(b) + 2))) @ v"),
    ("softmax[M](where(pos(N) > pos(M), -inf, b)) @ v", "softmax[M](b, mask=pos(N) <= pos(M)) @ v"),
    ("exp(b - logsumexp[M](b)) @ v", "softmax[M](b) @ v"),
    ("exp(-softplus(-b)) @ v", "sigmoid(b) @ v"),
    ("exp(logaddexp(b, sum[D](q))) @ v", "(exp(b) + exp(sum[D](q))) @ v"),
    ("silu(b) @ v", "(b / (1 + exp(-b))) @ v"),
    ("var[M](b) * sum[M](v)", "(mean[M](square(b)) - square(mean[M](b))) * sum[M](v)"),
    ("relu(q @ k^T) @ v", "relu(k @ q^T)^T @ v"),
    ("max(b, sum[D](q)) @ v", "max(sum[D](q), b) @ v"),
    ("where(pos(N) >= pos(M), b, 0) @ v", "(b * where(pos(M) > pos(N), 0, 1)) @ v"),
    ("where(max[M](where(pos(N) >= pos(M), b, -inf)) == -inf, 0, sum[M](b)) * sum[M](v)", "sum[M](b) * sum[M](v)"),
    ("where(where(pos(N) > pos(M), -inf, b) != -inf, b, 0) @ v", "where(pos(N) > pos(M), 0, b) @ v"),
    ("softmax[M](b, mask=pos(N) != pos(M)) @ v", "softmax[M](b * 1, mask=not pos(N) == pos(M)) @ v"),
]
DIFFERENT = [
    ("(q @ k^T) @ v", "(q @ k^T) @ v * 1.00001"),
    ("softmax[M](b) @ v", "softmax[M](2 * b) @ v"),
    ("sqrt(square(b)) @ v", "b @ v"),
    ("relu(b) @ v", "(b * sigmoid(50 * b)) @ v"),
    ("b @ v", "(b + where(pos(N) == 1 and pos(M) == 1, 0.001, 0)) @ v"),
    ("where(b > 0, 1, 0) @ v", "where(b >= 0, 1, 0) @ v"),
    ("log(b) @ v", "log(abs(b)) @ v"),
    ("sum[D](q) * sum[M](v) / M", "sum[D](q) * sum[M](v) / D"),
    ("exp(b) @ v", "exp(b + 0.0001) @ v"),
    ("where(max[M](where(pos(N) > pos(M), b, -inf)) == -inf, 0, sum[M](b)) * sum[M](v)", "sum[M](b) * sum[M](v)"),
]
OPEN = [
    ("relu(b) @ v", "((b + abs(b)) / 2) @ v"),
    ("log(exp(b)) @ v", "b @ v"),
    ("gelu(b) @ v", "(b / 2 * (1 + erf(b / sqrt(2)))) @ v"),
    ("exp(log(exp(b) + 1) + 1e-13) @ v", "(exp(b) + 1) @ v"),
]


@pytest.mark.parametrize(("left", "right"), PROVED)
def test_proved(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.PROVED, found
    assert found.counterexample is None
    assert len(found.sizes) >= 2


@pytest.mark.parametrize(("left", "right"), PROVED)
def test_proved_by_exact_evaluation_alone(left: str, right: str) -> None:
    matched = Matched.of(body(f"return {left}"), body(f"return {right}"))
    assert not isinstance(matched, str)
    found = identity(matched, list(matched.sizes()))
    assert len(found.proved) >= 2
    assert "below 2^-" in found.confidence


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.DIFFERENT, found
    example = found.counterexample
    assert example is not None
    assert example.left != example.right
    assert {"N", "M", "D", "E"} <= example.sizes.keys()


@pytest.mark.parametrize(("left", "right"), OPEN)
def test_open(left: str, right: str) -> None:
    """Equal, but by a law of a function that evaluation takes as unknown."""
    found = compare(left, right)
    assert found.verdict is Verdict.UNKNOWN
    assert found.confidence


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_exact_evaluation_alone_proves_nothing_false(left: str, right: str) -> None:
    """Without the search for a counterexample, different formulas still are not proved equal."""
    matched = Matched.of(body(f"return {left}"), body(f"return {right}"))
    assert not isinstance(matched, str)
    assert not identity(matched, list(matched.sizes())).proved


def test_a_counterexample_can_be_repeated() -> None:
    left, right = body("return b @ v"), body("return b @ v + 0.5")
    example = equivalent(left, right).counterexample
    assert example is not None
    torch.manual_seed(example.seed)
    shapes = [[example.sizes[axis] for axis in node.axes] for node in left.formula.inputs]
    q, k, v, b = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    assert torch.isclose((b @ v)[example.position], torch.tensor(example.left, dtype=torch.float64))
    assert q.shape[1] == k.shape[1]


def test_normal_forms_prove_for_all_sizes() -> None:
    found = equivalent(body("return relu(exp(b)) @ v + 0"), body("return exp(b) @ v"))
    assert (found.verdict, found.method) == (Verdict.PROVED, "normal form")


def test_inputs_meet_by_position_where_names_differ() -> None:
    left = "attention f(q[N, D], k[M, D]) -> [N, M]:\n    return q @ k^T\n"
    right = "attention g(x[I, C], y[J, C]) -> [I, J]:\n    return sum[C](x * y)\n"
    assert attngraph.equivalent(left, right).verdict is Verdict.PROVED


def test_inputs_meet_by_name_in_another_order() -> None:
    left = "attention f(q[N, D], k[M, D]) -> [N, M]:\n    return q @ k^T\n"
    right = "attention g(k[M, D], q[N, D]) -> [N, M]:\n    return q @ k^T\n"
    assert attngraph.equivalent(left, right).verdict is Verdict.PROVED


def test_signatures_that_do_not_fit() -> None:
    left = "attention f(q[N, D]) -> [N, D]:\n    return q\n"
    more = "attention g(q[N, D], k[N, D]) -> [N, D]:\n    return q * k\n"
    other = "attention g(q[N, D] int) -> [N, D]:\n    return q * 1.0\n"
    assert "1 inputs, the other 2" in attngraph.equivalent(left, more).confidence
    assert attngraph.equivalent(left, other).verdict is Verdict.UNKNOWN


def test_parameters_meet_by_name() -> None:
    header = "attention f(q[N, D]) -> [N, E]:\n    param w[D, E], u[D, E]\n"
    left = f"{header}    return q @ w + q @ u\n"
    right = f"{header}    return q @ (u + w)\n"
    wrong = f"{header}    return q @ (u - w)\n"
    assert attngraph.equivalent(left, right).verdict is Verdict.PROVED
    assert attngraph.equivalent(left, wrong).verdict is Verdict.DIFFERENT


def test_a_parameter_that_only_one_formula_has() -> None:
    plain = "attention f(s[N, M]) -> [N, M]:\n    return softmax[M](s)\n"
    shifted = "attention f(s[N, M]) -> [N, M]:\n    param b[N] = 0\n    return softmax[M](s + b)\n"
    scaled = "attention f(s[N, M]) -> [N, M]:\n    param b[N] = 0\n    return softmax[M](s * b)\n"
    assert attngraph.equivalent(plain, shifted).verdict is Verdict.PROVED
    assert attngraph.equivalent(plain, scaled).verdict is Verdict.DIFFERENT


def test_mistakes_are_reported() -> None:
    with pytest.raises(attngraph.FormulaError):
        attngraph.equivalent("attention f(x[N]) -> [N]:\n    return z\n", "attention f(x[N]) -> [N]:\n    return x\n")


# -- repetitions, and constants that make values large --------------------------------------------------------

REPEATED = "attention f(q[N, D], k[M, D], v[M, E], x[N, D]) -> [N, D]:\n    where E = D, S = 5\n"


def repeated(step: str, after: str = "s") -> Side:
    """Five steps whose degree as one function is beyond any proof by random evaluation."""
    lines = ("scan S:", "    state s[N, D] = x", f"    s = {step}", f"return {after}")
    return body(*lines, header=REPEATED)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("softmax[M](s @ k^T) @ v[E -> D] + s", "s + (exp(s @ k^T) @ v[E -> D]) / sum[M](exp(s @ k^T))"),
        ("tanh(s * sum[M](k)) * q / (1 + s^2)", "q * tanh(sum[M](s * k)) / (s * s + 1)"),
    ],
)
def test_repetitions_are_cut_where_both_sides_agree(left: str, right: str) -> None:
    found = equivalent(repeated(left), repeated(right), rules=False)
    assert found.verdict is Verdict.PROVED, found
    matched = Matched.of(repeated(left), repeated(right, "s * 1.0000000000001"))
    assert not isinstance(matched, str)
    assert not identity(matched, list(matched.sizes())).proved


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("softmax[M](s @ k^T) @ v[E -> D] + s", "(exp(s @ k^T) @ v[E -> D]) / sum[M](exp(s @ k^T))"),
        ("tanh(s * sum[M](k)) * q / (1 + s^2)", "tanh(s * sum[M](k)) * q / (1 + s^4)"),
        ("softmax[M](s @ k^T) @ v[E -> D]", "softmax[M](s @ k^T / 1.0000000000001) @ v[E -> D]"),
        ("where(pos(S) < 4, s * q, q) / (1 + s^2)", "s * q / (1 + s^2)"),
    ],
)
def test_repetitions_that_differ_are_not_proved(left: str, right: str) -> None:
    """Also without the search for a counterexample."""
    assert equivalent(repeated(left), repeated(right), rules=False).verdict is not Verdict.PROVED
    matched = Matched.of(repeated(left), repeated(right))
    assert not isinstance(matched, str)
    assert not identity(matched, list(matched.sizes())).proved


LARGE = "attention f(x[N]) -> [N]:\n    where S = size, R = size, U = size, N = G * S\n    const size = 64\n"


#: tanh(y) = 2 sigmoid(2 y) - 1, in a sum over pairs of other elements that is taken apart
WRITTEN = "sum[R, U](y * tanh(y[S -> R]) * y[S -> U])"
SHORTER = "y * (2 * sum[S](sigmoid(2 * y)) - size) * sum[S](y)"


def in_blocks(text: str) -> Side:
    """The blocks, whose values with each other are too many to be held."""
    return body("y = split[N -> G, S](x)", f"return merge[G, S -> N]({text})", header=LARGE)


def test_a_proof_at_smaller_constants_says_so() -> None:
    pair = in_blocks(WRITTEN), in_blocks(SHORTER)
    found = equivalent(*pair, rules=False)
    assert found.verdict is Verdict.PROVED, found
    assert all(2 <= sizes["size"] <= 3 for sizes in found.sizes)
    assert "at these sizes and constants only" in found.confidence
    assert not found.everywhere


@pytest.mark.parametrize(
    "other",
    [
        f"{SHORTER} * where(size > 50, 1.001, 1)",  # equal at small constants only
        f"{SHORTER} + where(size > 50, 1e-11, 0)",
        f"{SHORTER} * where(pos(S) > size - 2, 1.001, 1)",
        f"{SHORTER} + (size - 64) * (size - 2) * y",  # equal at the default and at 2
        f"{SHORTER} * size / 64",  # at the default only
    ],
)
def test_what_holds_at_smaller_constants_only_is_not_proved(other: str) -> None:
    assert equivalent(in_blocks(WRITTEN), in_blocks(other), rules=False).verdict is not Verdict.PROVED
