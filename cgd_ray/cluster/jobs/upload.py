"""What a submitted job needs of this machine: its config, the files that the config names by relative paths, and this package.

Paths in a config are relative to the current directory here as on the cluster, where the upload is; absolute ones, and those that begin
with `~` or `$`, are the cluster's own. Nothing else goes along: no .git, no environment, no other run's output.
How to use: `with uploaded(config) as upload: client.submit(upload, ...)`.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cgd_ray
from cgd_ray.config import Config, named_paths, to_yaml
from cgd_ray.config.paths import is_url

MAX_BYTES = 100 * 2**20
NUM_LARGEST = 5
CONFIG = "job.yaml"
PACKAGE = Path(cgd_ray.__file__).parent


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A directory that is sent to the cluster."""

    directory: Path
    files: dict[str, int]
    """Bytes of each file, by its path in the directory, the largest first."""

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    def described(self) -> list[str]:
        """Its size and its largest files, a line each."""
        largest = list(self.files.items())[:NUM_LARGEST]
        lines = [f"upload: {len(self.files):,} files, {_mib(self.num_bytes)}; the largest:"]
        return [*lines, *(f"  {_mib(size):>10}  {name}" for name, size in largest)]


@contextmanager
def uploaded(config: Config) -> Iterator[Upload]:
    """Yield the upload of a config whose paths are as they are written. Raises ValueError when that cannot be sent, or is too large."""
    check_run_dir(config)
    sources = {name: path for name, path in named_paths(config).items() if _is_sent(name, path)}
    sizes = {file: file.stat().st_size for path in set(sources.values()) for file in _files(Path(path))}
    _check_size(sizes)
    with tempfile.TemporaryDirectory(prefix="cgd_upload_") as name:
        directory = Path(name)
        for file in sizes:
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, directory / file)
        shutil.copytree(PACKAGE, directory / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        (directory / CONFIG).write_text(to_yaml(config), encoding="utf-8")
        found = {str(file.relative_to(directory)): file.stat().st_size for file in _files(directory)}
        yield Upload(directory=directory, files=dict(sorted(found.items(), key=lambda item: -item[1])))


def check_run_dir(config: Config) -> None:
    """Raise ValueError when a run's directory would be in the upload, which goes with the cluster."""
    if _is_relative(config.run_dir):
        raise ValueError(
            f"run_dir {config.run_dir} is relative, and a job's working directory goes with its cluster; give an absolute path on storage "
            "that all nodes share, run_dir=/..."
        )


def _is_sent(setting: str, path: str) -> bool:
    """Whether a path names something of this machine; a relative one that is not there may be a name on the hub."""
    if not _is_relative(path) or not Path(path).exists():
        return False
    if ".." in Path(path).parts:
        raise ValueError(
            f"{setting} {path} is outside of the current directory, which is what a job sees; change there, or give another path"
        )
    return True


def _is_relative(path: str) -> bool:
    return not path.startswith(("/", "~", "$")) and not is_url(path)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _check_size(sizes: dict[Path, int]) -> None:
    total = sum(sizes.values())
    if total > MAX_BYTES:
        largest = sorted(sizes, key=lambda file: -sizes[file])[:NUM_LARGEST]
        raise ValueError(
            f"the job's files have {_mib(total)}, more than {_mib(MAX_BYTES)} that may be sent along (largest: "
            f"{', '.join(f'{file} {_mib(sizes[file])}' for file in largest)}); put them on storage that all nodes share, and give absolute "
            "paths"
        )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
