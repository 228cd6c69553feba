"""Strict loading: every tensor of a model and of a checkpoint is accounted for, or the load is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regionclip.errors import InputError

_NOTHING = r"(?!)"


class Uninitialised(TorchFunctionMode):
    """While it is entered, models are built without drawing first weights: all of them are loaded afterwards."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave out what draws into a tensor; call any other function."""
        given = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def require_fit(
    wanted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    file: str | Path,
    allow: str = _NOTHING,
    mend: str = "give the checkpoint of this model's configuration",
) -> None:
    """Refuse a checkpoint that is not of the state dict that a model wants; only names and shapes are looked at.

    Args:
        wanted: Tensors by the model's names.
        state: Tensors of the checkpoint.
        file: Where they come from, for messages.
        allow: Regular expression that keys begin with which may be missing or left over.
        mend: What to do where they do not fit.

    Raises:
        InputError: Names the file, the first key at fault and how many there are.
    """
    state = _in_names_of(wanted, state)
    mismatched = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    missing = sorted(key for key in wanted.keys() - state.keys() if not re.match(allow, key))
    unexpected = sorted(key for key in state.keys() - wanted.keys() if not re.match(allow, key))
    keys = [*mismatched, *missing, *unexpected]
    if not keys:
        return
    key = keys[0]
    what = "missing" if missing else "unexpected"
    if mismatched:
        what = f"another shape (wanted {tuple(wanted[key].shape)}, got {tuple(state[key].shape)})"
    counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(mismatched)} of another shape"
    raise InputError(f"a checkpoint of another architecture: {what}; {counts}", file=file, key=key, mend=mend)


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], file: str | Path) -> None:
    """Load tensors by the model's names; where they do not fit (see `require_fit`), the model is left as it was."""
    own = model.state_dict()
    require_fit(own, state, file)
    model.load_state_dict(_in_names_of(own, state))


def _in_names_of(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename ``rpn_head`` where the model is MMDetection's ``RPN``, which calls it ``bbox_head``.

    Its own loading does the same (``rpn.py``, ``_load_from_state_dict``), behind the back of a comparison of names.
    """
    heads = [any(key.startswith(head) for key in keys) for keys in (own, state) for head in ("rpn_head.", "bbox_head.")]
    if heads != [False, True, True, False]:
        return state
    return {re.sub(r"^rpn_head\.", "bbox_head.", key): value for key, value in state.items()}
