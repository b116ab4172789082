"""The program turboquant-tools: one subcommand for each exporter."""

import argparse
import importlib
import pathlib
import sys

from turboquant_tools import __version__
from turboquant_tools.errors import ToolError
from turboquant_tools.presets import PRESETS, gguf_presets


def main(arguments=None):
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ToolError, OSError) as error:
        print(f"turboquant-tools: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("turboquant-tools: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="turboquant-tools", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_export_gguf(commands)
    models = commands.add_parser("models", help="list the models that --model-preset knows")
    models.set_defaults(run=_run_models)
    return parser


def _add_export_gguf(commands):
    command = commands.add_parser(
        "export-gguf", help="GGUF file (llama, qwen2, qwen3, gemma3) to a decoder bundle",
        description="Writes a decoder bundle from a GGUF file and prints its folder. With "
        "--model-preset the file comes out of Python packages that pip fetches, and without FOLDER "
        "the bundle goes to the user's cache, where later runs find it.")
    command.add_argument("gguf", nargs="?", type=pathlib.Path, metavar="MODEL.gguf")
    command.add_argument("folder", nargs="?", type=pathlib.Path, metavar="FOLDER")
    command.add_argument("--model-preset", choices=gguf_presets())
    command.add_argument("--name", help="the model's name in config.json (default: the file's own)")
    _add_bundle_options(command)
    command.set_defaults(run=_run_export_gguf)


def _add_bundle_options(command):
    command.add_argument("--max-positions", type=int, metavar="N",
                         help="longest context (default: the model's, at most 32768)")
    command.add_argument("--force", action="store_true", help="replace a bundle that is there")


def _command(module):
    """A command's module, which imports what only it needs."""
    try:
        return importlib.import_module(f"turboquant_tools.{module}")
    except ModuleNotFoundError as missing:
        raise ToolError(f"the Python package '{missing.name}' is missing; "
                        f"python/README.md lists what each command needs") from None


def _run_export_gguf(options):
    path, folder = options.gguf, options.folder
    if options.model_preset and folder is not None:
        raise ToolError("give MODEL.gguf or --model-preset, not both")
    if options.model_preset:
        folder = path  # the only positional argument
        packaged = _command("packaged_models")
        if folder is None:
            if options.max_positions is not None or options.force or options.name:
                raise ToolError("--max-positions, --name and --force need a FOLDER; the cache has "
                                "one bundle of each model")
            print(packaged.packaged_bundle(options.model_preset))
            return
        path = packaged.packaged_gguf(options.model_preset)
    if path is None or folder is None:
        raise ToolError("export-gguf needs MODEL.gguf and FOLDER, or --model-preset")
    export = _command("export_gguf").export_gguf
    name = options.name or (PRESETS[options.model_preset].hub_id if options.model_preset else None)
    print(export(path, folder, name=name, positions=options.max_positions, replace=options.force))


def _run_models(_):
    for name, preset in PRESETS.items():
        commands = "export-gguf, export-decoder" if preset.gguf else "export-decoder"
        print(f"{name}\n  {preset.description}\n  {preset.hub_id}, {preset.licence}\n  {commands}")
