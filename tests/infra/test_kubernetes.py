"""Kubernetes: what kustomize makes fits the API's schemas, refers only to what exists, and locks its pods down."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.utilities.templating import apply_values

Resource = dict[str, Any]
KUSTOMIZATIONS = ("base", "overlays/gpu")


def built(folder: Path) -> list[Resource]:
    """Build a kustomization: the keys that ours use, and no others."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {
        "apiVersion",
        "kind",
        "namespace",
        "labels",
        "resources",
        "configMapGenerator",
        "generatorOptions",
        "images",
    }
    assert set(content) <= known
    found: list[Resource] = []
    for name in content["resources"]:
        path = folder / name
        found += built(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for generator in content.get("configMapGenerator", []):
        data = {file: (folder / file).read_text() for file in generator.get("files", [])}
        for file in generator.get("envs", []):
            lines = [line for line in (folder / file).read_text().splitlines() if line and not line.startswith("#")]
            data |= dict(line.split("=", 1) for line in lines)
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    tags = {image["name"]: image["newTag"] for image in content.get("images", [])}
    for resource in found:
        if resource["kind"] != "Namespace":
            resource["metadata"]["namespace"] = content["namespace"]
        for container in containers(resource):
            if container["image"] in tags:
                container["image"] += f":{tags[container['image']]}"
    return found


def pod_of(resource: Resource) -> Resource | None:
    """Return the pod's specification of a deployment or a job."""
    return resource["spec"]["template"]["spec"] if resource["kind"] in ("Deployment", "Job") else None


def containers(resource: Resource) -> list[Resource]:
    """Return all containers of a resource."""
    pod = pod_of(resource) or {}
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def job_of(folder: Path) -> Resource:
    """Return the Job that Prefect makes of the template with the defaults of its variables."""
    template = json.loads((folder / "job-template.json").read_text())
    values = {
        name: about["default"] for name, about in template["variables"]["properties"].items() if "default" in about
    }
    values |= {"name": "run", "labels": {"a": "b"}, "annotations": {}, "command": ["prefect", "flow-run", "execute"]}
    return apply_values(template["job_configuration"]["job_manifest"], values | {"env": [{"name": "A", "value": "b"}]})


@pytest.fixture(scope="module")
def resources(infra: Path) -> list[Resource]:
    """All resources of the GPU overlay, and a job of its pool."""
    folder = infra / "kubernetes/overlays/gpu"
    return [*built(folder), job_of(folder)]


def named(resources: list[Resource], kind: str) -> dict[str, Resource]:
    """Return the resources of a kind by name."""
    return {
        found["metadata"]["name"]: found for found in resources if found["kind"] == kind and "name" in found["metadata"]
    }


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_fits_the_schemas_of_kubernetes(infra: Path, folder: str) -> None:
    resources = built(infra / "kubernetes" / folder)
    assert resources, "an empty folder would fit any schema"
    for resource in resources:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_a_job_of_the_gpu_pool_fits_the_schema(infra: Path) -> None:
    job = job_of(infra / "kubernetes/overlays/gpu")
    assert job["kind"] == "Job"
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_kubectl_builds_the_same(infra: Path, folder: str) -> None:
    command = ["kubectl", "kustomize", str(infra / "kubernetes" / folder)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def plain(resource: Resource) -> Resource:
        resource["metadata"].pop("labels", None)
        return resource

    def key(resource: Resource) -> tuple[str, str]:
        return resource["kind"], resource["metadata"]["name"]

    expected = sorted(map(plain, yaml.safe_load_all(output)), key=key)
    assert sorted(map(plain, built(infra / "kubernetes" / folder)), key=key) == expected


def test_what_pods_refer_to_exists(resources: list[Resource], infra: Path) -> None:
    maps = named(resources, "ConfigMap")
    secrets = {f"regionclip-{path.stem}": path.read_text() for path in (infra / "secrets.example").glob("*.env")}
    claims, accounts = named(resources, "PersistentVolumeClaim"), named(resources, "ServiceAccount")
    for resource in [found for found in resources if pod_of(found)]:
        pod = pod_of(resource)
        assert pod.get("serviceAccountName", "worker-gpu") in accounts
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                held = maps[volume["configMap"]["name"]]["data"]
                assert all(item["key"] in held for item in volume["configMap"].get("items", []))
            elif "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in containers(resource):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
            for source in container.get("envFrom", []):
                assert source.get("configMapRef", {}).get("name", "settings") in maps
                assert source.get("secretRef", {}).get("name", "regionclip-worker") in secrets
            for variable in container.get("env", []):
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    assert f"{reference['key']}=" in secrets[reference["name"]]


def test_variables_within_values_are_defined(resources: list[Resource], infra: Path) -> None:
    for resource in resources:
        for container in containers(resource):
            known = set(named(resources, "ConfigMap")["settings"]["data"])
            known |= {variable["name"] for variable in container.get("env", [])}
            used = set(re.findall(r"\$\((\w+)\)", json.dumps([container.get("args"), container.get("env")])))
            assert used <= known, container["name"]


def test_addresses_name_a_service_and_probes_a_port(resources: list[Resource]) -> None:
    settings, services = named(resources, "ConfigMap")["settings"]["data"], named(resources, "Service")
    for name, path in {"PREFECT_API_URL": "/api", "MLFLOW_TRACKING_URI": ""}.items():
        host, port = re.fullmatch(rf"http://([\w-]+):(\d+){path}", settings[name]).groups()
        (offered,) = services[host]["spec"]["ports"]
        assert offered["port"] == int(port)
        target = named(resources, "Deployment")[host]
        assert services[host]["spec"]["selector"].items() <= target["spec"]["template"]["metadata"]["labels"].items()
        assert offered["targetPort"] in {p["name"] for c in containers(target) for p in c["ports"]}
    for resource in named(resources, "Deployment").values():
        for container in resource["spec"]["template"]["spec"]["containers"]:
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] in ports


def test_pods_have_no_rights_that_they_do_not_need(resources: list[Resource]) -> None:
    for resource in [found for found in resources if pod_of(found)]:
        pod = pod_of(resource)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.get("automountServiceAccountToken") is False or pod["serviceAccountName"] == "worker-gpu"
        # Otherwise each service adds variables, of which Prefect would take PREFECT_PORT and the like for settings.
        assert pod["enableServiceLinks"] is False
        for container in containers(resource):
            locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == locked
            assert {"requests", "limits"} <= set(container["resources"])
            assert re.search(r":\d+\.\d+\.\d+$", container["image"])


def test_a_gpu_run_has_a_gpu_the_shared_volume_and_time_to_save(infra: Path) -> None:
    job = job_of(infra / "kubernetes/overlays/gpu")
    pod, (container,) = pod_of(job), containers(job)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["terminationGracePeriodSeconds"] >= 60 and pod["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0, "Prefect retries, not Kubernetes"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    settings = {name: data for name, data in _settings(infra).items() if name.startswith(("REGIONCLIP", "DVC_S"))}
    assert settings["REGIONCLIP_WORKSPACE"].startswith(mounts["work"])
    assert settings["DVC_SYSTEM_CONFIG_DIR"] == mounts["files"]
    assert f"dir = {mounts['work']}/" in (infra / "kubernetes/base/dvc.config").read_text()


def test_each_variable_of_the_job_template_is_used(infra: Path) -> None:
    template = json.loads((infra / "kubernetes/overlays/gpu/job-template.json").read_text())
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])


def test_the_settings_and_the_log_in_are_those_of_compose(infra: Path, compose: dict[str, Any]) -> None:
    settings = _settings(infra)
    for name, value in compose["services"]["worker-cpu"]["environment"].items():
        if name in settings and "://" not in value:
            assert settings[name] == value, name
    assert (infra / "kubernetes/base/auth.ini").read_text() == (infra / "mlflow/auth.ini").read_text()
    for name in ("prefect", "mlflow"):
        (container,) = containers(named(built(infra / "kubernetes/base"), "Deployment")[name])
        hosts = [argument for argument in container["args"] if not argument.startswith("--allowed-hosts")]
        assert hosts == [a for a in compose["services"][name]["command"] if not a.startswith("--allowed-hosts")]


def _settings(infra: Path) -> dict[str, str]:
    lines: Iterator[str] = iter((infra / "kubernetes/base/settings.env").read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
