"""Debian packages for the machines of a lab, put beside this machine's files and not among them.

How to use: `problem = installed(directory, ["rsync"])` once; a machine of the lab sees them after `SEEN` with PACKAGES=directory.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

INSTALL = """
set -e
for directory in usr etc var; do
  mkdir -p "$1/$directory" "$1/$directory.work"
  mount -t overlay overlay -o "lowerdir=/$directory,upperdir=$1/$directory,workdir=$1/$directory.work" "/$directory"
done
mount -t tmpfs tmpfs /run
mkdir /run/lock
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
further="$2"
shift 2
apt-get install --yes -qq --no-install-recommends "$@"
eval "$further"
"""
SEEN = """
for directory in usr etc; do mount -t overlay overlay -o "lowerdir=$PACKAGES/$directory:/$directory" "/$directory"; done
mount --bind /mnt/shared/hosts /etc/hosts
mount -t tmpfs tmpfs /run
"""


def installed(directory: Path, packages: Sequence[str], further: str = "") -> str | None:
    """Put packages into a directory, and what further lines of the shell make of them; returns what went wrong."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", INSTALL, "install", str(directory), further, *packages],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
    )
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["apt-get has failed"])[-1]
