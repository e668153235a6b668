"""What a model is asked prompt-only, how often, and how its answers are graded; and what `cgd diagnose` measures besides."""

from typing import Annotated, Any

from pydantic import model_validator

from cgd_ray.config.base import Added, Count, Settings
from cgd_ray.config.problems import SourceConfig
from cgd_ray.config.sampling import SamplingConfig

PROBLEMS = "problems"
"""Under this name the answers to `evaluation.problems` are kept, beside those to benchmarks."""


class BenchmarkConfig(Settings):
    """A benchmark of the catalogue, e.g. math-500, or {name: aime25, num_samples: 16, k: [1, 8, 16]}."""

    name: str
    """As the catalogue has it (cgd_ray/evaluation/benchmarks/catalogue.py)."""
    path: str | None = None
    """A file, or a directory, with the columns that the hub's data set has; null takes that."""
    revision: str | None = None
    """Commit of the hub's data set; null takes the catalogue's."""
    grader: str | None = None
    """What grades its answers; null takes the catalogue's."""
    num_samples: Count | None = None
    """Answers per problem; null takes evaluation.num_samples."""
    k: tuple[Count, ...] | None = None
    """The k of its pass@k; null takes evaluation.k."""

    @model_validator(mode="before")
    @classmethod
    def _a_name_is_enough(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _file_or_hub(self) -> "BenchmarkConfig":
        if self.path is not None and self.revision is not None:
            raise ValueError(f"path is {self.path} and revision {self.revision}, which is the hub's; remove one of the two")
        return self


class EvaluationConfig(Settings):
    """Prompt-only evaluation: the problem alone, no critique."""

    problems: SourceConfig | None = None
    """Held-out problems with a reference answer; null asks benchmarks only."""
    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Added()] = ()
    """Published test sets by name, e.g. [math-500, gsm8k]. One may be added to a run that is evaluated already."""
    sampling: SamplingConfig = SamplingConfig()
    """Decoding of both models."""
    num_samples: Count = 1
    """Answers per problem; avg@k is their mean. More than one need a temperature."""
    k: Annotated[tuple[Count, ...], Added()] = (1,)
    """The k of pass@k, none above num_samples."""
    grader: Annotated[str, Added()] = "boxed-math"
    """What grades the answers to `problems`."""

    def samples_of(self, benchmark: BenchmarkConfig) -> int:
        """Answers per problem of a benchmark."""
        return self.num_samples if benchmark.num_samples is None else benchmark.num_samples

    def k_of(self, benchmark: BenchmarkConfig) -> tuple[int, ...]:
        """The k of its pass@k."""
        return self.k if benchmark.k is None else benchmark.k

    @model_validator(mode="after")
    def _something_is_asked(self) -> "EvaluationConfig":
        if self.problems is None and not self.benchmarks:
            raise ValueError("problems is null and benchmarks is empty, so nothing is asked; set one of them, or evaluation to null")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> "EvaluationConfig":
        names = [benchmark.name for benchmark in self.benchmarks]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"benchmarks names {repeated[0]} {names.count(repeated[0])} times; name it once")
        return self

    @model_validator(mode="after")
    def _draws_are_there(self) -> "EvaluationConfig":
        asked = [("k", self.num_samples, self.k)] if self.problems is not None else []
        asked += [(f"k of benchmark {each.name}", self.samples_of(each), self.k_of(each)) for each in self.benchmarks]
        for setting, num_samples, k in asked:
            if not k:
                raise ValueError(f"{setting} is empty; write [1] for the mean alone")
            if max(k) > num_samples:
                raise ValueError(
                    f"{setting} is {list(k)} and num_samples {num_samples}, and pass@k needs k samples of each problem; raise num_samples "
                    f"to {max(k)}, or lower k"
                )
            if num_samples > 1 and self.sampling.temperature == 0:
                raise ValueError(
                    f"num_samples {num_samples} with sampling.temperature 0 would repeat one and the same answer; set a temperature, or "
                    "num_samples to 1"
                )
        return self


class DiagnosticsConfig(Settings):
    """How much a critique explains of a refinement, and how much of it the student has made its own."""

    max_records: Count = 256
    """Records, held out of the training where there are such, whose refinements are scored in four contexts, and whose problems the
    student answers with and without the critique; of the teacher's direct answers those to as many problems are graded."""
    per_token: bool = False
    """Also write what the critique explains of each token, RUN/diagnostics/token_gains.parquet."""
    seed: int = 0
    """Which records are drawn, the same for every arm and seed of the training; whose critique each is shown in the contrast."""
