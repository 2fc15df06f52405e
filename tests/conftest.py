"""Settings that every test shares: hypothesis profiles, seeds, golden files."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"

# dev: new examples on every run, and the line that reproduces a failure.
settings.register_profile("dev", deadline=None, print_blob=True)
# ci: the same examples on every run, so that a red build is red again; too slow is a matter of the machine.
settings.register_profile(
    "ci", deadline=None, print_blob=True, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def _profile() -> str:
    return os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")


settings.load_profile(_profile())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="the seed of random, numpy and torch in every test")
    parser.addoption("--update-golden", action="store_true", help="rewrite the files of tests/golden")


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('--seed')}; hypothesis profile: {_profile()}"


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> int:
    """Every test starts from the same random state, whatever ran before it. Returns the seed."""
    number = int(request.config.getoption("--seed"))
    random.seed(number)
    # Only where they are loaded already: a test of the text layer should not wait for torch.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(number)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(number)
    return number


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` holds text to the file tests/golden/<name>; `--update-golden` rewrites the file."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path} is missing; `pytest --update-golden` writes it"
        assert text == path.read_text(encoding="utf-8"), f"{path} differs; `pytest --update-golden` rewrites it"

    return compare
