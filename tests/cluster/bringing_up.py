"""Run by test_ray_up.py: Ray bootstraps what is rendered for AWS, starts a node of each kind, and ends them; what it got is printed."""

import json

import boto3  # type: ignore[import-untyped,import-not-found,unused-ignore]
import yaml
from ray.autoscaler import tags
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.util import prepare_config, validate_config

from cgd_ray.cluster.rendering import render
from cgd_ray.config import read_config

RECIPE = "jobs/configs/recipes/llama31_8b_published.yaml"
MACHINES = (
    "head={type: m5.4xlarge, cpus: 16}",
    "student={type: g5.4xlarge, cpus: 16, gpus: 1, spot: true}",
    "teacher={type: g5.48xlarge, cpus: 192, gpus: 8}",
    "trainer={type: g5.48xlarge, cpus: 192, gpus: 8}",
)


def main() -> None:
    """Print one line of JSON."""
    ec2 = boto3.client("ec2", region_name="us-west-2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName="mine", Description="mine", VpcId=subnet["VpcId"])["GroupId"]
    places = (
        "environment=/shared/cgd",
        "nfs=fs-1.example:/",
        "region=us-west-2",
        f"subnet={subnet['SubnetId']}",
        f"security_group={group}",
    )
    text = render(read_config(RECIPE, ["run_dir=/shared/runs/a"]), "ray-up-aws", [*places, *MACHINES])
    config = prepare_config(yaml.safe_load(text))
    validate_config(config)
    config = _bootstrap_config(config, no_config_cache=True)
    provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    nodes = {}
    for name, node_type in config["available_node_types"].items():
        marks = {
            tags.TAG_RAY_NODE_KIND: tags.NODE_KIND_HEAD if name == "head" else tags.NODE_KIND_WORKER,
            tags.TAG_RAY_USER_NODE_TYPE: name,
            tags.TAG_RAY_NODE_NAME: name,
            tags.TAG_RAY_NODE_STATUS: "uninitialized",
            tags.TAG_RAY_LAUNCH_CONFIG: "x",
        }
        provider.create_node(dict(node_type["node_config"]), marks, 1)
        (node,) = provider.non_terminated_nodes({tags.TAG_RAY_USER_NODE_TYPE: name})
        (instance,) = ec2.describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"]
        groups = [found["GroupId"] for found in instance["SecurityGroups"]]
        nodes[name] = {"type": instance["InstanceType"], "groups": groups, "subnet": instance["SubnetId"], "most": node_type["max_workers"]}
    provider.terminate_nodes(provider.non_terminated_nodes({}))
    rules = [(found["GroupName"], rule) for found in ec2.describe_security_groups()["SecurityGroups"] for rule in found["IpPermissions"]]
    everyone = [name for name, rule in rules for place in rule.get("IpRanges", ()) if place["CidrIp"] == "0.0.0.0/0"]
    left = provider.non_terminated_nodes({})
    print(json.dumps({"nodes": nodes, "group": group, "subnet": subnet["SubnetId"], "left": left, "everyone": everyone}))


if __name__ == "__main__":
    main()
