"""docs/experiments.md: every experiment is on the page, and every file, command and option on it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.hours import hours
from regionclip.cli import build_parser
from tests.conftest import PAPER_PROFILES, profile_params

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/experiments.md").read_text(encoding="utf-8").replace("\\\n", " ")
LINES = [line.strip() for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_every_experiment_is_there() -> None:
    """Each profile has its row."""
    assert set(PAPER_PROFILES) <= set(re.findall(r"`([a-z0-9_]+)`", PAGE))


def test_profiles_exist() -> None:
    """Those that commands name."""
    names = re.findall(r"regionclip profile (\w+) -o", PAGE)
    assert len(names) >= 3 and set(names) <= set(PAPER_PROFILES)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("regionclip ")])
def test_regionclip_commands_parse(line: str) -> None:
    """The command line knows each command and its options."""
    words = line.partition("#")[0].split()[1:]
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
        value = profile_params(f"pretrain_coco_rn50{'x4' if 'lvis' in key else ''}")
        for part in key.split("."):
            assert part in value if isinstance(value, dict) else hasattr(value, part), key
            value = value[part] if isinstance(value, dict) else getattr(value, part)


@pytest.mark.parametrize(
    "name", [name for name in PAPER_PROFILES if re.match("(transfer|supervised|rpn|pretrain)_", name)]
)
def test_gpu_hours_are_those_of_the_measured_rates(name: str) -> None:
    """To two digits, of the stage that the experiment is about."""
    (row,) = re.findall(rf"^\| `{name}` \| .*\| ([0-9,]+)[^|]* \|$", PAGE, re.MULTILINE)
    stage = name.partition("_")[0]
    dataset = "lvis" if "lvis" in name else "coco"
    wanted = {"rpn": "rpn", "pretrain": "pretrain"}.get(stage, f"finetune@{dataset}")
    (value,) = [found.v100 for found in hours(profile_params(name)) if found.stage == wanted]
    assert float(row.replace(",", "")) == float(f"{value:.2g}")
