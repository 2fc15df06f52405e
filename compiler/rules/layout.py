"""Names of axes, splitting and merging, transforms and their inverses."""

from __future__ import annotations

from .rule import Rule

LAYOUT = (
    Rule("rename back", "x[N, K]", "x[N -> M][M -> N]", "x", "the axis has its old name again", "x[N -> M][K -> N]"),
    Rule("rename twice", "x[N, K]", "x[N -> M][M -> L]", "x[N -> L]", "one rename does both", "x[N -> M][K -> L]"),
    Rule("renamed positions", "x[N]", "pos(N)[N -> M]", "pos(M)", "positions count from 0 along any axis", "x[N -> M]"),
    Rule(
        "split of a merge", "x[Y, X]", "split[N -> Y, X](merge[Y, X -> N](x))", "x", "the axes are what they were",
        near_miss="split[N -> X, Y](merge[Y, X -> N](x))",
    ),
    Rule(
        "merge of a split", "x[N, K], y[N, X]", "merge[Y, X -> N](split[N -> Y, X](x))", "x",
        "the axis is what it was", near_miss="merge[X, Y -> N](split[N -> Y, X](x))",
    ),
    Rule(
        "transform and back", "x[N]", "irfft[K -> N](rfft[N -> K](x))", "x", "the inverse transform",
        near_miss="irfft[K -> M](rfft[N -> K](x))",
    ),
    Rule(
        "complex transform and back", "z[N] complex", "ifft[K -> N](fft[N -> K](z))", "z", "the inverse transform",
        near_miss="ifft[K -> M](fft[N -> K](z))",
    ),
    Rule("conjugate twice", "z[N] complex", "conj(conj(z))", "z", "the sign changes twice", "conj(exp(z))"),
    Rule(
        "real part", "x[N], y[N]", "real(complex(x, y))", "x", "that is what it was made of", "imag(complex(x, y))",
        unread=("y",),
    ),
    Rule(
        "imaginary part", "x[N], y[N]", "imag(complex(x, y))", "y",
        "that is what it was made of", near_miss="real(complex(x, y))", unread=("x",),
    ),
)  # fmt: skip
