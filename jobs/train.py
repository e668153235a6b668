"""The training of a run as a Ray job, the same as `cgd train`.

`ray job submit --working-dir . -- python jobs/train.py CONFIG run_dir=/shared/runs/NAME [a.b=c ...]`
"""

import sys

from cgd_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
