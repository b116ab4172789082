"""Trace files (docs/format.md): written sample by sample, straight to their place on the disk."""

import json
import os
import pathlib
import struct
import tempfile
import zlib

import numpy as np

FORMAT, FORMAT_VERSION = "turboquant.trace", "1"
_NAMES = {np.dtype("<f4"): "F32", np.dtype("<i8"): "I64"}
_NO_CHECKSUM = "00000000"


class TraceFile:
    """A file of the heads {(layer, head)}, for use in a with statement. It has its name only when
    the block has ended well. Tensors: keys and values [samples, tokens, dim], queries [samples,
    queries, dim], query_positions [samples, queries]."""

    def __init__(self, path, heads, samples, positions, tokens, dim, metadata):
        """positions: at which token each query of a sample was asked, the same in all samples."""
        self._path = pathlib.Path(path)
        self._positions = np.asarray(positions, np.int64)
        self._heads = sorted(heads)
        self._metadata = dict(metadata) | {"format": FORMAT, "format_version": FORMAT_VERSION}
        if len(self._heads) == 1:
            layer, head = self._heads[0]
            self._metadata |= {"layer": str(layer), "head": str(head)}
        rows = {"keys": (samples, tokens, dim), "values": (samples, tokens, dim),
                "queries": (samples, len(positions), dim)}
        shapes = {}
        for layer, head in self._heads:
            prefix = self._prefix(layer, head)
            shapes |= {prefix + part: (np.dtype("<f4"), shape) for part, shape in rows.items()}
            shapes[prefix + "query_positions"] = (np.dtype("<i8"), (samples, len(positions)))
        self._tensors = _placed(shapes)
        self._metadata |= {f"crc32.{name}": _NO_CHECKSUM for name in shapes}
        self._metadata["header_crc32"] = _NO_CHECKSUM

    def _prefix(self, layer, head):
        return "" if len(self._heads) == 1 else f"layers.{layer}.heads.{head}."

    def __enter__(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, self._unfinished = tempfile.mkstemp(prefix=f".{self._path.name}.",
                                                    dir=self._path.parent)
        os.fchmod(handle, 0o644)
        size = max(end for _, _, _, end in self._tensors.values())
        self._body = 8 + len(self._header())
        os.truncate(handle, self._body + size)
        os.close(handle)
        return self

    def put(self, sample, layer, head, keys, values, queries):
        """Rows of one head in one sample."""
        prefix = self._prefix(layer, head)
        for part, rows in (("keys", keys), ("values", values), ("queries", queries),
                           ("query_positions", self._positions)):
            self._map(prefix + part)[sample] = rows

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            os.unlink(self._unfinished)
            return
        for name in self._tensors:
            self._metadata[f"crc32.{name}"] = f"{zlib.crc32(self._map(name)):08x}"
        self._metadata["header_crc32"] = f"{zlib.crc32(self._identity()):08x}"
        header = self._header()
        with open(self._unfinished, "r+b") as file:
            file.write(struct.pack("<Q", len(header)) + header)
        os.replace(self._unfinished, self._path)

    def _map(self, name):
        dtype, shape, begin, _ = self._tensors[name]
        return np.memmap(self._unfinished, dtype, "r+", self._body + begin, shape)

    def _header(self):
        table = {"__metadata__": self._metadata}
        for name, (dtype, shape, begin, end) in self._tensors.items():
            table[name] = {"data_offsets": [begin, end], "dtype": _NAMES[dtype],
                           "shape": list(shape)}
        text = json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        return text + b" " * (-len(text) % 8)

    def _identity(self):
        """What header_crc32 is the checksum of."""
        parts = [struct.pack("<Q", len(self._tensors))]
        for name, (dtype, shape, begin, end) in sorted(self._tensors.items()):
            parts += [_counted(name), _counted(_NAMES[dtype])]
            parts += [struct.pack("<Q", number) for number in (len(shape), *shape, begin, end)]
        entries = {key: text for key, text in self._metadata.items() if key != "header_crc32"}
        parts.append(struct.pack("<Q", len(entries)))
        parts += [_counted(key) + _counted(text) for key, text in sorted(entries.items())]
        return b"".join(parts)


def _placed(shapes):
    """name -> (dtype, shape, begin, end), tensors by falling element size, then by name."""
    placed, begin = {}, 0
    for name in sorted(shapes, key=lambda name: (-shapes[name][0].itemsize, name)):
        dtype, shape = shapes[name]
        end = begin + dtype.itemsize * int(np.prod(shape))
        placed[name] = (dtype, shape, begin, end)
        begin = end
    return placed


def _counted(text):
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
