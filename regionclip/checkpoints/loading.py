"""Strict loading: every tensor of a model and of a checkpoint is accounted for, in a table, or the load is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from torch import Tensor, nn

from regionclip.errors import InputError


@dataclass(frozen=True)
class Allowance:
    """Keys that may be missing or left over.

    Attributes:
        pattern: Regular expression that such a key begins with.
        reason: Why nothing is lost, for the report.
    """

    pattern: str
    reason: str

    def covers(self, key: str) -> bool:
        """Tell whether this is about ``key``."""
        return re.match(self.pattern, key) is not None


@dataclass(frozen=True)
class LoadReport:
    """What became of every key.

    Attributes:
        loaded: Keys in both, of one shape.
        missing: Keys that only the model has.
        unexpected: Keys that only the checkpoint has.
        mismatched: Key to (shape wanted, shape got).
        allowed: Missing or unexpected key that an allowance covers, to its reason; in neither list above.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    allowed: Mapping[str, str] = field(default_factory=dict)

    def require(self, file: str | Path, mend: str = "give the checkpoint of this model's configuration") -> None:
        """Refuse what does not fit.

        Raises:
            InputError: Names the file, the first key at fault and how many there are.
        """
        keys = (*self.mismatched, *self.missing, *self.unexpected)
        if not keys:
            return
        key, counts = keys[0], (len(self.missing), len(self.unexpected), len(self.mismatched))
        what = "another shape" if self.mismatched else "missing" if self.missing else "unexpected"
        shapes = "wanted {}, got {}".format(*self.mismatched[key]) if self.mismatched else ""
        raise InputError(
            f"a checkpoint of another architecture: {what}{f' ({shapes})' if shapes else ''}; "
            "{} missing, {} unexpected, {} of another shape".format(*counts),
            file=file,
            key=key,
            mend=mend,
        )

    def table(self, depth: int = 1) -> Table:
        """Return the counts by module, for the terminal.

        Args:
            depth: Pieces of a key that name its module.
        """
        table = Table("module", title="tensors")
        columns = {
            "loaded": self.loaded,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "shape mismatch": tuple(self.mismatched),
            "allowed": tuple(self.allowed),
        }
        counts = {name: Counter(module_of(key, depth) for key in keys) for name, keys in columns.items()}
        for name in columns:
            table.add_column(name, justify="right")
        for module in sorted(set().union(*counts.values())):
            table.add_row(module, *(str(count[module] or "") for count in counts.values()))
        return table


def module_of(key: str, depth: int = 1) -> str:
    """Return the first ``depth`` pieces of a key, without the tensor's own name."""
    return ".".join(key.split(".")[:-1][:depth]) or "(top)"


def compare(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], allow: Sequence[Allowance] = ()) -> LoadReport:
    """Compare a checkpoint with the state dict that a model wants; only names and shapes are looked at."""
    state = _in_names_of(wanted, state)
    shapes = {key: (tuple(wanted[key].shape), tuple(state[key].shape)) for key in sorted(wanted.keys() & state.keys())}
    reasons = {
        key: next((allowance.reason for allowance in allow if allowance.covers(key)), None)
        for key in sorted(wanted.keys() ^ state.keys())
    }
    allowed = {key: reason for key, reason in reasons.items() if reason is not None}
    return LoadReport(
        loaded=tuple(key for key, (want, got) in shapes.items() if want == got),
        missing=tuple(sorted(wanted.keys() - state.keys() - allowed.keys())),
        unexpected=tuple(sorted(state.keys() - wanted.keys() - allowed.keys())),
        mismatched={key: pair for key, pair in shapes.items() if pair[0] != pair[1]},
        allowed=allowed,
    )


def load_strictly(
    model: nn.Module, state: Mapping[str, Tensor], file: str | Path, allow: Sequence[Allowance] = ()
) -> LoadReport:
    """Load ``state`` into ``model``; every key and every shape must fit, but for what is allowed by name.

    Args:
        model: Left as it was when the load is refused.
        state: Tensors by the model's names.
        file: Where they come from, for messages.
        allow: Keys that may be missing or left over.

    Raises:
        InputError: Names the file, the first key at fault and how many there are.
    """
    own = model.state_dict()
    report = compare(own, state, allow)
    report.require(file)
    state = _in_names_of(own, state)
    model.load_state_dict({key: value for key, value in state.items() if key in own}, strict=not report.allowed)
    return report


def _in_names_of(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename ``rpn_head`` where the model is MMDetection's ``RPN``, which calls it ``bbox_head``.

    Its own loading does the same (``rpn.py``, ``_load_from_state_dict``), behind the back of a comparison of names.
    """
    heads = [any(key.startswith(head) for key in keys) for keys in (own, state) for head in ("rpn_head.", "bbox_head.")]
    if heads != [False, True, True, False]:
        return state
    return {re.sub(r"^rpn_head\.", "bbox_head.", key): value for key, value in state.items()}
