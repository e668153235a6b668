"""All stages of a run as a Ray job, the same as `cgd run`.

`ray job submit --working-dir . -- python jobs/run.py CONFIG run_dir=/shared/runs/NAME [a.b=c ...]`
"""

import sys

from cgd_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
