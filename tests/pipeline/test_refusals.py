"""Bad input stops a stage with file, key and mend, and leaves every output as it was."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from regionclip import cli
from regionclip.checkpoints.clip_folder import WEIGHTS, ClipFolder, build_clip
from regionclip.checkpoints.mmengine_files import publish, read
from regionclip.files import sha256_tree
from regionclip.text.text_bank import TextBank

TRAIN_BOXES = Path("data/sets/coco/annotations/train.json")
NAMES = {
    "text_bank": "artifacts/text_bank",
    "rpn": "artifacts/rpn",
    "pseudo_labels": "artifacts/pseudo_labels",
    "pretrain": "artifacts/pretrain",
    "zero_shot": "reports/metrics/zero_shot_coco.json",
    "finetune": "artifacts/finetune/coco",
    "evaluate": "artifacts/evaluate/coco",
}
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished pipeline to spoil; the current folder."""
    monkeypatch.chdir(outputs)
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return outputs


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """A function that runs ``regionclip`` here and returns its exit code and the last line of its errors."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> tuple[int, str]:
        if arguments[0] in cli.BY_DATASET:
            arguments = (*arguments, "--dataset", "coco")
        code = cli.main(arguments)
        return code, capsys.readouterr().err.strip().splitlines()[-1]

    yield call
    signal.signal(signal.SIGTERM, handler)


def assert_refused(run: Run, stage: str, *, code: int, file: str, key: str, problem: str = "") -> None:
    """Assert that a stage stops in good order and changes nothing."""
    before = sha256_tree(NAMES[stage]) if stage in NAMES else None
    got, message = run(stage)
    assert got == code, message
    assert message.startswith(f"regionclip {stage}: {file}") and re.search(problem, message), message
    assert f"key '{key}'" in message and "To mend: " in message, message
    if before:
        assert sha256_tree(NAMES[stage]) == before
    half_written = [path for root in ("artifacts", "data", "reports") for path in Path(root).rglob(".*")]
    # The graph keeps `.none` in folders for the sums of raw data.
    assert [path for path in half_written if path.name not in (".gitignore", ".none")] == []


def _edit_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _plant_novel_box(content: dict[str, Any]) -> None:
    """Make the first training box a ring, category 3, which is novel."""
    content["annotations"][0]["category_id"] = 3
    content["categories"].append({"id": 3, "name": "ring", "supercategory": "shape"})


@pytest.mark.parametrize("stage", ["check_data", "rpn", "finetune"])
def test_planted_novel_box_stops_everything_that_could_learn_from_it(run: Run, stage: str) -> None:
    _edit_json(TRAIN_BOXES, _plant_novel_box)
    assert_refused(run, stage, code=3, file=str(TRAIN_BOXES), key="category_id", problem="(annotation|id) 2, .*ring")


def test_truncated_picture_is_named(run: Run) -> None:
    picture = Path("data/scenes/images/000000000003.jpg")
    picture.write_bytes(picture.read_bytes()[:700])
    code, message = run("check_data")
    assert code == 3 and str(picture) in message and "To mend: " in message
    results = json.loads(Path("reports/checks/check_data.json").read_text())["results"]
    assert {result["artefact"] for result in results if not result["success"]} == {"scenes"}


def test_missing_key_is_named(run: Run) -> None:
    file = Path("data/sets/coco/annotations/val.json")
    _edit_json(file, lambda content: content["annotations"][4].pop("bbox"))
    assert_refused(run, "check_data", code=3, file=str(file), key="bbox")


def test_empty_caption_is_named(run: Run) -> None:
    file = Path("data/scenes/captions.json")
    _edit_json(file, lambda content: content["annotations"][5].update(caption="  "))
    assert_refused(run, "check_data", code=3, file=str(file), key="caption", problem="empty caption")


@pytest.mark.parametrize("stage", ["text_bank", "rpn", "zero_shot", "finetune"])
def test_teacher_of_another_architecture_is_refused(run: Run, stage: str) -> None:
    """The weights are those of a narrower CLIP than open_clip_config.json beside them says."""
    path = _swap_teacher()
    assert_refused(run, stage, code=2, file=str(path), key="visual.attnpool.c_proj.weight", problem="another shape")


@pytest.mark.parametrize("stage", ["pseudo_labels", "pretrain"])
def test_bank_of_another_teacher_is_refused(run: Run, stage: str) -> None:
    """These compare with the teacher's concepts, so they see first that the concepts are not its own."""
    _swap_teacher()
    assert_refused(run, stage, code=2, file="artifacts/concept_bank/concepts.safetensors", key="weights_sha256")


def _swap_teacher() -> Path:
    clip = ClipFolder.open("artifacts/teacher")
    narrow = clip.model_cfg["vision_cfg"] | {"width": 8}
    state = build_clip(clip.model_cfg | {"vision_cfg": narrow}).state_dict()
    save_file(state, clip.path / WEIGHTS)
    return clip.path / WEIGHTS


def _bank(name: str) -> str:
    return f"artifacts/{'concept' if name == 'concepts' else 'text'}_bank/{name}.safetensors"


@pytest.mark.parametrize("stage", ["pseudo_labels", "pretrain", "zero_shot", "finetune", "evaluate"])
def test_bank_of_another_width_is_refused(run: Run, stage: str) -> None:
    for name in ("concepts", "coco"):
        bank = TextBank.load(_bank(name))
        wide = torch.cat([bank.embeddings, bank.embeddings], dim=1)
        TextBank(bank.names, wide, bank.templates, bank.text_model, bank.weights_sha256).save(bank.source)
    file = _bank("concepts" if stage.startswith("p") else "coco")
    assert_refused(run, stage, code=2, file=file, key="embeddings", problem="width 64, wanted 32")


@pytest.mark.parametrize(
    ("stage", "file", "key"),
    [
        ("pseudo_labels", "artifacts/rpn/rpn.pth", "bbox_head.rpn_reg.weight"),
        ("evaluate", "artifacts/finetune/coco/clip.pth", "roi_head.bbox_head.fc_reg.weight"),
    ],
)
def test_detector_of_another_architecture_is_refused(run: Run, stage: str, file: str, key: str) -> None:
    state, meta = read(file)
    publish(state | {key: state[key].repeat(2, *[1] * (state[key].ndim - 1))}, file, meta)
    assert_refused(run, stage, code=2, file=file, key=key, problem="another shape")


def test_pseudo_labels_of_another_bank_are_refused(run: Run) -> None:
    """A bank that was made anew has other rows than those that the pseudo labels index."""
    bank = TextBank.load("artifacts/concept_bank/concepts.safetensors")
    moved = bank.embeddings + 0.01
    TextBank(bank.names, moved, bank.templates, bank.text_model, bank.weights_sha256).save(bank.source)
    assert_refused(run, "pretrain", code=2, file="artifacts/pseudo_labels", key="bank_sha256")


def test_absent_input_is_named(run: Run) -> None:
    Path("artifacts/rpn/rpn.pth").unlink()
    Path("artifacts/rpn").rmdir()
    code, message = run("pseudo_labels")
    assert code == 2 and message == (
        "regionclip pseudo_labels: artifacts/rpn: the input does not exist. To mend: run `dvc repro pseudo_labels`."
    )


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        (lambda params: params["pretrain"].update(learning_rte=1), "pretrain.learning_rte", "unknown key"),
        (lambda params: params["rpn"]["schedule"].pop("iterations"), "rpn.schedule.iterations", "the key is missing"),
        (lambda params: params["pretrain"].update(max_size="big"), "pretrain.max_size", "integer; got 'big'"),
        (lambda params: params["zero_shot"].update(score_mode="x"), "zero_shot.score_mode", "'official' or 'sigmoid'"),
    ],
)
def test_wrong_params_are_named(run: Run, change: Callable[[Any], None], key: str, problem: str) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    change(params)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert_refused(run, "pretrain", code=2, file="params.yaml", key=key, problem=problem)
