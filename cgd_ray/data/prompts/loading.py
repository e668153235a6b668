"""The wording that the setting `prompts` names: a set that comes with the package, or a file of the user's; its mistakes are one line.

A set is made for a family of models; its file says why it is worded so. Fingerprints and run directories know the words alone, so a set and
a copy of it are the same. How to use: `prompts = load_prompts(config.prompts)`.
"""

import difflib
import re
from dataclasses import fields
from pathlib import Path

from cgd_ray.config.paths import is_prompt_set
from cgd_ray.config.yaml_text import read_yaml
from cgd_ray.data.prompts.wording import Prompts

DEFAULT = "default"
"""The set of Prompts()."""
SETS = Path(__file__).with_name("sets")

_FIELD = re.compile(r"\{(question|attempt|critique|refinement|reference_answer|reference_solution)\}")
"""What a template may seem to ask for; other braces are text, as LaTeX has them."""
_PLACEHOLDERS: dict[str, set[str]] = {
    "solve": {"question"},
    "choose": {"question"},
    "follow": {"question"},
    "critique": {"question", "attempt"},
    "refine": set(),
    "revise": {"critique"},
    "revise_without_attempt": {"question", "critique"},
    "revise_without_critique": set(),
    "generic_critique": set(),
}


def set_names() -> list[str]:
    """The sets that there are."""
    return [DEFAULT, *sorted(file.stem for file in SETS.glob("*.yaml"))]


def load_prompts(name: str | None) -> Prompts:
    """The default wording, overridden by a set or by a YAML mapping of template names. Raises ValueError that names file and template."""
    if name is None or name == DEFAULT:
        return Prompts()
    if not is_prompt_set(name):
        return _read(name)
    if name not in set_names():
        near = difflib.get_close_matches(name, set_names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"prompts is {name}, and there is no such set; {hint}Sets are {', '.join(set_names())}; a file's name ends in .yaml"
        )
    return _read(str(SETS / f"{name}.yaml"))


def _read(path: str) -> Prompts:
    if not Path(path).exists():
        raise ValueError(f"prompts file {path} does not exist; set prompts to a YAML file, a set ({', '.join(set_names())}) or null")
    try:
        tree = read_yaml(Path(path))
    except ValueError as error:
        raise ValueError(f"prompts file {path} {error}") from None
    names = [field.name for field in fields(Prompts)]
    if not isinstance(tree, dict):
        raise ValueError(f"prompts file {path} is no mapping of template names; valid names: {', '.join(names)}")
    for name, template in tree.items():
        if name not in names:
            raise ValueError(f"prompts file {path}: unknown template {name}; valid names: {', '.join(names)}")
        if template is None and name not in _PLACEHOLDERS:
            continue  # no system message
        if not isinstance(template, str):
            raise ValueError(f"prompts file {path}: template {name} is {template!r}, not a text; put it in quotes")
        mine, found = _PLACEHOLDERS.get(name, set()), set(_FIELD.findall(template))
        if lacking := sorted(mine - found):
            raise ValueError(f"prompts file {path}: template {name} lacks {{{lacking[0]}}}, so the model would never see it; add it")
        if foreign := sorted(found - mine):
            has = ", ".join(f"{{{field}}}" for field in sorted(mine)) or "no fields"
            raise ValueError(f"prompts file {path}: template {name} holds {{{foreign[0]}}}, which would be sent as it stands; it has {has}")
    return Prompts(**tree)
