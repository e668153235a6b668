"""YAML that people wrote, parsed so that whatever is wrong with it is a few words and never a traceback.

How to use: `read_yaml(path)`; its ValueError is to be put behind the name of the file, "config a.yaml" + " " + the error.
"""

from pathlib import Path
from typing import Any

import yaml


def read_yaml(file: Path) -> Any:
    """What a YAML file holds. Raises ValueError with what is wrong and the remedy."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text ({error}); convert it") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); give a YAML file that can") from None
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"is {error}") from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises ValueError with what is wrong."""
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("YAML that is nested too deep to be read") from None
    except (yaml.YAMLError, ValueError) as error:  # an impossible date or an endless integer is a ValueError
        raise ValueError(f"no valid YAML ({' '.join(str(error).split())})") from None
