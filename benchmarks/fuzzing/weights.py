"""Weight files and CLIP folders, damaged or of odd content: read, or refused by name."""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor

from benchmarks.fuzzing.mutation import mutated
from regionclip.checkpoints.clip_folder import CONFIG, WEIGHTS, ClipFolder, build_clip, save_clip
from regionclip.checkpoints.containers import read_container
from regionclip.checkpoints.inspect import inspect
from regionclip.checkpoints.mmengine_files import read
from regionclip.checkpoints.official import read_official, rpn_shapes
from regionclip.errors import InputError
from regionclip.text.text_bank import TextBank, read_embeddings

_ARCHITECTURE = {
    "embed_dim": 8, "quick_gelu": True,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}  # fmt: skip
_VALUES = (None, -1, 0, 1.5, "", "x", [], {}, [1, 2], {"a": 1}, True, 10**6, 10**12, float("nan"))
_TENSORS = (
    *(torch.zeros(shape) for shape in [(0,), (), (3, 1), (2, 0)]),
    *(torch.zeros(2, dtype=kind) for kind in (torch.complex64, torch.bool, torch.float8_e4m3fn)),
    torch.full((4,), torch.nan),
    torch.zeros(1).expand(10**12),
    torch.eye(3).to_sparse(),
    torch.zeros(2, device="meta"),
    torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
)
_KEYS = (1, None, "", "backbone.attnpool.x", "visual.attnpool.c_proj.weight", ("a",))


def run(folder: Path, rng: random.Random) -> str:
    """Make one bad file or folder and read it by all readers that take it."""
    kind = rng.choice(["bytes", "bytes", "content", "clip"])
    if kind == "clip":
        return _of_all(_clip(folder, rng))
    if kind == "content":
        name, content = "weights.pth", _saved(_odd(_state(rng), rng))
    else:
        name = rng.choice(sorted(samples()))
        content = mutated(samples()[name], rng)
    file = folder / name
    file.write_bytes(content)
    readers: list[Callable[[], Any]] = [lambda: read_container(file), lambda: _shown(file), lambda: read_official(file)]
    readers += [lambda: read_embeddings(file), lambda: TextBank.load(file), lambda: read(file)]
    return _of_all(readers)


@cache
def samples() -> dict[str, bytes]:
    """Return sound weight files by name: of both forms of ``torch.save``, safetensors, and an array."""
    state, rows = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}, torch.eye(4)
    array, training = io.BytesIO(), {"state_dict": state, "meta": {"classes": ["a"]}, "optimizer": {"lr": 0.1}}
    np.save(array, rows.numpy())
    return {
        "plain.pth": _saved(state),
        "training.pth": _saved(training),
        "legacy.pth": _saved(state, legacy=True),
        "rows.pth": _saved(rows),
        "network.pth": _saved(_network()),
        "weights.safetensors": save(state, {"names": "[1]"}),
        "bank.safetensors": save({"embeddings": rows}, {"names": '["a", "b", "c", "d"]', "templates": "[]"}),
        "rows.npy": array.getvalue(),
    }


@cache
def _network() -> dict[str, Tensor]:
    """A proposal network of Detectron2 by its names and shapes, each tensor one number."""
    return {key: torch.zeros(()).expand(value.shape) for key, value in rpn_shapes("c4").items()}


@cache
def _clip_parts() -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in build_clip(_ARCHITECTURE).state_dict().items()}


def _state(rng: random.Random) -> dict[str, Any]:
    return dict(rng.choice([_network(), _clip_parts(), {"a": torch.ones(2)}]))


def _odd(state: dict[Any, Any], rng: random.Random) -> Any:
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(list(state)) if state else "a"
        if rng.random() < 0.5:
            state[key] = rng.choice([*_VALUES, *_TENSORS])
        elif rng.random() < 0.5:
            state[rng.choice(_KEYS)] = state.pop(key, 0)
        else:
            state.pop(key, None)
    wrapped = {"model": state, "optimizer": 1}, {"state_dict": state, "meta": {}}
    return rng.choice([state, state, *wrapped, list(state), None])


def _saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _clip(folder: Path, rng: random.Random) -> list[Callable[[], Any]]:
    """Write a CLIP folder with a damaged configuration or damaged weights; return what reads it."""
    place = folder / "clip"
    save_clip(place, _ARCHITECTURE, _clip_parts(), {"stage_digest": "0"})
    config, weights = place / CONFIG, place / WEIGHTS
    if rng.random() < 0.6:
        content = json.loads(config.read_text())
        part = content
        while rng.random() < 0.7 and any(isinstance(value, dict) for value in part.values()):
            part = part[rng.choice([key for key, value in part.items() if isinstance(value, dict)])]
        part[rng.choice([*part, "new"])] = copy.deepcopy(rng.choice(_VALUES))
        config.write_text(json.dumps(content))
    elif rng.random() < 0.5:
        config.write_bytes(mutated(config.read_bytes(), rng))
    else:
        weights.write_bytes(mutated(weights.read_bytes(), rng))
    read_parts: list[Callable[[ClipFolder], Any]] = [ClipFolder.model, ClipFolder.tokenizer]
    return [lambda: _shown(place), *(lambda ask=ask: ask(ClipFolder.open(place)) for ask in read_parts)]


def _shown(path: Path) -> None:
    console = Console(file=io.StringIO())
    console.print(inspect(path).table())


def _of_all(readers: list[Callable[[], Any]]) -> str:
    outcomes = set()
    for read_it in readers:
        try:
            read_it()
            outcomes.add("ok")
        except InputError as error:
            assert error.problem and error.file
            outcomes.add("refused")
    return "ok" if "ok" in outcomes else "refused"
