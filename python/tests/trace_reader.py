"""Reads a trace by the rules of docs/format.md, checksums included."""

import json
import struct
import zlib

import numpy as np

DTYPES = {"F32": "<f4", "I64": "<i8"}


def read_trace(path):
    """Tensors by name, and the metadata."""
    content = path.read_bytes()
    size = struct.unpack_from("<Q", content)[0]
    header, body = content[8:8 + size], content[8 + size:]
    assert size % 8 == 0 and header.rstrip(b" ") == json.dumps(
        json.loads(header), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    table = json.loads(header)
    metadata = table.pop("__metadata__")
    tensors, covered = {}, 0
    for name, entry in sorted(table.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        assert begin == covered
        covered = end
        assert metadata[f"crc32.{name}"] == f"{zlib.crc32(body[begin:end]):08x}"
        flat = np.frombuffer(body[begin:end], DTYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"])
    assert covered == len(body)
    assert metadata["header_crc32"] == header_checksum(table, metadata)
    return tensors, metadata


def header_checksum(table, metadata):
    checksum = zlib.crc32(struct.pack("<Q", len(table)))

    def add(*parts):
        nonlocal checksum
        for part in parts:
            if isinstance(part, str):
                add(len(part.encode()))
                checksum = zlib.crc32(part.encode(), checksum)
            else:
                checksum = zlib.crc32(struct.pack("<Q", part), checksum)

    for name in sorted(table):
        entry = table[name]
        add(name, entry["dtype"], len(entry["shape"]), *entry["shape"], *entry["data_offsets"])
    others = {key: text for key, text in metadata.items() if key != "header_crc32"}
    add(len(others))
    for key in sorted(others):
        add(key, others[key])
    return f"{checksum:08x}"
