"""Generated source as a Python class, loaded by the import system.

A loader of our own serves the text, so that inspect, tracebacks, TorchScript and torch.compile see
the source although there is no file.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import Any

from torch import nn

from .emit import Generated


class _SourceLoader(importlib.abc.ExecutionLoader):
    def __init__(self, filename: str, source: str) -> None:
        self._filename = filename
        self._source = source

    def get_filename(self, fullname: str) -> str:
        return self._filename

    def get_source(self, fullname: str) -> str:
        return self._source

    def is_package(self, fullname: str) -> bool:
        return False


def load_class(generated: Generated) -> type[nn.Module]:
    """The class of a generated module; the same source gives the same class.

    The class carries `source`, its text, and `inputs`, the names of forward's arguments. Instances
    can be pickled and copied; unpickling needs attngraph.
    """
    return _load(generated.formula, generated.class_name, generated.source, generated.inputs, generated.no_step)


def _load(
    formula: str, class_name: str, source: str, inputs: tuple[str, ...], no_step: str | None = None
) -> type[nn.Module]:
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    name = f"attngraph_generated_{formula}_{digest}"
    module = sys.modules.get(name)
    if module is None:
        module = _import(name, source)
        loaded: Any = getattr(module, class_name)
        loaded.source = source
        loaded.inputs = inputs
        arguments = (formula, class_name, source, inputs, no_step)
        loaded.__reduce_ex__ = lambda self, protocol: (_blank, arguments, self.__dict__)
        if no_step is not None:
            loaded.__getattr__ = _without_step(f"{formula} has no `{{}}`: {no_step}")
    found: type[nn.Module] = getattr(module, class_name)
    return found


def _without_step(message: str) -> Any:
    """An `__getattr__` that says why there is no `step`; `hasattr` is as false as without it.

    It asks for parameters and buffers first, so that what a call reads costs what it costs in any module.
    """
    known = nn.Module.__getattr__

    def get(self: nn.Module, name: str) -> Any:
        try:
            return known(self, name)
        except AttributeError:
            if name in ("init_state", "step"):
                raise AttributeError(message.format(name), name=name, obj=self) from None
            raise

    return get


def _import(name: str, source: str) -> ModuleType:
    loader = _SourceLoader(f"{name}.py", source)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _blank(
    formula: str, class_name: str, source: str, inputs: tuple[str, ...], no_step: str | None = None
) -> nn.Module:
    """An instance before its state is set, for pickle and copy."""
    cls = _load(formula, class_name, source, inputs, no_step)
    return cls.__new__(cls)
