"""compose.yaml: fits the specification, and its services, variables, addresses and ports agree with each other."""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

USED = re.compile(r"\$\{(\w+)(:[-?][^}]*)?\}")
HTTP = re.compile(r"https?://[^\s'\"}]+")


@pytest.fixture(scope="module")
def example(infra: Path) -> dict[str, str]:
    lines = (infra / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_fits_the_compose_specification(compose: dict[str, Any], infra: Path) -> None:
    package = importlib.resources.files("check_jsonschema")
    schema = json.loads((package / "builtin_schemas/vendor/compose-spec.json").read_text())
    for content in (yaml.safe_load((infra / "compose.yaml").read_text()), compose):
        assert content["services"]
        jsonschema.validate(content, schema)


def test_each_variable_is_in_the_example_and_a_secret_has_no_default(infra: Path, example: dict[str, str]) -> None:
    used = dict.fromkeys(name for name, _ in USED.findall((infra / "compose.yaml").read_text()))
    assert set(used) == set(example)
    for name, how in USED.findall((infra / "compose.yaml").read_text()):
        required = example[name] == ""
        assert how.startswith(":?") == required and (required or how == f":-{example[name]}"), name


def test_services_wait_for_services_that_exist_and_can_meet_the_condition(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            other = services[needed]
            once = other["restart"] == "on-failure"
            assert how["condition"] == ("service_completed_successfully" if once else "service_healthy"), name
            assert once or "healthcheck" in other, f"{name} waits for the health of {needed}"
            assert not other.get("profiles"), f"{name} needs {needed}, which only a profile starts"


def test_what_keeps_running_has_a_health_check_and_starts_again(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["restart"] in ("unless-stopped", "on-failure"), name
        assert ("healthcheck" in service) == (service["restart"] == "unless-stopped"), name


def test_addresses_inside_name_a_service_and_the_port_it_listens_on(compose: dict[str, Any]) -> None:
    listens = {"prefect": 4200, "mlflow": 5000, "minio": 9000, "detector": 8080}
    for name, port in listens.items():
        (published,) = compose["services"][name]["ports"]
        assert published == f"127.0.0.1:{port}:{port}"
    assert compose["services"]["prefect"]["command"][-1] == "4200"
    assert "--port=5000" in compose["services"]["mlflow"]["command"]
    seen = set()
    for name, service in compose["services"].items():
        content = [*service.get("environment", {}).items(), *enumerate(service.get("healthcheck", {}).get("test", []))]
        for key, value in content:
            for address in HTTP.findall(str(value)):
                parts = urlsplit(address)
                local = parts.hostname in ("127.0.0.1", "localhost")
                if parts.hostname == "example.org":
                    continue
                host = name if local else parts.hostname
                port = 8080 if local and name.startswith("worker") else listens[host]
                assert parts.port == port, f"{name}, {key}: {address}"
                seen.add(parts.hostname)
    assert {"prefect", "mlflow", "minio", "127.0.0.1"} <= seen
    assert "endpointurl = http://minio:9000" in compose["configs"]["dvc"]["content"]


def test_mlflow_takes_the_host_name_by_which_workers_call_it(compose: dict[str, Any]) -> None:
    called = urlsplit(compose["services"]["worker-cpu"]["environment"]["MLFLOW_TRACKING_URI"]).netloc
    (allowed,) = [a for a in compose["services"]["mlflow"]["command"] if a.startswith("--allowed-hosts=")]
    assert called in allowed.removeprefix("--allowed-hosts=").split(",")
    assert "*" not in allowed.removeprefix("--allowed-hosts=").split(",")


def test_buckets_are_those_that_mlflow_and_dvc_write_to(compose: dict[str, Any]) -> None:
    made = {argument.removeprefix("store/") for argument in compose["services"]["buckets"]["command"][2:]}
    (artifacts,) = [a for a in compose["services"]["mlflow"]["command"] if a.startswith("--artifacts-destination=")]
    (remote,) = re.findall(r"url = s3://(\S+)", compose["configs"]["dvc"]["content"])
    assert made == {artifacts.split("s3://")[1], remote}


def test_workers_serve_both_pools_with_time_to_save_and_one_volume_for_checkout_and_cache(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    assert services["worker-gpu"]["profiles"] == ["gpu"]
    (device,) = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    for pool in ("cpu", "gpu"):
        worker = services[f"worker-{pool}"]
        assert worker["command"][worker["command"].index("--pool") + 1] == pool
        assert "--with-healthcheck" in worker["command"]
        assert worker["stop_grace_period"] == "2m" and worker["init"] is True
        (mount,) = worker["volumes"]
        volume, folder = mount.split(":")
        assert volume in compose["volumes"]
        assert worker["environment"]["REGIONCLIP_WORKSPACE"].startswith(f"{folder}/")
        assert f"dir = {folder}/" in compose["configs"]["dvc"]["content"]


def test_no_secret_stands_on_a_command_line(compose: dict[str, Any], example: dict[str, str], infra: Path) -> None:
    raw = yaml.safe_load((infra / "compose.yaml").read_text())
    secret = {name for name, value in example.items() if value == ""} - {"REGIONCLIP_REPOSITORY"}
    for name, service in raw["services"].items():
        for part in ("command", "entrypoint", "healthcheck"):
            used = {variable for variable, _ in USED.findall(json.dumps(service.get(part, "")))}
            assert not used & secret, f"{name}: {part}"
