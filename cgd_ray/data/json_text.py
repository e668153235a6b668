"""JSON that others wrote, parsed so that whatever is wrong with it is a few words and never a traceback.

Why not json.loads alone: it dies of nesting (RecursionError) and of long integers in other ways than of broken syntax.
How to use: `parse_json(line)`; `read_object(directory / "config.json")` where an object is expected.
"""

import json
import sys
from pathlib import Path
from typing import Any


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError with what is wrong, to be put behind the name of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no valid JSON ({error})") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deep to be read") from None
    except ValueError:
        raise ValueError(f"an integer of more than {sys.get_int_max_str_digits():,} digits, which only fits into a text") from None


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError, one line that names the file, when there is none."""
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); replace it") from None
    except ValueError as error:
        raise ValueError(f"{file} holds {error}; replace it") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}); replace it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {type(content).__name__}, not an object with named settings; replace it")
    return content
