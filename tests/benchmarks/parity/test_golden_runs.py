"""The numbers of the official code, from official files through our reader and our models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.parity import finetune, pretrain, rpn, vit, zero_shot
from benchmarks.parity.__main__ import INPUTS, RUNS, main
from benchmarks.parity.compare import compare
from benchmarks.parity.golden_folder import GoldenFolder, load_arrays
from benchmarks.parity.text import OfficialTokenizer

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def golden() -> GoldenFolder:
    return GoldenFolder.open(GOLDEN)


@pytest.mark.parametrize("run", ["zs_coco", "rpn_coco", "text", "vit_openai", "vit_eva"])
def test_run_equals_the_official_one(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command compares every golden value of the run and finds none too far off."""
    assert main(["--golden", str(GOLDEN), "--run", run, "--out", str(tmp_path), "--compare"]) == 0
    printed = capsys.readouterr().out
    assert " 0 failed" in printed
    wanted = {key for key in load_arrays(GOLDEN / f"{run}.npz") if not INPUTS.match(key)}
    assert wanted <= load_arrays(tmp_path / f"{run}.npz").keys()


@pytest.mark.parametrize("family", ["openai", "eva"])
def test_dense_features_of_transformers_equal_the_official_ones(golden: GoldenFolder, family: str) -> None:
    """Maps, regions and embedding, of the size of the training and of another."""
    results = {key: value for key, value in golden.reference(f"vit_{family}").items() if not INPUTS.match(key)}
    verdicts = compare(vit.run(golden, family), results)
    assert len(verdicts) == 5 and max(verdict.deviation for verdict in verdicts) < 1e-5


def test_pretraining_step_equals_the_official_one(golden: GoldenFolder) -> None:
    """Features, teacher's labels, three losses and 51 gradients."""
    verdicts = compare(pretrain.run(golden, thresholds=[0.1]), golden.reference("pretrain"))
    assert [verdict for verdict in verdicts if not verdict.passed] == []
    assert len(verdicts) == 28


@pytest.mark.slow
def test_other_thresholds_keep_fewer_regions(golden: GoldenFolder) -> None:
    """Region losses change with the kept regions; the image-text loss does not."""
    arrays = pretrain.run(golden)
    assert arrays["thres0.3_keep"].tolist() == (arrays["matched_score_all"] > 0.3).tolist()
    assert arrays["keep"].sum() > arrays["thres0.3_keep"].sum() > arrays["thres0.5_keep"].sum() > 0
    for prefix in ("thres0.3_", "thres0.5_"):
        assert arrays[f"{prefix}loss_img_txt_level"] == arrays["loss_img_txt_level"]
        assert arrays[f"{prefix}loss_region_distill"] != arrays["loss_region_distill"]
        assert arrays[f"{prefix}grad_norms"].shape == arrays["pre_grad_norms"].shape


@pytest.mark.slow
def test_fine_tuning_step(golden: GoldenFolder) -> None:
    """Losses equal their definitions on the regions' own logits and deltas; one step moves what it should."""
    arrays = finetune.run(golden)
    zero_shot_values = golden.reference("zs_coco")
    assert np.abs(arrays["feats"][200:208] - zero_shot_values["gt_feats"][:8]).max() < 1e-5
    labels, targets = _assigned(golden)
    logits, deltas = torch.from_numpy(arrays["logits"]).double(), torch.from_numpy(arrays["deltas"]).double()
    entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    background = labels == 48
    focal = (1 - (-entropy).exp()) ** 0.5 * entropy * torch.where(background, 0.2, 1.0)
    assert float(arrays["loss_cls"]) == pytest.approx(float(focal.mean()), rel=1e-5)
    weights = torch.where(background, 0.8, 1.0).double()
    lvis = (weights * entropy).sum() / weights.sum()
    assert float(arrays["loss_cls_lvis_style"]) == pytest.approx(float(lvis), rel=1e-5)
    distance = (deltas - targets)[~background].abs().sum() / len(labels)
    assert float(arrays["loss_box_reg"]) == pytest.approx(float(distance), rel=1e-4)
    assert len(arrays["ft_grad_names"]) == 53
    assert sum(key.startswith("ft_after_step|") for key in arrays) == 53
    assert all(len(arrays[f"test_{kind}scores{picture}"]) == 100 for kind in ("", "softnms_") for picture in "AB")


def _assigned(golden: GoldenFolder) -> tuple[torch.Tensor, torch.Tensor]:
    """Label and target of each region in documented order, from the boxes alone (IoU 0.5; weights 10, 10, 5, 5)."""
    labels, targets = [], []
    for picture in "AB":
        truth, classes, given = (
            torch.from_numpy(golden.inputs[f"{key}{picture}"]).double() for key in ("gt", "gtcls", "prop")
        )
        boxes = torch.cat([given, truth])
        low, high = torch.maximum(boxes[:, None, :2], truth[:, :2]), torch.minimum(boxes[:, None, 2:], truth[:, 2:])
        shared = (high - low).clamp(min=0).prod(2)
        area, true_area = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, truth))
        overlap, best = (shared / (area[:, None] + true_area - shared)).max(1)
        labels.append(torch.where(overlap >= 0.5, classes[best].long(), 48))
        size, true_size = boxes[:, 2:] - boxes[:, :2], (truth[:, 2:] - truth[:, :2])[best]
        shift = (truth[:, :2] + truth[:, 2:])[best] / 2 - (boxes[:, :2] + boxes[:, 2:]) / 2
        targets.append(torch.cat([10 * shift / size, 5 * (true_size / size).log()], 1))
    return torch.cat(labels), torch.cat(targets)


@pytest.mark.slow
def test_lvis_run_writes_the_keys_of_the_coco_run(golden: GoldenFolder) -> None:
    """Same outputs for 1203 classes; what is not multiplied by objectness is at most 1, and above its threshold."""
    embeddings = golden.recipe.embeddings("emb/lvis1203", 1203)
    lvis = dataclasses.replace(golden, inputs=golden.inputs | {"emb_lvis1203": embeddings})
    # The key list differs from COCO's in the rows of the classifier only.
    keys = golden.keys("zs_coco_rpn")
    keys["roi_heads.box_predictor.cls_score.weight"]["shape"] = [1203, 1024]
    object.__setattr__(lvis, "keys", lambda name: keys)
    arrays = zero_shot.run(lvis, "lvis")
    assert golden.reference("zs_coco").keys() <= arrays.keys()
    assert arrays["gt_logits"].shape == (16, 1204) and len(arrays["gt_scoresA"]) == 300
    assert arrays["rpn_nomult_scoresA"].min() > 0.02 and arrays["gt_scoresA"].min() > 0.0001
    assert arrays["rpn_nomult_scoresA"].max() <= 1


@pytest.mark.slow
def test_fpn_rpn_run_writes_five_levels(golden: GoldenFolder) -> None:
    arrays = rpn.run(golden, "lvis")
    sides = [arrays[f"logits_p{level}"].shape for level in (2, 3, 4, 5, 6)]
    assert sides == [(2, 3, 512 // stride, 640 // stride) for stride in (4, 8, 16, 32, 64)]
    assert arrays["prop_boxesA"].shape == (1000, 4)
    assert (np.diff(arrays["prop_logitsA"]) <= 0).all()


def test_official_tokenizer_cleans_and_cuts_as_the_official_one() -> None:
    """A long text is cut at 77 with its end token; otherwise open_clip's tokenizer agrees."""
    tokenizer = OfficialTokenizer()
    long = tokenizer(["cat " * 90])[0]
    assert long[0] == 49406 and (long[1:] == long[1]).all() and 49407 not in long
    assert tokenizer(["cat " * 75])[0, 76] == 49407
    same = ["  Caf\u00e9&amp;amp; \n bar ", "caf\u00e9& bar"]
    first, second = tokenizer(same)
    assert torch.equal(first, second)


def test_refuses_a_folder_without_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--golden", str(tmp_path), "--run", "text", "--out", str(tmp_path / "out")]) == 2
    assert "inputs.npz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_run_of_the_issue_has_a_name() -> None:
    assert list(RUNS) == [
        "zs_coco",
        "zs_lvis",
        "ft_coco",
        "pretrain",
        "rpn_coco",
        "rpn_lvis",
        "text",
        "vit_eva",
        "vit_openai",
    ]
