"""Modules by the names that they had before: files that were written then say where classes are.

A pickle and a skops file name the module of each class. Those of public classes are "sklopa" now;
the ones below are found for earlier files alone, when such a file asks for them.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_CLASS_IN = {
    "sklopa._classifier": "LoPAClassifier",
    "sklopa._regressor": "LoPARegressor",
    "sklopa._generator": "LoPAGenerator",
    "sklopa._image_classifier": "LoPAImageClassifier",
}


class _EarlierModules(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in _CLASS_IN else None

    def exec_module(self, module: ModuleType) -> None:
        name = _CLASS_IN[module.__name__]
        setattr(module, name, getattr(importlib.import_module("sklopa"), name))


if not any(type(finder).__name__ == _EarlierModules.__name__ for finder in sys.meta_path):
    sys.meta_path.append(_EarlierModules())
