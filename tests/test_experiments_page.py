"""docs/experiments.md: every experiment is on the page, and every file, command and option on it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from regionclip.cli import build_parser
from regionclip.models.assembly import CONFIGS
from regionclip.params import load_params

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/experiments.md").read_text(encoding="utf-8").replace("\\\n", " ")
LINES = [line.strip() for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
MODELS = {"ov_fast_rcnn_clip_rn50_c4", "ov_mask_rcnn_clip_rn50_c4", "rpn_clip_rn50_c4", "rpn_r50_c4", "rpn_r50_fpn"}


def test_every_experiment_is_there() -> None:
    """Each profile, and each config that is more than a model, has its row."""
    configs = {path.stem for path in CONFIGS.glob("*.py")} - MODELS - {"rpn_r50_fpn_lsj"}
    named = set(re.findall(r"`([a-z0-9_]+)`", PAGE))
    assert {re.sub(r"(zero_shot_\w+_(gt|rpn))_rn50(x4)?$", r"\1", name) for name in configs} <= named
    assert {path.stem for path in (ROOT / "profiles").glob("*.yaml")} <= named


def test_files_exist() -> None:
    """Configs and profiles that commands name."""
    names = re.findall(r"(?:regionclip/configs|profiles)/\w+\.\w+", PAGE)
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("regionclip ")])
def test_regionclip_commands_parse(line: str) -> None:
    """The command line knows each command and its options."""
    words = line.split()[1:]
    assert build_parser().parse_args(words).stage == words[0]


def test_stages_exist() -> None:
    """What `dvc repro` and `dvc exp run` are given are stages of the graph."""
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    targets = re.findall(r"dvc (?:repro|exp run(?: -S \S+)+)((?: [a-z_]+(?:@[a-z]+)?)+)", PAGE)
    assert len(targets) > 10
    assert {target.split("@")[0] for found in targets for target in found.split()} <= stages


def test_params_exist() -> None:
    """Each param that an ablation changes, or that the text tells to set, is in a profile."""
    changed = re.findall(r"-S '?([a-z_.]+)=", PAGE) + re.findall(r"`([a-z_]+\.[a-z_.]+): ", PAGE)
    assert len(changed) > 5
    for key in changed:
        value = load_params(ROOT / "profiles" / f"pretrain_coco_rn50{'x4' if 'lvis' in key else ''}.yaml")
        for part in key.split("."):
            assert hasattr(value, part), key
            value = getattr(value, part)


@pytest.mark.parametrize("line", [line for line in LINES if "--cfg-options" in line])
def test_options_exist(line: str) -> None:
    """Each option changes a value that the config has."""
    config = Config.fromfile(ROOT / re.search(r"regionclip/configs/\w+\.py", line)[0])
    for option in line.split("--cfg-options")[1].split():
        value = config
        for part in option.split("=")[0].split("."):
            assert part.isdigit() or part in value, option
            value = value[int(part)] if part.isdigit() else value[part]
