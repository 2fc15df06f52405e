"""The parts of the demo that need no minute: the wiring of the vision transformer, the comparison, the pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from transformers.models.vit.modeling_vit import ViTAttention

import attngraph
from benchmarks import demo, digits, examples, pictures

NAMES = ("softmax_attention", "linear_attention")


def attention(name: str) -> Callable[[], nn.Module]:
    return partial(attngraph.compile, examples.find(name))


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    return digits.load(0)


def layers(model: nn.Module) -> list[ViTAttention]:
    return [layer for layer in model.modules() if isinstance(layer, ViTAttention)]


# -- the digits --------------------------------------------------------------------------------------------


def test_a_quarter_of_every_class_is_held_out(data: digits.Digits) -> None:
    learned, held_out = (
        torch.bincount(labels, minlength=digits.CLASSES) for labels in (data.labels, data.held_out_labels)
    )
    assert (learned + held_out).sum() == 1797
    assert ((held_out / (learned + held_out) - 0.25).abs() < 0.01).all()
    assert (data.images.min().item(), data.images.max().item()) == (-1, 1)
    assert data.images.shape[1:] == (1, digits.SIDE, digits.SIDE)


def test_the_seed_decides_what_is_held_out(data: digits.Digits) -> None:
    assert torch.equal(digits.load(0).held_out_images, data.held_out_images)
    assert not torch.equal(digits.load(1).held_out_images, data.held_out_images)


def test_shifts_move_images_whole_and_leave_some_alone() -> None:
    images = torch.full((200, 1, digits.SIDE, digits.SIDE), -1.0)
    images[:, :, 3, 4] = 1.0
    moved = digits.shifted(images, torch.Generator().manual_seed(0))
    places = (moved[:, 0] == 1).nonzero()
    assert places[:, 0].tolist() == list(range(200))
    assert {(row - 3, column - 4) for _, row, column in places.tolist()} == {
        (down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)
    }
    alone = (moved == images).flatten(1).all(1).double().mean()
    assert 0.5 < alone < 0.8


# -- the vision transformer --------------------------------------------------------------------------------


def test_the_transformer_with_our_softmax_is_the_transformer(data: digits.Digits) -> None:
    """The same weights under the attention that transformers brings along give the same scores."""
    model = digits.classifier(attention("softmax_attention"), 0).double().train(False)
    images = data.images[:16].double()
    ours = digits.logits(model, images)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    theirs = digits.logits(model, images)
    # transformers' own softmax computes in float32 whatever the model's type is.
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.equal(ours, ours.mean(0).expand_as(ours))


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_calls_our_module_and_gradients_pass_it(name: str, data: digits.Digits) -> None:
    model = digits.classifier(attention(name), 0)
    called: list[nn.Module] = []
    for layer in layers(model):
        layer.get_submodule("formula").register_forward_hook(lambda module, inputs, result: called.append(module))
    digits.logits(model, data.images[:8]).square().sum().backward()  # type: ignore[no-untyped-call]
    assert called == [layer.get_submodule("formula") for layer in layers(model)]
    assert len(called) == 2
    assert {type(module).__name__ for module in called} == {name.title().replace("_", "")}
    for layer in layers(model):
        for projection in (layer.q_proj, layer.k_proj, layer.v_proj):
            gradient = projection.weight.grad
            assert gradient is not None
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_step_lowers_the_loss(name: str, data: digits.Digits) -> None:
    model = digits.classifier(attention(name), 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels = data.images[:64], data.labels[:64]
    before = digits.step(model, optimizer, images, labels)
    after = digits.step(model, optimizer, images, labels)
    assert after < before - 0.02


def test_learning_follows_the_seed(data: digits.Digits) -> None:
    few = digits.Digits(data.images[:100], data.labels[:100], data.held_out_images[:50], data.held_out_labels[:50])

    def losses(seed: int) -> list[float]:
        model = digits.classifier(attention("linear_attention"), seed)
        return [epoch.loss for epoch in digits.learn(model, few, digits.Schedule(epochs=2), seed)]

    assert losses(0) == losses(0) != losses(1)


def test_the_caller_s_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    digits.classifier(attention("softmax_attention"), 0)
    assert torch.equal(torch.rand(1), expected)


def test_a_mask_is_refused() -> None:
    model = digits.classifier(attention("softmax_attention"), 0)
    with pytest.raises(ValueError, match="attention mask"):
        model(pixel_values=torch.zeros(1, 1, 8, 8), attention_mask=torch.zeros(1, 1, 17, 17))


# -- the steps ---------------------------------------------------------------------------------------------


def test_mistakes_are_found_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(outcome.good for outcome in demo.explain_mistakes())
    shown = capsys.readouterr().out
    assert "error[AG201 contraction-mismatch]" in shown
    assert "error[AG401 not-linear]" in shown


def test_the_module_equals_plain_pytorch(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.compile_and_compare("linear_attention", 0).good
    assert "class LinearAttention(nn.Module):" in capsys.readouterr().out


def test_another_formula_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison tells formulas apart: softmax attention is not the linear attention it is held against."""
    assert not demo.compile_and_compare("softmax_attention", 0).good


def test_not_a_number_never_passes() -> None:
    assert demo.largest_difference(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")
    assert demo.largest_difference(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0])) == 0.25


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_is_the_outcome(
    good: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "check_examples", list)
    monkeypatch.setattr(demo, "learn_digits", lambda seed: [demo.Outcome(f"digits with seed {seed}", good)])
    assert demo.main(["--output", str(tmp_path), "--seed", "7"]) == code
    summary = capsys.readouterr().out.partition("== Summary")[2]
    assert f"{'ok' if good else 'WRONG':7}digits with seed 7" in summary


@pytest.mark.parametrize("option", [("--seed", "-1"), ("--seed", str(2**32)), ("--output", __file__)])
def test_unusable_options_are_refused_at_once(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        demo.main(option)
    assert refused.value.code == 2
    assert "error: " in capsys.readouterr().err


# -- the pictures ------------------------------------------------------------------------------------------


def test_growth_is_the_polynomial_at_every_length() -> None:
    written, compiled = pictures.growth(attngraph.load(examples.find("linear_attention")).report)
    assert written.lengths == compiled.lengths == pictures.LENGTHS
    assert written.time[-1] / written.time[-2] == pytest.approx(4, rel=1e-2)
    assert compiled.time[-1] / compiled.time[-2] == pytest.approx(2, rel=1e-6)
    assert written.memory[-1] > 1000 * compiled.memory[-1]
    assert (written.memory_order, compiled.memory_order) == ("O(N*M)", "O(N + M)")


def test_a_formula_with_mistakes_has_no_growth() -> None:
    with pytest.raises(ValueError, match="softmax_attention has mistakes"):
        pictures.growth(attngraph.check(demo.WRONG_AXES))


def test_pictures_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [outcome] = demo.draw_pictures(tmp_path / "new" / "folder")
    assert outcome.good
    files = {path.name: path for path in (tmp_path / "new" / "folder").iterdir()}
    drawn = {"linear_attention_written.svg", "linear_attention_compiled.svg", "growth.svg", "growth.png"}
    assert set(files) == drawn
    for name in drawn - {"growth.png"}:
        assert ElementTree.fromstring(files[name].read_text(encoding="utf-8")).tag.endswith("svg")
    assert "[N, M]" in files["linear_attention_written.svg"].read_text(encoding="utf-8")
    assert "[N, M]" not in files["linear_attention_compiled.svg"].read_text(encoding="utf-8")
    assert files["growth.png"].read_bytes().startswith(b"\x89PNG")


def test_the_same_costs_give_the_same_file(tmp_path: Path) -> None:
    pairs = [pictures.growth(attngraph.load(examples.find(name)).report) for name in NAMES]
    texts = [pictures.draw_growth(pairs, tmp_path)[0].read_bytes() for _ in range(2)]
    assert texts[0] == texts[1]
