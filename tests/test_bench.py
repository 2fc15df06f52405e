"""The benchmark suite at tiny sizes: values agree, a wrong result is found, files have the fields that are promised."""

from __future__ import annotations

import json
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import attngraph
from benchmarks import __main__ as bench
from benchmarks import baselines, examples, growth, measure, page, results, runner, suite
from benchmarks.measure import Clock, Stopwatch, Timing

CPU = torch.device("cpu")
TINY = runner.Settings(
    lengths=(7, 40), sizes=suite.Sizes(1, 2, 8), clock=Clock(0.0, 1, 1), compiled=False, memory=False
)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the words of one run of the command."""
    folder, printed = tmp_path_factory.mktemp("bench") / "new", StringIO()
    options = ("--only", "retention", "--lengths", "70,32", "--threads", "1", "--no-compile", "--seconds", "0.001")
    with redirect_stdout(printed):
        assert bench.main((*options, "--output", str(folder))) == 0
    return folder, printed.getvalue()


def case(name: str) -> suite.Case:
    return next(each for each in suite.CASES if each.name == name)


def rows_of(one: suite.Case, settings: runner.Settings = TINY) -> list[runner.Row]:
    found = [each for each_group in runner.run(one, settings) for each in each_group]
    assert all(isinstance(each, runner.Row) for each in found), [str(each) for each in found]
    return [each for each in found if isinstance(each, runner.Row)]


@pytest.mark.parametrize("name", [each.name for each in suite.CASES if each.decoding])
def test_decoding_takes_the_last_token_after_the_others(name: str) -> None:
    made = suite.problem(case(name), suite.Sizes(1, 2, 8).of(case(name), 67), torch.device("cpu"), torch.float64)
    expected = made.literal(*made.inputs)[..., -1:, :]
    with torch.no_grad():
        for each in suite.decoders(made):
            torch.testing.assert_close(each.call(*each.arguments), expected, rtol=1e-9, atol=1e-9)


def test_a_page_takes_the_tables_between_its_marks(tmp_path: Path, run: tuple[Path, str]) -> None:
    path, measured = tmp_path / "page.md", json.loads((run[0] / "bench.json").read_text(encoding="utf-8"))
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    page.put(path, page.markdown(measured, ["speeds"]))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "\nspeeds\n" in text
    assert "| milliseconds | N = 32 | N = 70 | spread | ratio | peak MB |" in text
    assert all(f"### retention, {mode}, 1 thread" in text for mode in ("forward", "training", "decoding"))
    path.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="has no `<!-- measured: begin -->`"):
        page.put(path, "tables")


@pytest.mark.parametrize("name", [each.name for each in suite.CASES])
@pytest.mark.parametrize("length", [1, 130])
def test_everybody_computes_the_formula(name: str, length: int) -> None:
    """In float64, so that a difference is a mistake; 130 is two windows and a rest, two chunks and a rest."""
    settings = replace(TINY, lengths=(length,), dtype=torch.float64)
    found = rows_of(case(name), settings)
    assert {row.contender for row in found} >= {suite.PRODUCT, suite.LITERAL}
    assert {row.mode for row in found} == set(runner.modes(case(name)))
    assert any(row.kind == "hand" for row in found)
    for row in found:
        assert row.kind == "yardstick" or row.difference is not None
        assert row.difference is None or row.difference <= 1e-9


def test_larger_sizes_are_measured_beside_the_others() -> None:
    """With every number of threads, in groups of their own; the text as it stands only where that is asked for."""
    points = (suite.Point("linear_attention", "forward", 50, literal=True), suite.Point("retention", "training", 60))
    settings = replace(TINY, threads=(1, 2))
    found = [each for outcome in runner.run_large(points, settings) for each in outcome]
    rows = [each for each in found if isinstance(each, runner.Row)]
    assert len(rows) == len(found)
    assert all(row.batch == suite.LARGE_SIZES.batch and row.peak is None for row in rows)
    assert {(row.formula, row.mode, row.length, row.threads) for row in rows} == {
        *(("linear_attention", "forward", 50, threads) for threads in (1, 2)),
        *(("retention", "training", 60, threads) for threads in (1, 2)),
    }
    assert {row.formula for row in rows if row.contender == suite.LITERAL} == {"linear_attention"}
    small = rows_of(case("retention"))
    judged = [each.what for each in results.verdicts([*small, *rows], [])]
    assert any("retention, training, N = 40, 1 thread" in what for what in judged)
    assert any("retention, training, B = 2, N = 60, 1 thread" in what for what in judged)
    assert not any("2 threads" in what for what in judged)


def test_every_larger_size_is_of_a_formula_of_the_suite() -> None:
    for point in suite.LARGE:
        assert point.mode in runner.modes(case(point.name))


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_loops_by_hand_do_not_depend_on_the_chunk(chunk: int) -> None:
    q, k, v = torch.randn(3, 2, 2, 23, 4, dtype=torch.float64)
    for loop in (baselines.causal_linear_loop, baselines.retention_loop, baselines.taylor_loop):
        torch.testing.assert_close(loop(q, k, v, chunk=chunk), loop(q, k, v, chunk=23), rtol=1e-10, atol=1e-10)


def wrong(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention that forgets the denominator."""
    return baselines.linear_by_matmul(q, k, v) * 1.01


def wrong_case() -> suite.Case:
    planted = suite.Baseline("planted", wrong)
    return replace(case("linear_attention"), against=(*case("linear_attention").against, planted))


def test_a_wrong_result_is_not_timed() -> None:
    outcomes = [each for found in runner.run(wrong_case(), TINY) for each in found]
    assert len(outcomes) == 4  # two lengths, forward and training
    assert all(isinstance(each, runner.Wrong) and each.contender == "planted" for each in outcomes)
    assert "`planted` differs by 9.9e-03" in str(outcomes[0]) or "`planted` differs by 1.0e-02" in str(outcomes[0])


def test_a_wrong_gradient_is_found() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient * 2

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return baselines.linear_by_matmul(Doubled.apply(q), k, v)  # type: ignore[no-untyped-call]

    planted = replace(case("linear_attention"), against=(*case("linear_attention").against, suite.Baseline("bad", run)))
    outcomes = {(o.mode, type(o)) for found in runner.run(planted, TINY) for o in found}
    assert outcomes == {("forward", runner.Row), ("training", runner.Wrong)}


def test_a_wrong_result_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "CASES", (wrong_case(),))
    options = ("--lengths", "16", "--threads", "1", "--no-compile", "--seconds", "0.001", "--output", str(tmp_path))
    assert bench.main(options) == 1
    assert "WRONG  linear_attention, forward, N = 16: `planted`" in capsys.readouterr().out
    assert json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["wrong"][0]["contender"] == "planted"


def test_the_command_writes_table_json_and_pictures(run: tuple[Path, str]) -> None:
    folder, printed = run
    assert "retention, forward, 1 thread; milliseconds" in printed
    assert "N=32" in printed
    data = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    assert data.keys() == {"format", "date", "machine", "settings", "measurements", "overheads", "wrong", "targets"}
    assert data["format"] == results.FORMAT
    assert data["settings"]["lengths"] == [32, 70]
    assert data["machine"].keys() == {"device", "cores", "torch", "python", "system"}
    fields = {
        *("formula", "mode", "length", "threads", "contender", "kind", "compiled", "note"),
        *("median_ms", "spread", "samples_ms", "ratio", "peak_bytes", "difference", "batch"),
    }
    assert all(each.keys() == fields for each in data["measurements"])
    assert {each["contender"] for each in data["measurements"]} == {
        "attngraph",
        "chunk loop",
        "literal text",
        "state by hand",
        "the whole sequence again",
    }
    assert all(each["median_ms"] > 0 for each in data["measurements"])
    assert all((each["peak_bytes"] or 0) > 0 for each in data["measurements"] if each["length"] == 70)
    assert data["overheads"][0].keys() == {"formula", "module_us", "bare_us", "overhead_us"}
    assert data["targets"][0].keys() == {"what", "value", "limit", "unit", "met"}
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "bench.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "options",
    [("--only", "nothing"), ("--lengths", "0"), ("--lengths", "x"), ("--device", "tpu"), ("--output", __file__)],
)
def test_unusable_options_are_refused_at_once(options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        bench.main(options)
    assert refused.value.code == 2
    assert "error: " in capsys.readouterr().err


# -- clocks and counters ---------------------------------------------------------------------------------------


def test_peak_counts_scratch_memory_and_what_is_freed_on_the_way() -> None:
    x = torch.randn(1000, 1000)

    def call() -> Tensor:
        big = torch.cat([x, x])  # 8 MB
        small = big.sum()
        del big
        return small + (x + 1).sum()  # 4 MB, after the 8 are free

    found = measure.peak_bytes(call, torch.device("cpu"))
    assert 8_000_000 <= found < 8_100_000


def test_ratio_is_that_of_rounds_and_spread_that_of_the_middle_half() -> None:
    slow, quick = Timing((2.0, 20.0, 4.0)), Timing((1.0, 10.0, 2.0))
    assert slow.over(quick) == 2.0
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0)).spread == pytest.approx(2 / 3)


def test_the_fastest_choice_is_taken() -> None:
    x = torch.randn(1)
    variants = {count: partial(_spin, count) for count in (20_000, 100, 40_000)}
    assert measure.fastest(variants, (x,)) == 100


def test_a_sample_is_that_of_the_stopwatch_per_call() -> None:
    """Quick calls are repeated for a sample, and the sample is the time of one."""
    clock = {"now": 0.0}
    events: list[str] = []

    class Watch(Stopwatch):
        def start(self) -> None:
            events.append("start")
            super().start()

    def call(seconds: float) -> None:
        events.append("call")
        clock["now"] += seconds

    watch = Watch(lambda: clock["now"])
    calls = [partial(call, 0.0005), partial(call, 1.0)]
    quick, slow = measure.interleaved(calls, torch.device("cpu"), Clock(0.0, 3, 3), watch)
    assert quick.samples == pytest.approx((0.0005,) * 3)
    assert slow.samples == pytest.approx((1.0,) * 3)
    assert "".join("s" if each == "start" else "." for each in events).count("s....") == 3  # 2 ms of the quick one


def test_time_on_a_gpu_is_that_between_two_marks_in_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            log.append(f"record on {stream}")

        def synchronize(self) -> None:
            log.append("wait for the mark")

        def elapsed_time(self, other: object) -> float:
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("wait for all"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the stream")
    watch = measure.stopwatch(torch.device("cuda"), Clock())
    watch.start()
    log.append("work")
    assert watch.stop() == 0.25
    assert log == ["wait for all", "record on the stream", "work", "record on the stream", "wait for the mark"]


def test_the_suite_of_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lengths, dtype and batch where nothing else is asked for."""
    taken: list[runner.Settings] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(bench, "_run", lambda chosen, points, settings, *rest: taken.append(settings) or 0)
    assert bench.main(["--device", "cuda", "--output", str(tmp_path)]) == 0
    assert bench.main(["--device", "cuda", "--dtype", "float16", "--lengths", "64", "--output", str(tmp_path)]) == 0
    first, second = taken
    assert (first.lengths, first.dtype) == ((1024, 2048, 4096, 8192, 16384, 32768), torch.bfloat16)
    assert (first.device.type, first.threads, first.sizes.batch) == ("cuda", (1,), 2)
    assert (second.lengths, second.dtype) == ((64,), torch.float16)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        bench.main(["--device", "cuda"])
    assert refused.value.code == 2
    assert f"error: there is no CUDA device here: torch {torch.__version__} " in capsys.readouterr().err


@pytest.mark.parametrize("name", [each.name for each in suite.CASES])
def test_half_precision_is_compared_with_single(name: str) -> None:
    settings = replace(TINY, dtype=torch.bfloat16, lengths=(70,), sizes=suite.Sizes(1, 2, 16))
    assert {each.contender for each in rows_of(case(name), settings)} >= {"attngraph", "literal text"}


def test_kernels_of_a_gpu_take_no_part_without_one() -> None:
    made = suite.problem(case("retention"), suite.Sizes(1, 2, 8).of(case("retention"), 9), CPU, torch.bfloat16)
    assert made.flash is None
    assert baselines.kernels_decayed(*made.inputs) is None
    assert baselines.kernels_linear(*made.inputs) is None


def test_who_does_not_fit_into_memory_is_left_out() -> None:
    def greedy(*tensors: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("too much")

    planted = suite.Baseline("greedy", greedy)
    one = case("linear_attention")
    found = rows_of(replace(one, against=(*one.against, planted)), replace(TINY, lengths=(9,)))
    assert found
    assert all(each.contender != "greedy" for each in found)


def _spin(count: int, x: Tensor) -> Tensor:
    for _ in range(count):
        pass
    return x


@pytest.mark.parametrize("bad", [torch.tensor([1.0, float("nan")]), torch.ones(3), torch.tensor([1.0, float("inf")])])
def test_a_difference_is_infinite_where_values_are_no_numbers_or_shapes_differ(bad: Tensor) -> None:
    assert measure.difference([bad], [torch.ones(2)]) == float("inf")


def test_targets_compare_like_with_like() -> None:
    def row(contender: str, kind: suite.Kind, seconds: float, compiled: bool = False, threads: int = 1) -> runner.Row:
        timing = Timing((seconds,))
        return runner.Row("f", "forward", 64, threads, contender, kind, compiled, "", timing, 1.0, 1, 0.0)

    found = [
        row("attngraph", "product", 3.0),
        row("by hand", "hand", 2.0),
        row("slower", "hand", 2.5),
        row("other function", "yardstick", 0.1),
        row("attngraph, torch.compile", "product", 1.0, True),
        row("by hand, torch.compile", "hand", 2.0, True),
        row("attngraph", "product", 9.0, threads=2),
        row("by hand", "hand", 1.0, threads=2),
    ]
    verdicts = list(results.verdicts(found, [runner.Overhead("f", 30.0, 18.0, 12.0)]))
    assert [(each.value, each.met) for each in verdicts] == [(1.5, False), (0.5, True), (12.0, False)]
    assert verdicts[0].what == "f, forward, N = 64, 1 thread: attngraph over by hand"


def test_growth_by_the_clock_has_every_field_and_marks_what_grows_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quadratic text whose plan is taken away does not fit the claim of the plan."""
    written = tmp_path / "growth.md"
    written.write_text(f"before\n{page.BEGIN}\n{page.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(growth, "LAST", 128)
    options = ("--only", "softmax_attention", "--seconds", "0.001", "--output", str(tmp_path), "--page", str(written))
    growth.main(options)  # the clock of a few calls says nothing: no exit code is expected
    data = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    assert all(len(each["sizes"]) == len(each["seconds"]) == len(each["bytes"]) == 4 for each in data["formulas"])
    assert all(each["formula"] in written.read_text(encoding="utf-8") for each in data["formulas"])
    assert "causal_softmax_attention" in capsys.readouterr().out
    (report,) = (attngraph.load(examples.find("linear_attention"), "linear_attention").report,)
    assert report.formula is not None
    literal = replace(report, plan=report.formula.graph)
    found = growth.grown(literal, Clock(0.0, 1, 1))
    assert found.memory[0] > growth.BYTES_SLACK * found.memory[1]
    assert not found.fits
