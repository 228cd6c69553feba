"""The workflow for GitHub fits its schema, calls what there is, and its summary of a change can be made."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ".github/workflows/ci.yaml"


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    # YAML 1.1 takes the key "on" for true.
    workflow = {{True: "on"}.get(key, key): value for key, value in yaml.safe_load((ROOT / FILE).read_text()).items()}
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/github-workflows.json"
    jsonschema.validate(workflow, json.loads(schema.read_text()))
    return workflow["jobs"]["check"]["steps"]


def test_it_calls_targets_that_the_makefile_has(steps: list[dict[str, Any]]) -> None:
    targets = [step["run"].split()[1] for step in steps if step.get("run", "").startswith("make ")]
    assert targets == ["lint", "demo", "test"]
    assert set(targets) <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def test_the_summary_of_a_change_names_the_metric_and_the_param(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    clone, summary = tmp_path / "clone", tmp_path / "summary.md"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    (clone / ".venv/bin").parent.mkdir()
    (clone / ".venv/bin").symlink_to(Path(sys.executable).parent)
    for file, old, new in (
        ("params.yaml", "seed: 1", "seed: 7"),
        ("reports/summary.json", '"seed": 1', '"seed": 7'),
    ):
        text = (clone / file).read_text()
        assert old in text
        (clone / file).write_text(text.replace(old, new, 1))
    script = next(step["run"] for step in steps if step.get("name") == "What changes in the numbers")
    environment = {**os.environ, "BASE": "HEAD", "GITHUB_STEP_SUMMARY": str(summary), "DVC_NO_ANALYTICS": "1"}
    subprocess.run(["bash", "-e", "-c", script], cwd=clone, env=environment, check=True, timeout=120)
    said = summary.read_text()
    assert re.search(r"summary\.json +\| seed +\| 1 +\| 7 +\| 6 +\|", said)
    assert re.search(r"params\.yaml +\| seed +\| 1 +\| 7 +\|", said)
    assert (clone / "reports/summary.md").read_text() in said
    assert "Loss by step" in (clone / "plots/index.html").read_text()
