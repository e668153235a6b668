"""The commands for those who start a cluster: doctor, cluster render."""

import argparse

from cgd_ray.commands.options import EXIT_FAILED, add_config, added, loaded, say, write

DOCTOR = "what is wrong with the cluster that a run would have: versions, storage, clocks, names, room, connections"
RENDER = "what a cluster is to be started with, from a run's config: the manifests, on standard output"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    add_config(added(commands, "doctor", DOCTOR, _doctor))
    render = added(commands, "cluster", RENDER, _render)
    render.add_argument("action", choices=["render"], help="fill a template in")
    add_config(render)
    render.add_argument("--kind", required=True, help="of cluster: kuberay, slurm, ray-up-aws, ray-up-gcp or skypilot")
    render.add_argument(
        "--set",
        dest="values",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="what the config does not say, e.g. --set image=REGISTRY/IMAGE:TAG; docs/clusters.md has all",
    )


def _doctor(parsed: argparse.Namespace) -> int:
    config = loaded(parsed)
    from cgd_ray.cluster.connection import connected
    from cgd_ray.cluster.doctor import examine
    from cgd_ray.runs.remote.working_copy import directory_of

    with connected(config.cluster) as resources:
        found = examine(config.model_copy(update={"run_dir": str(directory_of(config))}))
    for line in found:
        say(line)
    say(f"{len(resources.nodes)} nodes, {len(found)} findings")
    return EXIT_FAILED if found else 0


def _render(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.rendering import render
    from cgd_ray.config import read_config

    write(render(read_config(parsed.config, parsed.overrides), parsed.kind, parsed.values))
    return 0
