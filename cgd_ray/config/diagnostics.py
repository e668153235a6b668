"""What `cgd diagnose` measures of a run; none of it changes what the run makes."""

from cgd_ray.config.base import Count, Settings


class DiagnosticsConfig(Settings):
    """How much a critique explains of a refinement, and how much of it the student has made its own."""

    max_records: Count = 256
    """Records, held out of the training where there are such, whose refinements are scored in four contexts; of the teacher's direct
    answers those to as many problems are graded."""
    per_token: bool = False
    """Also write what the critique explains of each token, RUN/diagnostics/token_gains.parquet."""
    seed: int = 0
    """Which records are drawn, the same for every arm and seed of the training; whose critique each is shown in the contrast."""
