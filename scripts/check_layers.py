#!/usr/bin/env python3
"""Checks who includes whom (docs/architecture.md, "Layers"). Exit code 1 lists every breach.

Usage: check_layers.py [ROOT]
"""

import pathlib
import re
import sys

# Folder of src/ -> the other folders whose headers it may include.
MAY_INCLUDE = {
    "base": set(),
    "math": {"base"},
    "kernels": {"base"},
    "quantizers": {"base", "math", "kernels"},
    "cache": {"base", "math", "kernels", "quantizers"},
    "storage": {"base", "quantizers", "cache"},
    "eval": {"base", "quantizers", "cache", "storage"},
    "onnx": {"base", "math", "kernels", "quantizers", "cache", "storage", "eval"},
    "webgpu": {"base", "math", "kernels", "quantizers", "cache"},
    "c_api": set(),
    "cli": {"base", "eval", "onnx"},
}

# The faces of the library may use every public header.
FACES = {"onnx", "c_api", "cli", "eval"}

# Public header below include/turboquant -> its layer: the folder that implements it.
PUBLIC_LAYER = {
    "error.h": "base",
    "matrix_view.h": "base",
    "heads_view.h": "base",
    "parallel_for.h": "base",
    "backend.h": "base",
    "codebook.h": "quantizers",
    "rotation.h": "quantizers",
    "mse_quantizer.h": "quantizers",
    "qjl.h": "quantizers",
    "prod_quantizer.h": "quantizers",
    "polar_quantizer.h": "quantizers",
    "outlier_quantizer.h": "quantizers",
    "key_map.h": "cache",
    "kv_format.h": "cache",
    "attention.h": "cache",
    "kv_cache.h": "cache",
    "page_pool.h": "cache",
    "decoder_cache.h": "cache",
    "safetensors.h": "storage",
    "rows_file.h": "storage",
    "trace.h": "storage",
    "snapshot.h": "storage",
    "onnx/bundle.h": "onnx",
    "onnx/decoder.h": "onnx",
    "onnx/generation.h": "onnx",
    "onnx/runtime.h": "onnx",
    "onnx/sequence.h": "onnx",
    "onnx/tokenizer.h": "onnx",
    "webgpu/attention.h": "webgpu",
    "webgpu/device.h": "webgpu",
    "webgpu/mse_quantizer.h": "webgpu",
    "webgpu/prod_quantizer.h": "webgpu",
}

# Headers of others -> the folders of src/ that may include them. First match counts.
THIRD_PARTY = [
    (re.compile(r"hwy/"), {"kernels"}),
    (re.compile(r"\w*intrin\.h|arm_(neon|acle|sve)\.h|cpuid\.h"), {"kernels"}),
    (re.compile(r"sys/(?!syscall)|asm/|linux/"), {"base", "kernels", "cli", "eval"}),
    (re.compile(r"sys/syscall\.h"), {"kernels"}),
    (re.compile(r"zlib\.h"), {"base"}),
    (re.compile(r"nlohmann/"), {"storage", "eval", "onnx", "cli"}),
    (re.compile(r"fmt/"), {"eval", "onnx", "cli"}),
    (re.compile(r"CLI/"), {"cli"}),
    (re.compile(r"(oneapi/)?tbb/"), {"eval", "cli"}),
    (re.compile(r"onnxruntime"), {"onnx"}),
    (re.compile(r"webgpu|wgpu"), {"webgpu"}),
    (re.compile(r".*/.*"), set()),  # nobody else's headers have a folder in their name
]

# Vector code that needs no include.
INTRINSIC = re.compile(r"\b(_mm(256|512)?_\w+|__m(128|256|512)\w*|__builtin_ia32_\w+|HWY_[A-Z_]+)\b")

# Words of dependencies that no public header may contain.
FOREIGN_TYPES = re.compile(r"\b(hwy::|HWY_\w+|nlohmann::|CLI::|fmt::|tbb::|Ort(Api|Value|Session)|WGPU\w+)")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    """The layer of a file given by its path from the root, or None if it has none."""
    if path.parts[0] == "src" and len(path.parts) > 2:
        return path.parts[1]
    if path.parts[:2] == ("include", "turboquant"):
        return PUBLIC_LAYER.get("/".join(path.parts[2:]))
    return None


def check_quoted(root, path, layer, target):
    """Yields what is wrong with #include "target" in a file of that layer."""
    public = path.parts[0] == "include"
    if target.startswith("turboquant/"):
        if not (root / "include" / target).is_file():
            yield f'"{target}" does not exist'
        target_layer = PUBLIC_LAYER.get(target.removeprefix("turboquant/"))
        faces = not public and layer in FACES
    elif target.startswith("src/") and target.count("/") >= 2:
        if public:
            yield f'a public header includes the private "{target}"'
        if not (root / target).is_file():
            yield f'"{target}" does not exist'
        target_layer = target.split("/")[1]
        faces = False
    else:
        yield f'"{target}" is not given by its path from the root ("src/..." or "turboquant/...")'
        return
    if target_layer and target_layer != layer and not faces:
        if target_layer not in MAY_INCLUDE[layer]:
            yield f'{layer} may not include {target_layer} ("{target}")'


def check_angled(path, layer, target):
    """Yields what is wrong with #include <target>."""
    if target.startswith("turboquant/"):
        yield f'<{target}> is ours: include it in quotes'
        return
    for pattern, allowed in THIRD_PARTY:
        if pattern.match(target):
            if path.parts[0] == "include" or layer not in allowed:
                where = ", ".join(f"src/{name}" for name in sorted(allowed)) or "nowhere"
                yield f"<{target}> may be included in: {where}"
            return


def check_file(root, path):
    """Yields (line number, message) for one source file."""
    layer = layer_of(path)
    if layer is None:
        yield 1, "has no layer: name it in PUBLIC_LAYER (scripts/check_layers.py)"
        return
    if layer not in MAY_INCLUDE:
        yield 1, f"src/{layer} is no layer: name it in MAY_INCLUDE (scripts/check_layers.py)"
        return
    text = (root / path).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        include = INCLUDE.match(line)
        if include:
            target = include[2]
            if include[1] == '"':
                problems = check_quoted(root, path, layer, target)
            else:
                problems = check_angled(path, layer, target)
            for problem in problems:
                yield number, problem
            continue
        code = line.split("//")[0]
        if layer != "kernels" and (used := INTRINSIC.search(code)):
            yield number, f"{used[0]} belongs in src/kernels"
        if path.parts[0] == "include" and (used := FOREIGN_TYPES.search(code)):
            yield number, f"a public header names {used[0]}"


def breaches(root):
    """All breaches below root, as lines "file:line: message"."""
    sources = []
    for folder in ("include/turboquant", "src"):
        sources += [p for p in (root / folder).rglob("*") if p.suffix in (".h", ".cc")]
    found = []
    for source in sorted(sources):
        path = source.relative_to(root)
        found += [f"{path}:{number}: {message}" for number, message in check_file(root, path)]
    if not sources:
        found.append(f"{root}: no sources found")
    return found


def main():
    default = pathlib.Path(__file__).resolve().parent.parent
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    found = breaches(root)
    for line in found:
        print(line)
    print(f"layers: {len(found)} breaches")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
