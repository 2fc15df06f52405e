"""A cache grows in its own memory where nobody else could see it, and is copied everywhere else."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.lowerings.steps import extended

State = list[Tensor]
QKV = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    where M = N\n    lag = pos(N) - pos(M)\n"
CACHE = QKV + "    return softmax[M](q @ k^T, mask=lag >= 0) @ v\n"
SIGMOID = QKV + "    return where(lag >= 0, sigmoid(q @ k^T), 0) @ v\n"
BAND = QKV + "    return softmax[M](q @ k^T, mask=lag >= 0 and lag < 5) @ v\n"
#: Caches of all positions, read by torch's attention and by plain products, and one of the last positions.
TEXTS = {"cache": CACHE, "sigmoid": SIGMOID, "band": BAND}
LENGTH = 9


def draw(count: int, *batch: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(*batch, count, size, dtype=torch.float64) for size in (3, 3, 5))


def part(inputs: tuple[Tensor, ...], start: int, stop: int) -> tuple[Tensor, ...]:
    return tuple(x[..., start:stop, :] for x in inputs)


def after(module: nn.Module, inputs: tuple[Tensor, ...], count: int = LENGTH) -> State:
    """The state behind `count` positions, taken one by one, so that the cache has room."""
    state: State = module.init_state()
    for place in range(count):
        _, state = module.step(state, *part(inputs, place, place + 1))
    return state


def end(module: nn.Module, inputs: tuple[Tensor, ...], more: tuple[Tensor, ...]) -> Tensor:
    """What the whole sequence, inputs and then more, gives at the positions of `more`."""
    whole = tuple(torch.cat(pair, -2) for pair in zip(inputs, more, strict=True))
    out: Tensor = module(*whole)
    return out[..., -more[0].size(-2) :, :]


@pytest.fixture(params=TEXTS)
def module(request: pytest.FixtureRequest) -> nn.Module:
    return attngraph.compile(TEXTS[request.param])


@pytest.mark.parametrize("count", [1, 4])
def test_branches_of_one_state_do_not_see_each_other(module: nn.Module, count: int) -> None:
    """As in a beam search that goes on from one state in several ways, each by several positions, turn by turn."""
    with torch.no_grad():
        inputs = draw(LENGTH, 2)
        state = after(module, inputs)
        held = [x.clone() for x in state]
        ways = [draw(3 * count, 2) for _ in range(3)]
        states: list[State] = [state] * len(ways)
        for turn in range(3):
            for index, way in enumerate(ways):
                piece = part(way, turn * count, (turn + 1) * count)
                out, states[index] = module.step(states[index], *piece)
                expected = end(module, inputs, part(way, 0, (turn + 1) * count))[..., -count:, :]
                torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(state, held, rtol=0.0, atol=0.0)


def test_going_back_to_an_earlier_state(module: nn.Module) -> None:
    """As after tokens that were drafted and refused: the earlier state is as it was, and goes on by itself."""
    with torch.no_grad():
        inputs, draft, kept = draw(LENGTH, 2), draw(4, 2), draw(4, 2)
        state = after(module, inputs)
        later = state
        for place in range(4):
            _, later = module.step(later, *part(draft, place, place + 1))
        out, _ = module.step(state, *kept)
        torch.testing.assert_close(out, end(module, inputs, kept), rtol=1e-10, atol=1e-10)
        more = draw(1, 2)
        out, _ = module.step(later, *more)
        both = tuple(torch.cat(pair, -2) for pair in zip(inputs, draft, strict=True))
        torch.testing.assert_close(out, end(module, both, more), rtol=1e-10, atol=1e-10)


def _saved(tensor: Tensor) -> Tensor:
    file = io.BytesIO()
    torch.save(tensor, file)
    file.seek(0)
    loaded: Tensor = torch.load(file)
    return loaded


def _same(tensor: Tensor) -> Tensor:
    return tensor


PICKED = torch.tensor([1, 1, 0])
Change = Callable[[Tensor], Tensor]
#: What a user does to the tensors of a state between two steps, and to the inputs of the samples that are left.
MADE: Mapping[str, tuple[Change, Change]] = {
    "gathered": (lambda x: x[PICKED], lambda x: x[PICKED]),
    "a slice": (lambda x: x[1:], lambda x: x[1:]),
    "every other": (lambda x: x[::2], lambda x: x[::2]),
    "one sample": (lambda x: x[1], lambda x: x[1]),
    "expanded": (lambda x: x[:1].expand(4, -1, -1), lambda x: x[:1].expand(4, -1, -1)),
    "expanded by an axis": (lambda x: x.expand(3, -1, -1, -1), lambda x: x.expand(3, -1, -1, -1)),
    "seen as another tensor": (lambda x: x.view_as(x), _same),
    "without a graph": (lambda x: x.detach(), _same),
    "copied": (copy.copy, _same),
    "copied deeply": (copy.deepcopy, _same),
    "saved": (_saved, _same),
    "moved": (lambda x: x.to("cpu", copy=True), _same),
    "in inference mode": (torch.inference_mode()(lambda x: x + 0), _same),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("first", ["it", "the other"])
def test_a_state_made_of_another(module: nn.Module, name: str, first: str) -> None:
    """Both go on with the numbers of the whole sequence, whichever goes first."""
    change, taken = MADE[name]
    with torch.no_grad():
        inputs = draw(LENGTH, 2)
        state = after(module, inputs)
        changed = [change(x) if x.dim() else x for x in state]  # without dimensions: the number of positions
        own = tuple(taken(x) for x in inputs)
        ways = [(state, inputs, draw(2, 2)), (changed, own, draw(2, *own[0].shape[:-2]))]
        for each, before, more in ways if first == "the other" else ways[::-1]:
            for place in range(2):
                out, each = module.step(each, *part(more, place, place + 1))
                expected = end(module, before, part(more, 0, place + 1))[..., -1:, :]
                torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def test_gradients_and_what_was_read_for_them(module: nn.Module) -> None:
    """With a graph a cache is copied; one that a graph has read may go on without, and the graph stays right."""
    inputs, more = draw(LENGTH, 2), draw(1, 2)
    with torch.no_grad():
        state = after(module, inputs)
    query = more[0].clone().requires_grad_()
    out, _ = module.step(state, query, *more[1:])  # reads keys that need no gradient
    with torch.no_grad():
        module.step(state, *draw(1, 2))
        module.step(state, *draw(1, 2))
    [gradient] = torch.autograd.grad(out.sin().sum(), query)
    whole = [torch.cat(pair, -2) for pair in zip(inputs, (query, *more[1:]), strict=True)]
    [expected] = torch.autograd.grad(module(*whole)[..., -1:, :].sin().sum(), query)
    torch.testing.assert_close(gradient, expected)

    leaves = [x.clone().requires_grad_() for x in inputs]
    out, state = module.step(module.init_state(), *part(leaves, 0, LENGTH - 2))  # type: ignore[arg-type]
    outs = [out]
    for place in (LENGTH - 2, LENGTH - 1):
        with torch.no_grad():
            module.step(state, *more)
        out, state = module.step(state, *part(leaves, place, place + 1))  # type: ignore[arg-type]
        outs.append(out)
    gradients = torch.autograd.grad(torch.cat(outs, -2).sin().sum(), leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad(module(*leaves).sin().sum(), leaves))


def test_tangents(module: nn.Module) -> None:
    inputs, more, along = draw(LENGTH, 2), draw(1, 2), draw(1, 2)

    def last(*token: Tensor) -> Tensor:
        out: Tensor = module.step(module.step(state, *more)[1], *token)[0]
        return out

    with torch.no_grad():
        state = after(module, inputs)
        _, found = torch.func.jvp(last, more, along)
    step = 1e-6
    ahead, behind = (last(*(x + s * a for x, a in zip(more, along, strict=True))) for s in (step, -step))
    torch.testing.assert_close(found, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


def test_under_vmap(module: nn.Module) -> None:
    with torch.no_grad():
        inputs, more = draw(LENGTH, 2), draw(1, 4, 2)
        state = after(module, inputs)
        found = torch.func.vmap(lambda *token: module.step(state, *token)[0])(*more)
        for index, out in enumerate(found):
            torch.testing.assert_close(out, end(module, inputs, tuple(x[index] for x in more)))


def test_a_state_of_inference_mode_goes_on_outside(module: nn.Module) -> None:
    inputs, more = draw(LENGTH, 2), draw(2, 2)
    with torch.inference_mode():
        state = after(module, inputs)
    for place in range(2):
        out, state = module.step(state, *part(more, place, place + 1))
        torch.testing.assert_close(out, end(module, inputs, part(more, 0, place + 1))[..., -1:, :])


@pytest.mark.parametrize("dim", [-1, -2, -3, 0, 1, 2])
def test_memory_is_used_again(dim: int) -> None:
    """Along any dimension nearly every append writes what is new and nothing else, and memory stays near its need."""
    kept, moved, expected = torch.randn(5, 6, 7), 0, None
    for count in (1, 3, 1, 90, *[1] * 300):
        x = torch.randn(*(count if index == dim % 3 else size for index, size in enumerate((5, 6, 7))))
        expected = torch.cat([kept, x], dim)
        before, kept = kept.data_ptr(), extended(kept, x, dim)
        torch.testing.assert_close(kept, expected, rtol=0.0, atol=0.0)
        moved += kept.data_ptr() != before
        assert kept.untyped_storage().nbytes() <= kept.nbytes * (1 + max(1 / 8, 65 / kept.size(dim)))
    assert moved <= 7


def test_what_begins_a_cache_has_room_of_its_own() -> None:
    """The first token after a prompt copies nothing, and the cache is not the memory of the prompt."""
    with torch.no_grad():
        prompt, token = torch.randn(2, 40, 3), torch.randn(2, 1, 3)
        kept = extended(torch.empty(0), prompt, 1)
        held = kept.clone()
        longer = extended(kept, token, 1)
        assert longer.data_ptr() == kept.data_ptr() != prompt.data_ptr()
        prompt.zero_()
        torch.testing.assert_close(longer, torch.cat([held, token], 1), rtol=0.0, atol=0.0)


#: What may still read the end of a cache, made of the tensor that ended last; the first two read nothing.
READERS: Mapping[str, Callable[[Tensor], Any]] = {
    "nothing": lambda x: None,
    "a copy": lambda x: x[:, 41:].clone(),
    "itself": _same,
    "a slice": lambda x: x[:, 41:],
    "one position": lambda x: x[0, -1],
    "without a graph": lambda x: x.detach()[..., :1],
    "an array": lambda x: torch.from_numpy(x.numpy()),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("reader", READERS)
def test_room_is_free_again_when_nobody_reads_it(reader: str, mode: Callable[[], Any]) -> None:
    """As in drafts that are dropped: one after the other goes on from one state, each in the same memory."""
    kept = extended(torch.empty(0), torch.randn(2, 40, 3), 1)
    first, second = torch.randn(2, 2, 3), torch.randn(2, 2, 3)
    with mode():
        longer = extended(kept, first, 1)
        assert longer.data_ptr() == kept.data_ptr()
        held = READERS[reader](longer)
        before = None if held is None else held.clone()
        del longer
        again = extended(kept, second, 1)
    assert (again.data_ptr() == kept.data_ptr()) is (reader in [*READERS][:2])
    torch.testing.assert_close(again, torch.cat([kept, second], 1), rtol=0.0, atol=0.0)
    if held is not None:
        torch.testing.assert_close(held, before, rtol=0.0, atol=0.0)


def test_room_that_a_gradient_reads_is_not_free() -> None:
    kept, factor = extended(torch.empty(0), torch.randn(2, 40, 3), 1), torch.ones(3, requires_grad=True)
    longer = extended(kept, torch.randn(2, 2, 3), 1)
    expected, total = longer.sum((0, 1)), (factor * longer).sum()
    del longer
    extended(kept, torch.randn(2, 2, 3), 1)
    [gradient] = torch.autograd.grad(total, factor)
    torch.testing.assert_close(gradient, expected)


def test_a_window_moves_through_memory() -> None:
    """The end of a cache goes on in place too: what is left behind is not copied but when room ends."""
    kept, moved = torch.randn(2, 8, 3), 0
    for _ in range(400):
        x = torch.randn(2, 1, 3)
        expected = torch.cat([kept, x], 1)[:, 1:]
        storage = kept.untyped_storage()
        kept = extended(kept, x, 1)[:, 1:]
        torch.testing.assert_close(kept, expected, rtol=0.0, atol=0.0)
        moved += kept.untyped_storage() is not storage
        assert kept.untyped_storage().nbytes() <= 2 * 3 * 4 * (9 + 64)
    assert moved <= 8


def test_what_does_not_fit_is_an_error_as_ever() -> None:
    kept = extended(torch.zeros(2, 4, 3), torch.zeros(2, 1, 3), 1)
    for shape in ((1, 1, 3), (2, 1, 4), (1, 3)):
        with pytest.raises(RuntimeError):
            extended(kept, torch.zeros(shape), 1)
    assert extended(kept, torch.zeros(2, 1, 3, dtype=torch.float64), 1).dtype == torch.float64
