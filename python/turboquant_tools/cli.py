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
    _add_export_decoder(commands)
    _add_export_kv(commands)
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


def _add_export_decoder(commands):
    command = commands.add_parser(
        "export-decoder", help="Hugging Face causal language model to a decoder bundle",
        description="Writes a decoder bundle from a model folder or hub id (llama, mistral, qwen2, "
        "qwen3, gemma3, gpt2) and prints its folder. Needs torch and transformers.")
    command.add_argument("model", metavar="[MODEL] FOLDER", nargs="+",
                         help="a model folder or hub id, unless --model-preset names one")
    command.add_argument("--model-preset", choices=PRESETS)
    _add_hub_options(command)
    _add_bundle_options(command)
    command.set_defaults(run=_run_export_decoder)


def _add_export_kv(commands):
    command = commands.add_parser(
        "export-kv", help="keys, values and queries of a model over a text to trace files",
        description="Writes the trace of chosen layers and heads and prints its path; prompts of "
        "different lengths give one file for each length.")
    model = command.add_mutually_exclusive_group(required=True)
    model.add_argument("--bundle", type=pathlib.Path, metavar="FOLDER",
                       help="a bundle (needs onnxruntime and tokenizers)")
    model.add_argument("--model", help="a model folder or hub id (needs torch and transformers)")
    model.add_argument("--model-preset", choices=PRESETS, help="as --model, by name")
    text = command.add_mutually_exclusive_group(required=True)
    text.add_argument("--prompts", type=pathlib.Path, metavar="FILE",
                      help=".txt, a prompt a line, or .jsonl with prompt, text, input or question")
    text.add_argument("--text", type=pathlib.Path, metavar="FILE",
                      help="one text, cut into samples of --max-tokens")
    command.add_argument("--output", type=pathlib.Path, required=True, metavar="TRACE.safetensors")
    command.add_argument("--layers", type=_numbers, default=(0,), metavar="L,L,...|all")
    command.add_argument("--heads", type=_numbers, default=(0,), metavar="H,H,...|all",
                         help="KV heads")
    command.add_argument("--rope", choices=("pre", "post"), default="post",
                         help="keys and queries before or behind the rotary embedding")
    command.add_argument("--max-samples", type=int, default=8, metavar="N")
    command.add_argument("--max-tokens", type=int, default=4096, metavar="N")
    command.add_argument("--query-stride", type=int, default=64, metavar="N",
                         help="every Nth token asks a query, and the last one")
    command.add_argument("--query-heads", choices=("all", "first"), default="all",
                         help="of those that share a KV head")
    command.add_argument("--suite", help="name of the text in the trace (default: its file's)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    command.add_argument("--dtype", choices=("auto", "float16", "bfloat16", "float32"),
                         default="auto", help="in which the model computes; traces are float32")
    _add_hub_options(command)
    command.set_defaults(run=_run_export_kv)


def _numbers(text):
    """Numbers, each once; None for all."""
    if text == "all":
        return None
    return tuple(dict.fromkeys(int(number) for number in text.split(",")))


def _add_hub_options(command):
    command.add_argument("--revision", help="of a model on the hub")
    command.add_argument("--trust-remote-code", action="store_true",
                         help="run the code that a model brings along")


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


def _run_export_decoder(options):
    *model, folder = options.model
    if options.model_preset:
        model.append(PRESETS[options.model_preset].hub_id)
    if len(model) != 1:
        raise ToolError("export-decoder needs FOLDER and either MODEL or --model-preset")
    export = _command("export_decoder").export_decoder
    print(export(model[0], folder, positions=options.max_positions, replace=options.force,
                 revision=options.revision, trust_remote_code=options.trust_remote_code))


def _run_export_kv(options):
    export = _command("export_kv")
    for name in ("max_samples", "max_tokens"):
        if getattr(options, name) < 1:
            raise ToolError(f"--{name.replace('_', '-')} must be 1 or more, "
                            f"got {getattr(options, name)}")
    source = _kv_source(options)
    if options.text:
        content = options.text.read_text(encoding="utf-8")
        samples = export.samples_of_text(source, content, options.max_tokens, options.max_samples)
    else:
        prompts = export.read_prompts(options.prompts)
        samples = export.samples_of_prompts(source, prompts, options.max_tokens,
                                            options.max_samples)
    layers = tuple(range(source.layers)) if options.layers is None else options.layers
    heads = tuple(range(source.kv_heads)) if options.heads is None else options.heads
    choice = export.KvChoice(layers=layers, heads=heads, rope=options.rope,
                             query_stride=options.query_stride,
                             first_query_head_only=options.query_heads == "first")
    suite = options.suite or (options.text or options.prompts).stem
    for path in export.export_kv(source, samples, options.output, choice, suite=suite):
        print(path)


def _kv_source(options):
    if options.bundle:
        return _command("bundle_kv_source").BundleSource(options.bundle)
    name = options.model or PRESETS[options.model_preset].hub_id
    return _command("hf_kv_source").HuggingFaceSource(
        name, device=options.device, dtype=options.dtype, revision=options.revision,
        trust_remote_code=options.trust_remote_code)


def _run_models(_):
    for name, preset in PRESETS.items():
        commands = "export-gguf, export-decoder" if preset.gguf else "export-decoder"
        print(f"{name}\n  {preset.description}\n  {preset.hub_id}, {preset.licence}\n  {commands}")
