"""What is rendered for Kubernetes is valid, runs without privileges, holds no secret, and has room for what the config asks for."""

import json
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cgd_ray.cli import main
from cgd_ray.cluster.rendering import render
from cgd_ray.config import Config, read_config

KUBERNETES = "1.32"
RECIPE = "jobs/configs/recipes/llama31_8b_published.yaml"
GIVEN = ("image=registry.example/cgd@sha256:0a", "storage=shared-storage")


def manifests(*values: str, config: str = RECIPE, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Each kind's manifest."""
    text = render(read_config(config, overrides), "kuberay", [*GIVEN, *values])
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def cluster_of(found: dict[str, Any]) -> dict[str, Any]:
    cluster: dict[str, Any] = found["RayJob"]["spec"]["rayClusterSpec"]
    return cluster


def pods(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What each group's pods are made from, as pods."""
    cluster = cluster_of(found)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        template = group["template"]
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": "p"}, "spec": template["spec"]}


def problems(found: dict[str, Any]) -> list[str]:
    """What Kubernetes itself says of its own kinds, with unknown fields refused, and the rules of the restricted Pod Security profile."""
    said = []
    for manifest in (found["ConfigMap"], found["NetworkPolicy"], *pods(found)):
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            said.append(f"{manifest['kind']}: {error.message}")
    for pod in pods(found):
        said += unrestricted(pod["spec"])
    scaler = cluster_of(found)["autoscalerOptions"]
    return said + unrestricted_container({"name": "autoscaler", **scaler})


def unrestricted(spec: dict[str, Any]) -> list[str]:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and a file system that nobody writes."""
    said = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser") == 0:
        said.append("runs as root")
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        said.append("no seccomp profile")
    allowed = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    said += [f"volume {volume['name']} of another kind" for volume in spec["volumes"] if not volume.keys() <= allowed]
    return said + [problem for container in spec["containers"] for problem in unrestricted_container(container)]


def unrestricted_container(container: dict[str, Any]) -> list[str]:
    security = container.get("securityContext", {})
    rules = {
        "may escalate privileges": security.get("allowPrivilegeEscalation") is False,
        "keeps capabilities": security.get("capabilities") == {"drop": ["ALL"]},
        "writes its image": security.get("readOnlyRootFilesystem") is True,
        "is privileged": not security.get("privileged"),
        "has no limits": bool(container.get("resources", {}).get("limits")),
        "has host ports": not any("hostPort" in port for port in container.get("ports", [])),
    }
    return [f"{container['name']} {problem}" for problem, holds in rules.items() if not holds]


def test_the_published_recipe_is_valid_and_restricted() -> None:
    assert problems(manifests("queue=research", "secrets={HF_TOKEN: hub/token}", "token_secret=ray-token")) == []


def test_groups_have_room_for_what_the_config_may_use_and_begin_with_nothing() -> None:
    found = manifests("gpus_per_node=4")
    groups = {group["groupName"]: group for group in cluster_of(found)["workerGroupSpecs"]}
    limits = {name: group["template"]["spec"]["containers"][0]["resources"]["limits"] for name, group in groups.items()}
    assert {name: (group["maxReplicas"], limits[name]["nvidia.com/gpu"]) for name, group in groups.items()} == {
        "student": (8, "1"),
        "teacher": (1, "8"),
        "trainer": (4, "4"),
    }
    assert {group["minReplicas"] for group in groups.values()} == {0}
    assert "cluster.max_resources={CPU: 264, GPU: 32}" in found["RayJob"]["spec"]["entrypoint"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("teacher.placement={min_replicas: 2, max_replicas: 2, gpus_per_replica: 8, nodes_per_replica: 2}",), ("teacher", 4, "8")),
        (("student.placement={max_replicas: 4, gpus_per_replica: 0.5}", "student.engine={}"), ("student", 2, "1")),
        (("student.placement={max_replicas: 24, gpus_per_replica: 0}", "student.engine={}"), ("student", 3, None)),
        (("training.num_workers=[2, 12]",), ("trainer", 2, "8")),
        (("training.use_gpu=false", "training.num_workers=2"), ("trainer", 1, None)),
    ],
)
def test_each_placement_gets_nodes_that_fit_it(overrides: tuple[str, ...], expected: tuple[str, int, str | None]) -> None:
    found = manifests(overrides=overrides)
    assert problems(found) == []
    (group,) = [group for group in cluster_of(found)["workerGroupSpecs"] if group["groupName"] == expected[0]]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (group["groupName"], group["maxReplicas"], limits.get("nvidia.com/gpu")) == expected


def test_the_pods_hold_the_run_that_was_asked_for() -> None:
    found = manifests(overrides=("training.num_epochs=2",))
    held = Config.model_validate(yaml.safe_load(found["ConfigMap"]["data"]["job.yaml"]))
    assert held == read_config(RECIPE, ["training.num_epochs=2"])


def test_secrets_are_named_and_the_token_is_wanted() -> None:
    found = manifests("secrets={HF_TOKEN: hub/token}")
    for pod in pods(found):
        (variable,) = [variable for variable in pod["spec"]["containers"][0]["env"] if variable["name"] == "HF_TOKEN"]
        assert variable["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert cluster_of(found)["authOptions"] == {"mode": "token"}


def test_a_teacher_elsewhere_has_no_nodes_and_its_key_is_wanted(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["cluster", "render", "jobs/configs/recipes/qwen25_math_7b_api.yaml", "run_dir=/shared/runs/api", "--kind", "kuberay"]
    arguments += [word for value in GIVEN for word in ("--set", value)]
    assert main(arguments) == 2
    key = read_config("jobs/configs/recipes/qwen25_math_7b_api.yaml").teacher.api
    assert key is not None
    assert capfd.readouterr().err == (
        f"cgd: teacher.api.key_variable is {key.key_variable}, which no pod has; set secrets={{{key.key_variable}: SECRET/KEY}}\n"
    )
    assert main([*arguments, "--set", f"secrets={{{key.key_variable}: provider/key}}"]) == 0
    found = {document["kind"]: document for document in yaml.safe_load_all(capfd.readouterr().out)}
    assert [group["groupName"] for group in cluster_of(found)["workerGroupSpecs"]] == ["student", "trainer"]
    assert problems(found) == []


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        (("storage=s",), (), "cgd: setting image is missing; give image=VALUE\n"),
        ((*GIVEN, "iamge=x"), (), "cgd: unknown setting iamge; did you mean image?\n"),
        ((*GIVEN, "name=Not_a_name"), (), "cgd: setting name is 'Not_a_name': "),
        ((*GIVEN, "secrets={HF_TOKEN: hf_abc}"), (), "cgd: config: secrets has 'HF_TOKEN', which is not of the form VARIABLE: SECRET/KEY"),
        (GIVEN, ("run_dir=runs/x",), "cgd: run_dir runs/x is relative"),
        (GIVEN, ("run_dir=/elsewhere/x",), "cgd: run_dir /elsewhere/x is not in /shared, which all nodes mount; move it there"),
        (GIVEN, ("problems.path=README.md",), "cgd: problems.path README.md is a file of this machine, and the run is elsewhere"),
        ((*GIVEN, "node_selector={writer: {a: b}}"), (), "cgd: node_selector names 'writer'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    values: tuple[str, ...], overrides: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told = [word for value in values for word in ("--set", value)]
    assert main(["cluster", "render", RECIPE, *overrides, "--kind", "kuberay", *told]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(message), err
    assert err.count("\n") == 1


def test_a_value_that_looks_like_yaml_stays_a_value() -> None:
    found = manifests('image="registry.example/a: [b] # c"')
    assert {pod["spec"]["containers"][0]["image"] for pod in pods(found)} == {"registry.example/a: [b] # c"}


@pytest.mark.parametrize(
    ("planted", "problem"),
    [
        ('"capabilities": {"drop": ["ALL"]}=>"capabilities": {"add": ["SYS_ADMIN"]}', "keeps capabilities"),
        ('"runAsNonRoot": true=>"runAsNonRoot": false', "runs as root"),
        ('"readOnlyRootFilesystem": true=>"readOnlyRootFilesystem": false', "writes its image"),
        ('"ingress": =>"ingres": ', "ingres"),
        ('"emptyDir": =>"hostPath": ', "volume temporary of another kind"),
        ('"mountPath": "/tmp"=>"mountpath": "/tmp"', "mountPath"),
        ('"cpu": "8"=>"cpu": {}', "ConfigMap|Pod"),
    ],
)
def test_planted_errors_are_found(planted: str, problem: str) -> None:
    right, wrong = planted.split("=>")
    text = json.dumps(manifests())
    assert right in text
    said = problems(json.loads(text.replace(right, wrong)))
    assert any(part in line for line in said for part in problem.split("|")), said


def test_a_prometheus_reaches_the_metrics_and_nothing_else() -> None:
    assert "PodMonitor" not in manifests()
    found = manifests("monitoring_namespace=watching")
    assert problems(found) == []
    assert found["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    (rule,) = [rule for rule in found["NetworkPolicy"]["spec"]["ingress"] if "watching" in str(rule)]
    assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
