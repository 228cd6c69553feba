"""Pseudo labels by one worker or by several: the same bytes, and every bad picture is reported once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder, build_clip, save_clip
from regionclip.checkpoints.mmengine_files import publish
from regionclip.data.captions import open_captioned_images
from regionclip.data.datasets.detection import PicturesDataset
from regionclip.data.datasets.image_text import ImageTextRegionDataset
from regionclip.data.layout import captioned_scenes
from regionclip.files import sha256_tree
from regionclip.labelling.views import RegionTeacher
from regionclip.models.assembly import build_rpn, clip_preprocessor
from regionclip.params import load_params
from regionclip.regions.matching import ConceptMatcher
from regionclip.regions.store import RegionStore
from regionclip.stages import pretrain, pseudo_labels, runner
from regionclip.text.prompts import embed_names
from regionclip.text.text_bank import TextBank
from tests.conftest import profile_yaml

ROOT = Path(__file__).parents[2]
SCENES, BROKEN = 20, 9  # scenes in three parts of eight, of which the middle one has a broken one


@pytest.fixture(scope="module")
def prepared(clip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the stage reads: pictures of noise, a teacher, an RPN and a bank, all random."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("dvc.yaml", "regionclip"):
        (folder / name).symlink_to(ROOT / name)
    params = profile_yaml("tiny")
    assert "max_fraction: 0.01" in params
    (folder / "params.yaml").write_text(params.replace("max_fraction: 0.01", "max_fraction: 0.1"))
    for empty in ("data/scenes/images", "data/scenes_truth", "data/sets/coco"):
        (folder / empty).mkdir(parents=True)
    rng, images, captions = np.random.default_rng(0), [], []
    for number in range(SCENES):
        file = folder / f"data/scenes/images/{number}.png"
        Image.fromarray(rng.integers(0, 256, (40 + number, 60, 3), np.uint8)).save(file)
        images.append({"id": number, "file_name": file.name})
        texts = "noise", f"{'much ' * (number % 3)}noise of {number}"
        captions += [{"id": 2 * number + n, "image_id": number, "caption": text} for n, text in enumerate(texts)]
    (folder / f"data/scenes/images/{BROKEN}.png").write_bytes(b"no picture")
    (folder / "data/scenes/captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    shutil.copytree(clip_path, folder / "artifacts/teacher")
    clip, dice = ClipFolder.open(clip_path), torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rpn = build_rpn(clip, load_params(folder / "params.yaml").rpn, nms_iou=0.7, proposals=5)
    publish(rpn.state_dict(), folder / "artifacts/rpn/rpn.pth", {})
    bank = torch.randn(7, clip.model_cfg["embed_dim"], generator=dice)
    TextBank(tuple("abcdefg"), bank, ("{}",), "tiny", clip.weights_sha256).save(
        folder / "artifacts/concept_bank/concepts.safetensors"
    )
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, which is the current folder; one thread everywhere, since another number rounds otherwise."""
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    for name in [key for key in os.environ if key.startswith("REGIONCLIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def whole(project: Path) -> str:
    """Checksum of the store of one worker, which is taken away with all that the worker left."""
    metrics = _run()
    assert metrics["images"] == SCENES - 1 and metrics["regions"] == 8 * (SCENES - 1) and metrics["rejected"] == 1
    store = RegionStore.open("artifacts/pseudo_labels")
    assert [shard.rows for shard in store.shards()] == [8, 7, 4]
    checksum = sha256_tree("artifacts/pseudo_labels")
    for made in ("artifacts/pseudo_labels", ".scratch", "reports"):
        shutil.rmtree(made)
    return checksum


def test_captions_lie_beside_the_regions_as_the_teacher_encodes_them(project: Path) -> None:
    """To float32's rounding: lengths differ, and so do the batches."""
    _run()
    store, clip = RegionStore.open("artifacts/pseudo_labels"), ClipFolder.open("artifacts/teacher")
    model, tokenizer = clip.model(), clip.tokenizer()
    records = [record for record in open_captioned_images(*captioned_scenes()) if int(record.key) in store]
    assert len(records) == SCENES - 1
    for record in records:
        with torch.no_grad():
            wanted = model.encode_text(tokenizer(list(record.captions))).numpy()
        found = [store[int(record.key)].features_of(caption) for caption in record.captions]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    drawn = ImageTextRegionDataset(**pretrain.training_set(load_params()))[0]["data_samples"]
    assert drawn.caption_features.tolist() in store[drawn.img_id].caption_features.tolist()


def test_another_clip_labels_and_the_teacher_encodes_the_captions(project: Path) -> None:
    """Its width is not the teacher's; the labels are those of a pipeline whose teacher it is."""
    torch.manual_seed(1)
    model_cfg = {**ClipFolder.open("artifacts/teacher").model_cfg, "embed_dim": 24}
    save_clip("other", model_cfg, build_clip(model_cfg).state_dict(), {})
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("\npseudo_labels:\n", "\npseudo_labels:\n  weights: other\n"))
    _run()
    store, other = RegionStore.open("artifacts/pseudo_labels"), ClipFolder.open("other")
    assert store.metadata["labeller_sha256"] == other.weights_sha256 != store.metadata["teacher_sha256"]
    bank = TextBank.load("artifacts/concept_bank/concepts.safetensors")
    model, sight = other.model(), load_params().pseudo_labels
    concepts = embed_names(model, other.tokenizer(), bank.names, bank.templates)
    matcher = ConceptMatcher(concepts, sight.temperature)
    teacher = RegionTeacher(model, sight.view, sight.crop_context)
    pictures = PicturesDataset([(0, Path("data/scenes/images/0.png"))], load_params().detection)
    images = clip_preprocessor(teacher.encoder)(pseudo_collate([pictures[0]]), False)["inputs"]
    scale = pictures[0]["data_samples"].scale_factor
    boxes = torch.from_numpy(store[0].boxes * np.tile(np.float32(scale), 2))
    index, probs = matcher(teacher(images, [boxes]), sight.top_k)
    np.testing.assert_array_equal(store[0].concept_index[:, 0], index[:, 0])
    np.testing.assert_allclose(store[0].concept_prob, probs, atol=1e-5)
    assert store[0].caption_features.shape[1] == ClipFolder.open("artifacts/teacher").model_cfg["embed_dim"] != 24


def _run() -> dict[str, Any]:
    return pseudo_labels.run(runner._untracked("pseudo_labels", None))


def _check_end(whole: str) -> None:
    assert sha256_tree("artifacts/pseudo_labels") == whole
    (line,) = Path("reports/rejected/pseudo_labels_rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["file"].endswith(f"{BROKEN}.png")


def test_two_processes_share_the_shards(project: Path, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side, the first shard twice; then the stage labels nothing, and its bytes are those of one worker."""
    command = [sys.executable, "-m", "regionclip", "pseudo_labels", "--shard"]
    workers = [
        subprocess.Popen([*command, shard], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for shard in ("1/2", "2/2", "1/2")
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], errors
    assert not Path("artifacts/pseudo_labels").exists() and not Path("reports").exists()
    monkeypatch.setattr(pseudo_labels, "label_regions", lambda *_: pytest.fail("something was left to label"))
    assert _run()["rejected"] == 1
    _check_end(whole)


def test_stopped_shard_goes_on_and_the_stage_makes_what_is_missing(
    project: Path, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at the eleventh picture, one of three parts is whole. A shard makes the second, the stage the third."""
    label_regions, given = pseudo_labels.label_regions, []

    def stopping(*arguments: Any) -> Iterator[Any]:
        for place, found in enumerate(label_regions(*arguments)):
            if place == 10:
                raise KeyboardInterrupt
            yield found

    def counting(*arguments: Any) -> Iterator[Any]:
        given.append(len(arguments[3]))
        return label_regions(*arguments)

    monkeypatch.setattr(pseudo_labels, "label_regions", stopping)
    with pytest.raises(KeyboardInterrupt):
        runner.run_shard("pseudo_labels", 1, 1)
    monkeypatch.setattr(pseudo_labels, "label_regions", counting)
    runner.run_shard("pseudo_labels", 2, 3)
    runner.run_shard("pseudo_labels", 2, 3)
    assert _run()["rejected"] == 1
    assert given == [8, 4]
    _check_end(whole)


def test_nothing_to_label_where_the_student_is_imported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("pretrain:\n  weights: null", "pretrain:\n  weights: student"))
    runner.run_shard("pseudo_labels", 1, 2)
    assert "pretrain.weights is given" in capsys.readouterr().out and not Path(".scratch").exists()
