"""Every tensor is accounted for: loaded, missing, left over or of another shape, or allowed by name with a reason."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console
from torch import nn

from regionclip.checkpoints.loading import Allowance, compare, load_strictly, module_of
from regionclip.errors import InputError

COUNTS = Allowance(r".*\.num_batches_tracked$", "frozen batch norm counts nothing")


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_each_key_lands_in_one_list() -> None:
    wanted = {"a.x": torch.ones(2), "a.y": torch.ones(2), "b.num_batches_tracked": torch.ones(()), "c": torch.ones(1)}
    state = {"a.x": torch.ones(2), "a.y": torch.ones(3), "d.e.f": torch.ones(1), "c": torch.ones(1)}
    report = compare(wanted, state, [COUNTS])
    assert report.loaded == ("a.x", "c") and report.unexpected == ("d.e.f",) and report.missing == ()
    assert report.mismatched == {"a.y": ((2,), (3,))}
    assert report.allowed == {"b.num_batches_tracked": COUNTS.reason}
    assert compare(wanted, state).missing == ("b.num_batches_tracked",)


def test_table_counts_by_module() -> None:
    report = compare({"a.x": torch.ones(1), "a.b.y": torch.ones(1)}, {"a.x": torch.ones(1), "z.w": torch.ones(2)})
    console = Console(width=100, record=True)
    console.print(report.table())
    rows = [line.split() for line in console.export_text().splitlines() if "│" in line]
    assert rows[0][1:8:2] == ["a", "1", "1", "│"]  # loaded 1, missing 1
    assert rows[1][1] == "z" and rows[1].count("1") == 1
    assert module_of("a.b.c.weight", 2) == "a.b" and module_of("weight") == "(top)"


def test_what_is_allowed_loads_and_is_reported() -> None:
    model, other = _model(), _model()
    state = {key: value for key, value in other.state_dict().items() if "num_batches" not in key}
    report = load_strictly(model, {**state, "1.x.num_batches_tracked": torch.ones(())}, "f.pth", [COUNTS])
    assert set(report.allowed) == {"1.num_batches_tracked", "1.x.num_batches_tracked"}
    assert torch.equal(model[0].weight, other[0].weight) and len(report.loaded) == 6


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        (lambda state: state.pop("0.bias"), "0.bias", "missing; 1 missing, 0 unexpected, 0 of another shape"),
        (lambda state: state.update({"2.w": torch.ones(1)}), "2.w", "unexpected; 0 missing, 1 unexpected"),
        (lambda state: state.update({"0.bias": torch.ones(4)}), "0.bias", r"wanted \(3,\), got \(4,\)"),
        # A plain copy would fill three numbers with one.
        (lambda state: state.update({"0.bias": torch.ones(1)}), "0.bias", r"wanted \(3,\), got \(1,\)"),
    ],
)
def test_anything_else_is_refused_and_the_model_left_alone(change, key: str, problem: str) -> None:
    model = _model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(InputError, match=problem) as caught:
        load_strictly(model, state, "f.pth")
    assert caught.value.key == key and caught.value.file == "f.pth" and caught.value.mend
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_two_stage_rpn_head_fits_the_single_stage_detector() -> None:
    """MMDetection's RPN names its head bbox_head and reads rpn_head; with both there is nothing to rename."""
    model = nn.ModuleDict({"bbox_head": nn.Linear(1, 1)})
    assert compare(model.state_dict(), {"rpn_head.weight": torch.ones(1, 1), "rpn_head.bias": torch.ones(1)}).loaded
    load_strictly(model, {"rpn_head.weight": torch.full((1, 1), 5.0), "rpn_head.bias": torch.ones(1)}, "f.pth")
    assert model["bbox_head"].weight.item() == 5
    with pytest.raises(InputError, match="2 unexpected"):
        load_strictly(model, {f"{head}.{name}": value for head in ("rpn_head", "bbox_head") for name, value in
                              nn.Linear(1, 1).state_dict().items()}, "f.pth")  # fmt: skip
