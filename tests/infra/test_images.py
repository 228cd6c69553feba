"""Dockerfiles: pinned bases, no root, packages from the lock; what `COPY` names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = sorted((ROOT / "infra/images").glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile and what stands behind them, continued lines joined."""
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_there_is_an_image_for_servers_and_one_for_workers() -> None:
    assert [path.stem for path in IMAGES] == ["servers", "worker"]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_bases_are_pinned_and_the_image_does_not_run_as_root(path: Path) -> None:
    written = instructions(path)
    for base in [rest.split()[0] for name, rest in written if name == "FROM"]:
        tag = base.rpartition(":")[2]
        assert ":" in base and re.search(r"\d+\.\d+\.\d+", tag), f"{base} is not pinned"
    users = [rest for name, rest in written if name == "USER"]
    assert users and users[-1] not in ("root", "0")
    after = written[max(i for i, (name, _) in enumerate(written) if name == "USER") :]
    assert not [rest for name, rest in after if name in ("RUN", "ADD")]
    assert "ADD" not in dict(written)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_what_is_copied_exists_and_packages_come_from_the_lock(path: Path) -> None:
    for name, rest in instructions(path):
        if name == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
        if name == "RUN" and "uv pip install" in rest:
            assert "--constraint /tmp/requirements.lock" in rest or "--no-deps" in rest


def test_uv_is_that_of_the_makefile_and_python_that_of_the_project() -> None:
    version = re.search(r"UV_VERSION := (\S+)", (ROOT / "Makefile").read_text())[1]
    for path in IMAGES:
        assert f"ghcr.io/astral-sh/uv:{version} " in path.read_text()
        assert re.search(r"(python:|--python )3\.11\.", path.read_text())


def test_the_servers_install_only_what_the_lock_pins() -> None:
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    (command,) = [rest for name, rest in instructions(IMAGES[0]) if "uv pip install" in rest]
    wanted = set(command.split("requirements.lock", 1)[1].split())
    assert {"prefect", "mlflow", "asyncpg", "psycopg2-binary", "boto3", "flask-wtf"} <= wanted
    assert {package for package in wanted if "==" not in package} <= pinned


def test_the_worker_s_cuda_is_that_of_torch() -> None:
    major = re.search(r"^nvidia-cuda-runtime==(\d+)\.", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
    assert f"nvidia/cuda:{major}." in IMAGES[1].read_text()
