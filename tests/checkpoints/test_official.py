"""Official checkpoints fill open_clip's CLIP and MMDetection's detectors strictly, each tensor in its place."""

from __future__ import annotations

import math
from pathlib import Path

import open_clip
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from regionclip.checkpoints.clip_folder import build_clip
from regionclip.checkpoints.key_maps import EVA_PARTS, KeyMap
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.official import BOX, OfficialCheckpoint, read_official
from regionclip.errors import InputError
from regionclip.models.assembly import read_config


def _open(state: dict[str, Tensor], kind: str | None = None) -> OfficialCheckpoint:
    return OfficialCheckpoint.from_state(state, "file.pth", kind)


def _build(config: str) -> nn.Module:
    """A detector on the meta device: loading compares names and shapes."""
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        return MODELS.build(read_config(config).model)


def _number(value: Tensor) -> float:
    """The one number that the tensor is made of."""
    assert value.numel() == 1 or bool((value == value.flatten()[0]).all())
    return value.flatten()[0].item()


def test_pretrained_file_fills_open_clip_with_its_student(official) -> None:
    """Every tensor of open_clip's RN50 comes from the key of its name; only counts and scale have no source."""
    state = official("pretrain")
    checkpoint = _open(state, "pretrained")
    assert checkpoint.architecture == "RN50" and checkpoint.clip_config() == open_clip.get_model_config(
        "RN50-quickgelu"
    )
    clip = build_clip(checkpoint.clip_config())
    load_strictly(clip, checkpoint.clip(), "file.pth")
    made = 0
    for key, value in clip.state_dict().items():
        source = "backbone." + key[7:] if key.startswith("visual.") else "lang_encoder." + key
        if source in state:
            assert value.flatten()[0] == state[source].flatten()[0], key
            made += 1
        else:
            assert key == "logit_scale" or (key.endswith("num_batches_tracked") and value == 0), key
    assert made == 284 + 149
    assert clip.logit_scale.item() == pytest.approx(math.log(100), rel=1e-6)


def test_teacher_is_the_other_tower_with_the_same_text_encoder(official) -> None:
    state = official("pretrain")
    teacher = _open(state).clip(teacher=True)
    assert _number(teacher["visual.layer3.1.conv2.weight"]) == _number(state["teacher_backbone.layer3.1.conv2.weight"])
    assert _number(teacher["text_projection"]) == _number(state["lang_encoder.text_projection"])


@pytest.mark.parametrize("architecture", ["RN50", "RN101", "RN50x4"])
def test_architectures_load_strictly(of_architecture, architecture: str) -> None:
    """Blocks, widths, resolutions and embedding widths, as open_clip's own configuration."""
    checkpoint = _open(of_architecture(architecture))
    assert checkpoint.architecture == architecture
    with torch.device("meta"):
        clip = open_clip.CLIP(**open_clip.get_model_config(f"{architecture}-quickgelu"))
    load_strictly(clip, checkpoint.clip(), "file.pth")
    assert checkpoint.clip_config()["quick_gelu"] and checkpoint.clip()["visual.attnpool.c_proj.weight"].shape[0] == {
        "RN50": 1024, "RN101": 512, "RN50x4": 640,
    }[architecture]  # fmt: skip


def test_openai_weights_are_read_as_they_are_published(of_architecture) -> None:
    """Half precision, with their sizes beside the weights and a learned scale of their own."""
    official = of_architecture("RN50")
    state = {key.replace("backbone.", "visual.").removeprefix("lang_encoder."): v.half() for key, v in official.items()}
    sizes = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    checkpoint = _open({**state, **sizes, "logit_scale": torch.tensor(4.5)}, "clip")
    assert set(checkpoint.unused) == set(sizes) and all(checkpoint.unused.values())
    clip = checkpoint.clip()
    assert clip["logit_scale"] == 4.5 and clip["text_projection"].dtype == torch.float32


def test_training_start_keeps_counts_scale_and_the_teachers_text_encoder(of_architecture) -> None:
    student = of_architecture("RN50")
    teacher = {f"teacher_{key}": value + 1 for key, value in student.items()}
    extra = {"logit_scale": torch.tensor(4.0), "teacher.logit_scale": torch.tensor(4.0)}
    counts = {"backbone.bn1.num_batches_tracked": torch.tensor(9)}
    checkpoint = _open({**student, **teacher, **extra, **counts}, "oai_clip")
    clip = checkpoint.clip(teacher=True)
    assert _number(clip["positional_embedding"]) == _number(student["lang_encoder.positional_embedding"]) + 1
    assert clip["logit_scale"] == 4 and list(checkpoint.unused) == ["teacher.logit_scale"]
    assert checkpoint.visual()["bn1.num_batches_tracked"] == 9
    assert checkpoint.visual(teacher=True)["bn1.num_batches_tracked"] == 0


def test_finetuned_file_fills_the_detector(official) -> None:
    state = official("ft_coco")
    checkpoint = _open(state, "finetuned")
    detector = checkpoint.detector()
    load_strictly(_build("ov_fast_rcnn_clip_rn50_c4.py"), detector, "file.pth")
    for name, key in {
        "backbone.layer3.5.conv3.weight": "backbone.layer3.5.conv3.weight",
        "roi_head.shared_head.layer4.2.bn2.running_var": "backbone.layer4.2.bn2.running_var",
        "roi_head.bbox_head.attention_pool.v_proj.weight": "backbone.attnpool.v_proj.weight",
        "roi_head.bbox_head.fc_reg.bias": "roi_heads.box_predictor.bbox_pred.bias",
        "roi_head.bbox_head.fc_cls.embeddings": "roi_heads.box_predictor.cls_score.weight",
    }.items():
        assert _number(detector[name]) == _number(state[key]), name
    heads = checkpoint.parts["heads"]
    assert heads[f"{BOX}.cls_score.weight"].shape == (48, 1024)
    assert heads[f"{BOX}.test_cls_score.weight"].shape == (65, 1024)
    assert checkpoint.rpn_architecture == "c4"


@pytest.mark.parametrize("architecture", ["RN50", "RN50x4"])
def test_lvis_detector_has_a_mask_head(official, of_architecture, architecture: str) -> None:
    """2048 channels into the mask head of RN50, 2560 of RN50x4."""
    width, channels = (1024, 2048) if architecture == "RN50" else (640, 2560)
    shapes = {
        "box_predictor.cls_score.weight": (866, width), "box_predictor.cls_bg_score.weight": (1, width),
        "box_predictor.test_cls_score.weight": (1203, width), "box_predictor.bbox_pred.weight": (4, width),
        "box_predictor.bbox_pred.bias": (4,), "mask_head.deconv.weight": (channels, 256, 2, 2),
        "mask_head.deconv.bias": (256,), "mask_head.predictor.weight": (1, 256, 1, 1), "mask_head.predictor.bias": (1,),
    }  # fmt: skip
    tower = {key: value for key, value in of_architecture(architecture).items() if key.startswith("backbone.")}
    state = tower | {f"roi_heads.{key}": torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    detector = _open(state, "finetuned").detector()
    assert detector["roi_head.mask_head.upsample.weight"].shape == (channels, 256, 2, 2)
    if architecture == "RN50":
        detector["roi_head.bbox_head.fc_cls.embeddings"] = official("ft_coco")[
            "roi_heads.box_predictor.cls_score.weight"
        ]
        load_strictly(_build("ov_mask_rcnn_clip_rn50_c4.py"), detector, "file.pth")
    del state["roi_heads.mask_head.predictor.bias"]
    with pytest.raises(InputError, match=r"key 'roi_heads\.mask_head\.predictor\.bias'.*1 missing"):
        _open(state)


@pytest.mark.parametrize("architecture", ["c4", "fpn", "fpn_lsj"])
def test_proposal_networks_fill_mmdetections(rpn, architecture: str) -> None:
    """From a file of their own with a detection head and anchors, and from inside another: the same tensors."""
    state = rpn(architecture)
    more = {
        "proposal_generator.anchor_generator.cell_anchors.0": torch.ones(3, 4),
        "roi_heads.box_head.fc1.weight": torch.ones(2, 2),
        "pixel_mean": torch.ones(3, 1, 1),
    }
    checkpoint = _open({**state, **more}, "rpn")
    assert checkpoint.architecture is None and set(checkpoint.unused) == set(more)
    weights = checkpoint.rpn()
    assert checkpoint.rpn_architecture == architecture
    load_strictly(_build(f"rpn_r50_{architecture}.py"), weights, "file.pth")
    inside = _open({f"offline_{key}": value for key, value in state.items()})
    assert inside.rpn_architecture == architecture and inside.rpn().keys() == weights.keys()
    key = "proposal_generator.rpn_head.anchor_deltas.weight"
    assert _number(weights["rpn_head.rpn_reg.weight"]) == _number(state[key])


@pytest.mark.parametrize("run", ["zs_coco_rpn", "zs_lvis_gt", "text"])
def test_every_key_list_of_the_golden_runs_is_read(official, run: str) -> None:
    checkpoint = _open(official(run))
    assert sum(map(len, checkpoint.parts.values())) == len(official(run)) and not checkpoint.unused
    assert len(checkpoint.detector()) == 284 + 55 + 3  # 55 batch norms without a count; boxes and embeddings


@pytest.mark.parametrize(
    ("run", "key", "change", "problem"),
    [
        ("pretrain", "lang_encoder.ln_final.bias", "drop", "missing; 1 missing, 0 unexpected, 0 of another shape"),
        ("pretrain", "offline_backbone.fpn_output3.bias", "drop", "1 missing"),
        ("ft_coco", "roi_heads.box_predictor.cls_score.weight", "drop", "1 missing"),
        ("pretrain", "backbone.layer5.0.conv1.weight", "add", "unexpected; 0 missing, 1 unexpected"),
        ("ft_coco", "roi_heads.res5.0.conv1.weight", "add", "1 unexpected"),
        ("ft_coco", "somewhere.else", "add", "1 unexpected"),
        ("ft_coco", "roi_heads.box_predictor.bbox_pred.bias", "cut", r"wanted \(4,\), got \(3,\)"),
        ("pretrain", "teacher_backbone.bn1.bias", "cut", r"wanted \(32,\), got \(31,\)"),
    ],
)
def test_a_tensor_missing_left_over_or_cut_is_named(official, run: str, key: str, change: str, problem: str) -> None:
    state = official(run)
    if change == "drop":
        del state[key]
    else:
        state[key] = state[key][1:] if change == "cut" else torch.ones(1)
    with pytest.raises(InputError, match=problem) as caught:
        _open(state)
    assert caught.value.key == key and caught.value.mend


@pytest.mark.parametrize(
    ("ask", "run", "problem"),
    [
        (lambda c: c.detector(), "pretrain", "this is a pretrained RegionCLIP.*wanted one with a box predictor"),
        (lambda c: c.text(), "ft_coco", "this is a fine-tuned RegionCLIP detector; wanted one with a text encoder"),
        (lambda c: c.clip(teacher=True), "ft_coco", "wanted one with a teacher"),
        (lambda c: c.rpn(), "text", "wanted one with a proposal network.*rpn_coco_48.pth"),
    ],
)
def test_a_part_that_a_file_lacks_is_refused(official, ask, run: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ask(_open(official(run)))


def test_a_proposal_network_is_no_detector(rpn) -> None:
    with pytest.raises(InputError, match="this is a region proposal network of Detectron2; wanted a fine-tuned"):
        _open(rpn("c4"), "finetuned")
    with pytest.raises(InputError, match="this is a region proposal network.*wanted one with a box predictor"):
        _open(rpn("c4")).detector()


def test_a_background_that_is_not_zero_is_refused(official) -> None:
    """Our classifier has no row for it."""
    state = official("ft_coco") | {"roi_heads.box_predictor.cls_bg_score.weight": torch.ones(1, 1024)}
    with pytest.raises(InputError, match="background's embedding is not zero"):
        _open(state).detector()


def test_files_are_read_with_their_checksum(official, tmp_path: Path) -> None:
    path = tmp_path / "any name.pth"
    torch.save({"model": official("ft_coco"), "iteration": 9}, path)
    checkpoint = read_official(path, "finetuned")
    assert len(checkpoint.sha256) == 64 and checkpoint.path == path
    with pytest.raises(InputError, match="fine-tuned RegionCLIP detector; wanted a pretrained RegionCLIP"):
        read_official(path, "pretrained")


def test_embeddings_are_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.ones(65, 4), tmp_path / "coco_65_cls_emb.pth")
    with pytest.raises(InputError, match=r"one tensor of shape \(65, 4\).*wanted a fine-tuned.*--to text-bank"):
        read_official(tmp_path / "coco_65_cls_emb.pth", "finetuned")


@pytest.mark.parametrize("architecture", ["EVA02-B-16", "EVA02-L-14", "EVA02-L-14-336"])
def test_eva_clips_load_strictly(architecture: str) -> None:
    """Under the names of the official files, rotary tables and all; a tensor that lacks is named as there."""
    with torch.device("meta"):
        clip = build_clip(open_clip.get_model_config(architecture))
        tables = torch.empty(256, 64)
    parts = (("visual.", "student."), ("logit_scale", "scale.logit_scale"), ("", "text."))
    state = EVA_PARTS.inverse().apply(KeyMap(parts).apply(clip.state_dict()))
    assert len(state) == len(clip.state_dict()) and {
        "visual.cls_token", "visual.blocks.11.attn.inner_attn_ln.weight", "visual.blocks.0.attn.q_bias",
        "visual.blocks.0.mlp.w3.bias", "visual.blocks.0.mlp.ffn_ln.bias", "visual.patch_embed.proj.bias",
        "visual.head.bias", "text.positional_embedding", "text.text_projection", "logit_scale",
    } <= state.keys()  # fmt: skip
    state |= {"visual.rope.freqs_cos": tables, "visual.blocks.3.attn.rope.freqs_sin": tables}
    checkpoint = OfficialCheckpoint.from_state(state, "EVA.pt")
    assert (checkpoint.kind, checkpoint.architecture, len(checkpoint.unused)) == ("eva_clip", architecture, 2)
    load_strictly(clip, checkpoint.clip(), "EVA.pt")
    del state["visual.blocks.5.mlp.w2.weight"]
    with pytest.raises(InputError, match=r"EVA\.pt, key 'visual\.blocks\.5\.mlp\.w2\.weight'"):
        OfficialCheckpoint.from_state(state, "EVA.pt")
