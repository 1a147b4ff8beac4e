"""One thread for NumPy and PyTorch, in processes of which several work side by side."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _TorchImport(MetaPathFinder):
    """Sets PyTorch's number of threads as soon as it has been imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def load_and_set(module: ModuleType) -> None:
                load(module)
                module.set_num_threads(1)

            spec.loader.exec_module = load_and_set  # type: ignore[method-assign]
        return spec


@cache
def _blas() -> Any:
    """What sets the threads of NumPy's library; finding the library takes longer than setting."""
    import numpy  # noqa: F401 (which loads it)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_ONE = ContextVar("one", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy and PyTorch compute on one thread, PyTorch also if it is imported in between.

    Several clients train side by side, and the sums of two threads differ from those of one. A
    client whose task has no use for PyTorch must not import it only for this. Where there is one
    thread already, this does nothing.
    """
    if _ONE.get():
        yield
        return
    token = _ONE.set(True)
    finder = _TorchImport()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    else:
        sys.meta_path.insert(0, finder)
    try:
        with _blas().limit(limits=1):
            yield
    finally:
        _ONE.reset(token)
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
