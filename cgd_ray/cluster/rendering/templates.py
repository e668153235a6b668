"""The templates of the directory cluster/, in a checkout or where a wheel has put them.

How to use: `text = filled_in("kuberay.yaml.j2", values=...)`; in a template every value that a person gives is `quoted` or `shell`.
"""

import json
import shlex
import sysconfig
from pathlib import Path
from typing import Any

HERE, INSTALLED = Path(__file__).parents[3] / "cluster", Path(sysconfig.get_path("data")) / "share" / "cgd_ray" / "cluster"


def filled_in(template: str, **context: Any) -> str:
    """A template with what it asks for; what it is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701  (no HTML; the filters quote)
        loader=FileSystemLoader(HERE if HERE.is_dir() else INSTALLED), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"quoted": json.dumps, "shell": lambda value: shlex.quote(str(value))}  # YAML contains JSON
    text: str = environment.get_template(template).render(**context)
    return text
