"""The evaluation of a run as a Ray job, the same as `cgd evaluate`.

`ray job submit --working-dir . -- python jobs/evaluate.py CONFIG run_dir=/shared/runs/NAME [a.b=c ...]`
"""

import sys

from cgd_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
