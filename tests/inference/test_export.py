"""What is exported to ONNX finds in onnxruntime what the models find, and says all that its user has to know."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from PIL import Image
from torch import Tensor

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.datasets import detection as pipelines
from regionclip.engine.detection import trained_detector
from regionclip.errors import InputError
from regionclip.inference import export
from regionclip.inference.files import DetectorFiles, workspace_files
from regionclip.labelling.proposals import trained_rpn, valid_regions
from regionclip.mmcv_ops import nms, soft_nms
from regionclip.models.assembly import build_rpn

WIDTH = 32  # D of the tiny CLIP


@torch.library.impl("regionclip::nms_mask", "CPU")
def nms_mask(boxes: Tensor, scores: Tensor, most: int, iou: float, above: float) -> Tensor:
    """What the ONNX operators of that name do, so that graphs run before they are exported."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for picture, of_picture in enumerate(scores):
        for label, of_class in enumerate(of_picture):
            rows = (of_class > above).nonzero()[:, 0]
            stay = nms(boxes[picture, rows], of_class[rows], iou, 0)[:most]
            kept[picture, label, rows[stay]] = True
    return kept


@dataclasses.dataclass
class Models:
    """A detector as `export_onnx` takes it."""

    files: DetectorFiles
    rpn: BaseModel
    detector: BaseModel

    def see(self, pixels: np.ndarray, text: Tensor) -> tuple[Tensor, np.ndarray, InstanceData]:
        """Search a picture, RGB (H, W, 3), as the pipeline does: what models see, its scale, what they find."""
        size = pipelines.test_resize(self.files.params.detection)
        steps = [size, {"type": "PackDetInputs", "meta_keys": pipelines.META_KEYS}]
        with DefaultScope.overwrite_default_scope("mmdet"):
            load, resize, pack = Compose([{"type": "LoadImageFromNDArray"}, *steps]).transforms
            broadcast = Compose([{"type": "ProposalBroadcaster", "transforms": [size]}]).transforms[0]
        record = load({"img": np.ascontiguousarray(pixels[..., ::-1])})
        self.detector.roi_head.bbox_head.fc_cls.set_vocabulary(text)
        with torch.inference_mode():
            seen = pack(resize(dict(record)))
            boxes, logits = valid_regions(self.rpn.test_step(pseudo_collate([dict(seen)]))[0])
            most = self.files.params.detection.test_proposals
            proposals = {"proposals": boxes[:most], "proposals_scores": logits[:most]}
            packed = pseudo_collate([pack(broadcast({**record, **proposals}))])
            found = self.detector.test_step(packed)[0].pred_instances
        return seen["inputs"].flip(0).float(), np.tile(seen["data_samples"].scale_factor, 2), found


def models(workspace: Path, settings: dict[str, Any] | None = None, architecture: str = "clip_c4") -> Models:
    """The workspace's detector, made less sure of one name, with other settings of its data set."""
    files = workspace_files(workspace, "coco", "regionclip")
    finetune = files.params.finetune
    target = finetune.sets["coco"].model_copy(update={"score_threshold": 0.01, **(settings or {})})
    finetune = finetune.model_copy(update={"sets": {"coco": target}, "temperature": 0.3})
    files = dataclasses.replace(files, params=files.params.model_copy(update={"finetune": finetune}))
    clip, rpn = ClipFolder.open(files.clip), files.params.rpn.model_copy(update={"architecture": architecture})
    limits = {"nms_iou": rpn.nms_iou, "proposals": rpn.proposals}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        own = architecture != "clip_c4"
        proposer = build_rpn(clip, rpn, **limits) if own else trained_rpn(files.rpn, clip, rpn, **limits)
    detector = trained_detector(files.detector, clip, finetune, "coco")
    return Models(files, proposer.eval(), detector.eval())


def pictures(number: int, height: int, width: int) -> list[np.ndarray]:
    """Pictures of noise in large patches, RGB (H, W, 3)."""
    rng = np.random.default_rng(height)
    patches = (Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)) for _ in range(number))
    return [np.asarray(one.resize((width, height), Image.Resampling.NEAREST)) for one in patches]


def texts(number: int) -> Tensor:
    """Text embeddings, of all sorts of norms."""
    return torch.randn(number, WIDTH, generator=torch.Generator().manual_seed(number)) * 3


@pytest.fixture(scope="module")
def trained(workspace: Path) -> Models:
    """The detector that is exported."""
    return models(workspace, {"score_mode": "sigmoid"})


@pytest.fixture(scope="module")
def folder(trained: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it was exported to; that takes half a minute."""
    path = tmp_path_factory.mktemp("export") / "onnx"
    export.export_onnx(trained.files, trained.rpn, trained.detector, path)
    return path


@pytest.fixture(scope="module")
def session(folder: Path) -> onnxruntime.InferenceSession:
    """The detector in onnxruntime."""
    return onnxruntime.InferenceSession(folder / "detector.onnx")


def require_same(found: list[np.ndarray], place: int, scale: np.ndarray, wanted: InstanceData) -> None:
    """Compare the detections of a picture; boxes in its pixels."""
    boxes, scores, labels, count = (output[place] for output in found)
    assert count == len(wanted) > 0
    assert labels[:count].tolist() == wanted.labels.tolist()
    np.testing.assert_allclose(scores[:count], wanted.scores, atol=1e-4)
    np.testing.assert_allclose(boxes[:count] / scale, wanted.bboxes, atol=1e-4)
    assert not scores[count:].any() and not boxes[count:].any() and (labels[count:] == -1).all()


@pytest.mark.parametrize("names", [1, 3, 7])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(120, 160), (200, 96), (8, 900)])
def test_finds_the_same(
    session: onnxruntime.InferenceSession, trained: Models, size: tuple[int, int], batch: int, names: int
) -> None:
    """Boxes, scores and labels are those of the models, for any size, number of pictures and of names.

    The last size gives a map one row high, with fewer anchors than the RPN takes.
    """
    text = texts(names)
    seen, scales, wanted = zip(*(trained.see(one, text) for one in pictures(batch, *size)), strict=True)
    found = session.run(None, {"images": torch.stack(seen).numpy(), "text_embeddings": text.numpy()})
    for place in range(batch):
        require_same(found, place, scales[place], wanted[place])


@pytest.mark.parametrize("number", [0, 1, 5])
def test_region_features(folder: Path, trained: Models, number: int) -> None:
    """Features of boxes of several pictures are those of the detector's own parts."""
    images = torch.stack([trained.see(one, texts(3))[0] for one in pictures(2, 120, 160)])
    boxes = torch.tensor(
        [[1, 3, 2, 60, 90], [0, 0, 0, 170, 127], [1, 40, 40, 44, 43], [0, 9, 9, 9, 9], [0, 5, 1, 99, 9]]
    )
    boxes = boxes[:number].float()
    head = trained.detector.roi_head
    with torch.inference_mode():
        prep = trained.detector.data_preprocessor
        maps = trained.detector.extract_feat((images - prep.mean) / prep.std)
        pooled = head.shared_head(head.bbox_roi_extractor(maps, boxes))
        wanted = head.bbox_head.attention_pool(pooled) if number else torch.zeros(0, WIDTH)
    features = onnxruntime.InferenceSession(folder / "region_features.onnx")
    found = features.run(None, {"images": images.numpy(), "boxes": boxes.numpy()})[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "architecture"),
    [
        ({"score_mode": "none"}, "clip_c4"),
        ({"score_mode": "none", "fusion": None}, "clip_c4"),
        ({"score_mode": "official", "fusion": None, "box_voting": None}, "clip_c4"),
        ({"score_mode": "sigmoid", "max_detections": 3}, "clip_c4"),
        ({"score_mode": "sigmoid"}, "r50_fpn"),
    ],
)
def test_every_kind_of_detector(workspace: Path, settings: dict[str, Any], architecture: str) -> None:
    """Score modes, limits, and an RPN of five levels that pads and reads BGR: the graph finds what the models find."""
    own, text = models(workspace, settings, architecture), texts(3)
    seen, scale, wanted = own.see(pictures(1, 120, 160)[0], text)
    graph = export._Detector(own.rpn, own.detector, own.files.params.detection.test_proposals)
    with torch.inference_mode():
        require_same([output.numpy() for output in graph(seen[None], text)], 0, scale, wanted)


def test_soft_nms_is_left_to_the_user(workspace: Path) -> None:
    """All proposals come with their scores; threshold and soft-NMS, as the README says, give the detections."""
    own, text = models(workspace, {"nms": "soft", "score_mode": "sigmoid"}), texts(3)
    seen, scale, wanted = own.see(pictures(1, 120, 160)[0], text)
    graph = export._Detector(own.rpn, own.detector, own.files.params.detection.test_proposals)
    with torch.inference_mode():
        boxes, scores = (output[0] for output in graph(seen[None], text))
    rows, labels = (scores > 0.01).nonzero(as_tuple=True)
    most = own.files.params.finetune.sets["coco"].max_detections
    kept, found = soft_nms(boxes[rows], scores[rows, labels], labels, most, sigma=0.5, method="gaussian")
    assert labels[kept].tolist() == wanted.labels.tolist()
    torch.testing.assert_close(found, wanted.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes[rows][kept] / scale, wanted.bboxes.double(), atol=1e-4, rtol=0, check_dtype=False)
    readme = export._readme(export._facts(own.files, own.detector))
    assert "proposal_scores" in readme and "`regionclip.mmcv_ops.soft_nms`, method gaussian, sigma 0.5" in readme


def test_wrong_inputs_end_in_onnxruntimes_words(session: onnxruntime.InferenceSession) -> None:
    """Another width, another number of channels or type, an input that is missing."""
    images, text = np.zeros((1, 3, 128, 128), np.float32), texts(3).numpy()
    for inputs, problem in [
        ({"images": images, "text_embeddings": text[:, :8]}, "text_embeddings.*\n.* Got: 8 Expected: 32"),
        ({"images": images[:, :1], "text_embeddings": text}, "images.*\n.* Got: 1 Expected: 3"),
        ({"images": images.astype(np.uint8), "text_embeddings": text}, "Unexpected input data type"),
    ]:
        with pytest.raises(InvalidArgument, match=problem):
            session.run(None, inputs)
    with pytest.raises(ValueError, match="text_embeddings"):
        session.run(None, {"images": images})


def test_says_what_it_is(session: onnxruntime.InferenceSession, trained: Models, folder: Path) -> None:
    """Metadata tell sizes, settings and the CLIP; axes have names; no path of the machine that wrote it is in it."""
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["dataset"], facts["score_mode"], facts["test_short_side"]) == ("coco", "sigmoid", "128")
    assert facts["clip_sha256"] == ClipFolder.open(trained.files.clip).weights_sha256
    assert facts["mean"].startswith("[122.77") and facts["embedding_width"] == "32"
    assert session.get_modelmeta().producer_name == "regionclip"
    inputs, outputs = ({one.name: one.shape for one in ends} for ends in (session.get_inputs(), session.get_outputs()))
    assert inputs == {"images": ["batch", 3, "height", "width"], "text_embeddings": ["classes", 32]}
    assert outputs["boxes"] == ["batch", 20, 4] and outputs["count"] == ["batch"]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "detector.onnx", "region_features.onnx"]
    assert str(Path(export.__file__).parents[2]).encode() not in (folder / "detector.onnx").read_bytes()


@pytest.mark.parametrize("size", [(77, 181), (900, 8)])
def test_readme_runs_without_torch(folder: Path, trained: Models, tmp_path: Path, size: tuple[int, int]) -> None:
    """Its code, run in the folder with a picture and embeddings, gives the pipeline's detections of the picture."""
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    picture, text = pictures(1, *size)[0], texts(3)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    np.save(tmp_path / "text_embeddings.npy", text.numpy())
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    code += "import sys\nassert 'torch' not in sys.modules\nnp.savez('found.npz', boxes=boxes, scores=scores[:count])\n"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found, wanted = np.load(tmp_path / "found.npz"), trained.see(picture, text)[2]
    assert len(wanted) == len(found["boxes"]) > 0
    np.testing.assert_allclose(found["boxes"], wanted.bboxes, atol=1e-4 * max(size))
    np.testing.assert_allclose(found["scores"], wanted.scores, atol=1e-4)


def test_missing_packages_are_named(trained: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the message says what to install; nothing is left behind."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install 'regionclip\[export\]'"):
        export.export_onnx(trained.files, trained.rpn, trained.detector, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())
