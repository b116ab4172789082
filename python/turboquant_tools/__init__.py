"""Makes what the program `turboquant` reads: decoder bundles (ONNX) and traces of keys, values and
queries.

A command is one module: export_gguf, export_decoder, export_kv. Failures that a user can do
something about are ToolError; nothing is left on the disk after one.
"""

__version__ = "0.1.0"
