"""Every tensor is accounted for: of the model, missing, left over or of another shape, or allowed by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from regionclip.checkpoints.loading import Uninitialised, load_strictly, require_fit
from regionclip.errors import InputError

COUNTS = r".*\.num_batches_tracked$"


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_each_key_is_counted_once_and_what_is_allowed_passes() -> None:
    wanted = {"a.x": torch.ones(2), "a.y": torch.ones(2), "b.num_batches_tracked": torch.ones(()), "c": torch.ones(1)}
    state = {"a.x": torch.ones(2), "a.y": torch.ones(3), "d.e.f": torch.ones(1), "c": torch.ones(1)}
    with pytest.raises(InputError, match=r"key 'a\.y': .*wanted \(2,\), got \(3,\)\); 1 missing, 1 unexpected, 1 of"):
        require_fit(wanted, state, "f.pth")
    with pytest.raises(InputError, match="0 missing, 1 unexpected, 1 of another shape.*To mend: mend it"):
        require_fit(wanted, state, "f.pth", COUNTS, mend="mend it")
    del state["d.e.f"], state["a.y"], wanted["a.y"]
    require_fit(wanted, {**state, "x.num_batches_tracked": torch.ones(())}, "f.pth", COUNTS)


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


def test_no_weight_is_drawn_that_is_loaded_anyway() -> None:
    given, state = torch.full((3, 4), 7.0), torch.get_rng_state()
    with Uninitialised():
        nn.init.kaiming_uniform_(nn.init.normal_(given.normal_().uniform_()))
        nn.init.normal_(tensor=given)
        _model()
        assert torch.ones(2).add_(1).tolist() == [2, 2], "all else is done"
    assert (given == 7).all() and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(nn.init.normal_(given), torch.full((3, 4), 7.0))


def test_a_two_stage_rpn_head_fits_the_single_stage_detector() -> None:
    """MMDetection's RPN names its head bbox_head and reads rpn_head; with both there is nothing to rename."""
    model = nn.ModuleDict({"bbox_head": nn.Linear(1, 1)})
    require_fit(model.state_dict(), {"rpn_head.weight": torch.ones(1, 1), "rpn_head.bias": torch.ones(1)}, "f.pth")
    load_strictly(model, {"rpn_head.weight": torch.full((1, 1), 5.0), "rpn_head.bias": torch.ones(1)}, "f.pth")
    assert model["bbox_head"].weight.item() == 5
    with pytest.raises(InputError, match="2 unexpected"):
        load_strictly(model, {f"{head}.{name}": value for head in ("rpn_head", "bbox_head") for name, value in
                              nn.Linear(1, 1).state_dict().items()}, "f.pth")  # fmt: skip
