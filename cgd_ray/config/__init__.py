"""Every setting of a run, typed and documented once, under its field.

Why one frozen tree: a run is a function of its config, so the resolved copy in the run directory says all there is to know about it.
How to use: `config = load_config("jobs/configs/tinymath.yaml", ["training.learning_rate=1e-4"])`; `cgd config CONFIG` prints the
result with these docs. Nothing heavy (torch, ray, vllm) is imported here.
"""

from cgd_ray.config.base import Settings, identity
from cgd_ray.config.evaluation import PROBLEMS, BenchmarkConfig, EvaluationConfig
from cgd_ray.config.loading import differing_settings, load_config, parse_settings, read_config, to_yaml
from cgd_ray.config.paths import named_paths, without_places
from cgd_ray.config.problems import DecontaminationConfig, FieldMapping, MixedSourceConfig, ProblemsConfig, SourceConfig
from cgd_ray.config.roles import MEMORY_ARGUMENTS, ApiConfig, PlacementConfig, RoleConfig, ThinkingConfig
from cgd_ray.config.sampling import SamplingConfig
from cgd_ray.config.training import ArmName, CritiquesName, LoraConfig, TrainingConfig, VerdictName
from cgd_ray.config.tree import EXECUTION_ONLY, ClusterConfig, Config, CutAttempts, GenerationConfig, SelectionConfig, TeacherCheckConfig
from cgd_ray.config.validation import AnswersConfig, ValidationConfig

__all__ = [
    "EXECUTION_ONLY",
    "MEMORY_ARGUMENTS",
    "PROBLEMS",
    "AnswersConfig",
    "ApiConfig",
    "ArmName",
    "BenchmarkConfig",
    "ClusterConfig",
    "Config",
    "CritiquesName",
    "CutAttempts",
    "DecontaminationConfig",
    "EvaluationConfig",
    "FieldMapping",
    "GenerationConfig",
    "LoraConfig",
    "MixedSourceConfig",
    "PlacementConfig",
    "ProblemsConfig",
    "RoleConfig",
    "SamplingConfig",
    "SelectionConfig",
    "Settings",
    "SourceConfig",
    "TeacherCheckConfig",
    "ThinkingConfig",
    "TrainingConfig",
    "ValidationConfig",
    "VerdictName",
    "differing_settings",
    "identity",
    "load_config",
    "named_paths",
    "parse_settings",
    "read_config",
    "to_yaml",
    "without_places",
]
