"""A workspace outside the repository runs the installed package, and knows of which version it is."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from regionclip import runtime
from regionclip.errors import InputError
from regionclip.params import load_params
from regionclip.stages.graph import read_graph
from regionclip.workspace.new import bring_up_to_date, new_workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "workspace"
    new_workspace(folder, "tiny")
    return folder


def test_its_stages_are_ours_with_the_version_in_the_place_of_code(workspace: Path) -> None:
    ours, made = read_graph(ROOT), read_graph(workspace)
    assert list(made) == list(ours)
    for name, stage in ours.items():
        kept = [dep for dep in stage.deps if not dep.startswith("regionclip/")]
        wanted = ["regionclip.version", *kept] if len(kept) < len(stage.deps) else kept
        assert sorted(made[name].deps) == sorted(wanted), name
        assert (made[name].cmd, made[name].outs, made[name].params) == (stage.cmd, stage.outs, stage.params)
    assert load_params(workspace / "params.yaml").profile == "tiny"


def test_git_and_dvc_are_its_own(workspace: Path) -> None:
    for command in (["git", "rev-parse", "--show-toplevel"], [sys.executable, "-m", "dvc", "root"]):
        said = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=True).stdout.strip()
        assert (workspace / said).resolve() == workspace.resolve()


def test_another_version_is_told_and_brought_up_to_date(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    runtime.check()
    Path("regionclip.version").write_text("0.0.1\n")
    Path("dvc.yaml").write_text("stages: {}\n")
    params = Path("params.yaml").read_text()
    with pytest.raises(InputError, match=r"regionclip.version: of regionclip 0\.0\.1, and .*`regionclip new \.`"):
        runtime.check()
    assert bring_up_to_date(Path()) == Path("dvc.yaml.before")
    assert Path("dvc.yaml.before").read_text() == "stages: {}\n", "what a user wrote there is kept"
    assert Path("regionclip.version").read_text().strip() == version("regionclip")
    assert "check_data" in yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    assert Path("params.yaml").read_text() == params
    runtime.check()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="no workspace"):
        new_workspace(tmp_path, "demo")
    with pytest.raises(InputError, match="no such profile"):
        new_workspace(tmp_path / "new", "of nobody")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_could_not_be_made_whole_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that was there and empty is the same folder, since somebody may be in it."""
    folder, path = tmp_path / "new", os.environ["PATH"]
    folder.mkdir()
    before = folder.stat().st_ino
    (tmp_path / "git").write_text("#!/bin/sh\necho no repositories here >&2\nexit 1\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{path}")
    with pytest.raises(InputError, match=r"`git init` failed \(no repositories here\)"):
        new_workspace(folder, "tiny")
    assert list(folder.iterdir()) == []
    monkeypatch.setenv("PATH", path)
    new_workspace(folder, "tiny")
    assert folder.stat().st_ino == before and (folder / "dvc.yaml").is_file()


@pytest.mark.slow
def test_a_wheel_in_a_fresh_environment_makes_one_that_runs(tmp_path: Path) -> None:
    """Its packages are those of this environment; the code is the wheel's alone."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=600)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_folder = tmp_path / "venv/bin"
    wheel = next(tmp_path.glob("regionclip-*.whl"))
    subprocess.run([bin_folder / "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    packages = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    others = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (packages / "others.pth").write_text(f"{others}\n")
    folder = tmp_path / "workspace"
    environment = {"PATH": f"{bin_folder}:{others.parents[2] / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    environment |= {"REGIONCLIP_DEVICE": "cpu", "REGIONCLIP_WORKERS": "0", "OMP_NUM_THREADS": "1"}

    def run(*command: str, cwd: Path) -> str:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python = str(bin_folder / "python")
    where = run(python, "-c", "import regionclip; print(regionclip.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(packages)
    run(python, "-m", "regionclip", "new", str(folder), "--profile", "tiny", cwd=tmp_path)
    run(python, "-m", "dvc", "repro", cwd=folder)
    assert "up to date" in run(python, "-m", "dvc", "status", cwd=folder)
    program = (
        "from pathlib import Path; from regionclip import RegionCLIP\n"
        "detector = RegionCLIP.open('.')\n"
        "print(len(detector(next(Path('data/sets/coco').rglob('*.jpg')), ['red circle', 'crown'])))"
    )
    assert int(run(python, "-c", program, cwd=folder)) >= 0
