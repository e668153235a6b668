"""Every word that is sent to a model: the default (wording.py), sets for families of models (sets/), files of the user's (loading.py).

How to use: `prompts = load_prompts(config.prompts); prompts.solve_messages(question, prompts.student_system)`.
"""

from cgd_ray.data.prompts.loading import load_prompts, set_names
from cgd_ray.data.prompts.wording import CONCLUSION, SIGN_OF_LIFE, Message, Prompts, Role, Wording

__all__ = ["CONCLUSION", "SIGN_OF_LIFE", "Message", "Prompts", "Role", "Wording", "load_prompts", "set_names"]
