"""A small vision transformer that learns handwritten digits with any attention over q, k and v.

The model is `ViTForImageClassification` of Hugging Face transformers, built from a configuration alone. Its layers
keep their projections and residual paths; what happens between q, k, v and the output is one module that the caller
supplies per layer. The data are scikit-learn's handwritten digits (UCI optical recognition of handwritten digits,
Alpaydin and Kaynak 1998): 1797 images of 8 by 8 pixels, which come with the package.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTForImageClassification
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.vit.modeling_vit import ViTAttention

CLASSES, SIDE, PATCH = 10, 8, 2
TOKENS = (SIDE // PATCH) ** 2 + 1  # the patches and the class token
_INTERFACE = "attngraph"


@dataclass(frozen=True)
class Digits:
    """Images [count, 1, 8, 8] with values from -1 to 1 and labels [count], for learning and held out."""

    images: Tensor
    labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn: AdamW under a one-cycle learning rate that peaks at `rate`."""

    epochs: int = 32
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.05


@dataclass(frozen=True)
class Epoch:
    """What one pass over the learning images came to.

    loss: the mean cross-entropy in nats; accuracy: the share of held-out digits that are right;
    seconds: since the first epoch began.
    """

    number: int
    loss: float
    accuracy: float
    seconds: float


def load(seed: int) -> Digits:
    """The digits, a quarter of every class held out."""
    pixels, labels = load_digits(return_X_y=True)
    learn, held_out, learn_labels, held_out_labels = train_test_split(
        pixels, labels, test_size=0.25, stratify=labels, random_state=seed
    )

    def images(rows: object) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.float32).reshape(-1, 1, SIDE, SIDE) / 8 - 1

    return Digits(images(learn), torch.as_tensor(learn_labels), images(held_out), torch.as_tensor(held_out_labels))


# -- the model ---------------------------------------------------------------------------------------------


def _formula_attention(
    layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: object
) -> tuple[Tensor, None]:
    """The attention interface of transformers, answered by the layer's own `formula` module.

    query, key, value: [batch, heads, tokens, head width]. Returns [batch, tokens, heads, head width] and no
    weights: a formula need not have any. Scaling is the formula's business, and no digit is padding.
    """
    if attention_mask is not None:
        raise ValueError("the formula takes q, k and v; it has no input for an attention mask")
    return layer.get_submodule("formula")(query, key, value).transpose(1, 2), None


def classifier(attention: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A vision transformer with weights drawn from the seed, whose every layer attends with `attention()`.

    attention: makes a module from q[batch, heads, N, D], k[batch, heads, M, D], v[batch, heads, M, E] to
    [batch, heads, N, E].
    """
    ALL_ATTENTION_FUNCTIONS.register(_INTERFACE, _formula_attention)
    config = ViTConfig(
        image_size=SIDE,
        patch_size=PATCH,
        num_channels=1,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,  # near 1/sqrt(width); the usual 0.02 suits widths in the hundreds
        id2label={digit: str(digit) for digit in range(CLASSES)},
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = ViTForImageClassification(config)
        model.set_attn_implementation(_INTERFACE)
        for layer in list(model.modules()):
            if isinstance(layer, ViTAttention):
                layer.add_module("formula", attention())
    return model


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Scores [count, 10] of the images [count, 1, 8, 8]."""
    scores = model(pixel_values=images).logits
    assert isinstance(scores, Tensor)
    return scores


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that the model names rightly."""
    model.eval()
    with torch.inference_mode():
        return (logits(model, images).argmax(-1) == labels).double().mean().item()


# -- learning ----------------------------------------------------------------------------------------------


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [count, 1, 8, 8], two fifths of them moved by up to one pixel each way; background moves in.

    Not all of them: a digit fills its image from top to bottom, so a shift costs it a row or a column.
    """
    count = len(images)
    padded = functional.pad(images, (1, 1, 1, 1), value=-1.0)
    moved = torch.rand(count, 1, generator=generator) < 0.4
    corners = torch.where(moved, torch.randint(0, 3, (2, count, 1), generator=generator), 1)
    rows, columns = corners + torch.arange(SIDE)
    index = torch.arange(count)[:, None, None]
    return padded[index, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One step of the optimizer; returns the cross-entropy in nats before it."""
    loss = functional.cross_entropy(logits(model, images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def learn(model: nn.Module, digits: Digits, schedule: Schedule, seed: int) -> Iterator[Epoch]:
    """Train the model in place; yields what every epoch came to. Batches and shifts follow the seed."""
    generator = torch.Generator().manual_seed(seed)
    count = len(digits.images)
    cuts = [*range(0, count, schedule.batch), count]
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.rate, weight_decay=schedule.weight_decay)
    steps = schedule.epochs * (len(cuts) - 1)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=schedule.rate, total_steps=steps, pct_start=0.2)
    start = time.perf_counter()
    for number in range(1, schedule.epochs + 1):
        model.train()
        order = torch.randperm(count, generator=generator)
        total = 0.0
        for first, last in pairwise(cuts):
            chosen = order[first:last]
            loss = step(model, optimizer, shifted(digits.images[chosen], generator), digits.labels[chosen])
            cycle.step()
            total += loss * len(chosen)
        right = accuracy(model, digits.held_out_images, digits.held_out_labels)
        yield Epoch(number, total / count, right, time.perf_counter() - start)
