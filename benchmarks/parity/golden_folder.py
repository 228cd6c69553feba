"""A folder of golden values: inputs, the recipe of the parameters, the official models' keys, reference outputs."""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from regionclip.checkpoints.official import OfficialCheckpoint, read_official
from regionclip.errors import InputError
from regionclip.files import read_json

Arrays = dict[str, np.ndarray]
PICTURES = ("A", "B")


@dataclass(frozen=True)
class GoldenFolder:
    """See the folder's own README for what it holds.

    Attributes:
        path: The folder.
        inputs: Arrays of ``inputs.npz``.
        recipe: The module ``recipe.py`` of the folder; it is code, so use a folder that you trust.
    """

    path: Path
    inputs: Arrays
    recipe: ModuleType

    @classmethod
    def open(cls, path: str | Path) -> GoldenFolder:
        """Read inputs and recipe of the folder at ``path``.

        Raises:
            InputError: One of them is missing.
        """
        path = Path(path)
        for name in ("inputs.npz", "recipe.py"):
            if not (path / name).is_file():
                raise InputError("the file is missing", file=path / name, mend="give a folder of golden values")
        spec = importlib.util.spec_from_file_location("golden_recipe", path / "recipe.py")
        assert spec is not None and spec.loader is not None
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        return cls(path, load_arrays(path / "inputs.npz"), recipe)

    def keys(self, name: str) -> dict[str, dict]:
        """Read ``keys_<name>.json``: each state-dict key, in order, with shape, dtype and trainable flag."""
        return read_json(self.path / f"keys_{name}.json")

    def checkpoint(self, name: str, given: dict[str, np.ndarray] | None = None) -> OfficialCheckpoint:
        """Fill the official model ``keys_<name>.json``, save it as an official file and read that back.

        Args:
            name: Which key list.
            given: Values that the recipe does not give, by key: class embeddings.
        """
        return through_a_file(self.state(self.keys(name), given or {}))

    def state(self, keys: dict[str, dict], given: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """Fill ``keys``: ``given`` values, else the recipe's, else zeros."""
        state = {}
        for key, entry in keys.items():
            shape = tuple(entry["shape"])
            if key in given:
                value = given[key]
            elif self.recipe.skip(key):
                value = np.zeros(shape)
            else:
                value = self.recipe.param(key, shape)
            state[key] = torch.from_numpy(np.asarray(value)).reshape(shape).to(getattr(torch, entry["dtype"]))
        return state

    def reference(self, run: str) -> Arrays | None:
        """Read the official outputs of ``run``, or None where the folder has none."""
        path = self.path / f"{run}.npz"
        return load_arrays(path) if path.is_file() else None


def through_a_file(state: dict[str, Tensor]) -> OfficialCheckpoint:
    """Save ``state`` as the official code saves checkpoints, and read it with the official-checkpoint reader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "official.pth"
        torch.save({"model": state}, path)
        return read_official(path)


def load_arrays(path: Path) -> Arrays:
    """Read all arrays of an ``.npz`` file."""
    with np.load(path) as arrays:
        return dict(arrays)
