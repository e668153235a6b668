"""cgd_ray: Critique-Guided Distillation on Ray."""

__version__ = "0.1.0"
