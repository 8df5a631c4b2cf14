"""Load Ansible modules and what they share from plugins/, under the names by which they import each other."""

from __future__ import annotations

import importlib.util
import sys
from itertools import takewhile
from pathlib import Path
from types import ModuleType

PLUGINS = Path(__file__).parents[3] / "plugins"


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def shared(name: str) -> ModuleType:
    """A module of plugins/module_utils, loaded once, after those that it imports."""
    for each in (*takewhile(name.__ne__, ("address", "drift", "service_unit")), name):
        full = f"ansible.module_utils.{each}"
        if full not in sys.modules:
            load(PLUGINS / f"module_utils/{each}.py", full)
    return sys.modules[full]


def module(name: str) -> ModuleType:
    """A module of plugins/modules."""
    for needed in ("service_changes", "adoption", "release_layout", "release_wheels"):
        shared(needed)
    return load(PLUGINS / f"modules/{name}.py", name)


def action(name: str) -> ModuleType:
    """An action plugin of plugins/action."""
    return load(PLUGINS / f"action/{name}.py", f"{name}_action")
