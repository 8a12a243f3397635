"""Writes docs/python-api.md from the docstrings of the Python package; `--check` only compares.

    python3 scripts/python_api.py [--check]

Reads the sources, so that neither the compiled part nor PyTorch is needed.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "framerail"
TARGET = ROOT / "docs" / "python-api.md"

#: Chapters: title, and module with the names that belong to it.
CHAPTERS = [
    ("Reading", [("reader", ["VideoReader"]), ("batches", ["BatchIterator"]), ("remote", ["RemoteFile"]), ("frames", ["FrameBatch", "Frame", "VideoMetadata", "FrameTimes", "Planes"])]),
    ("Audio", [("audio", ["AudioReader", "AudioSamples", "AudioMetadata"])]),
    ("Writing", [("writer", ["VideoWriter", "WriteReport"]), ("audio_writer", ["AudioWriter", "AudioWriteReport"])]),
    ("Live streams", [("live", ["live", "LiveFrames", "LiveBatch"]), ("frame_input", ["FrameInput"])]),
    ("Normalisation", [("options", ["Normalize", "Preprocess"])]),
    ("Frames for models", [("sampling", ["sample_frames", "sampled_numbers", "fitting_size"])]),
    ("Clips", [("clips", ["sample_clips", "clip_numbers", "Clips"])]),
    ("Augmentation", [("augment", ["Augment", "ColorJitter", "RandomResizedCrop", "RandomBlur", "RandomErase", "mixed_seed"])]),
    ("PyTorch", [("torch", ["ClipDataset"]), ("clip_stream", ["ClipStream"]), ("torch", ["collate"]), ("clip_audio", ["ClipAudio"]), ("loader", ["ClipLoader", "VideoAverage"]), ("video_index", ["index_videos", "read_index"])]),
    ("Pipelines", [("pipeline", ["Pipeline", "blur_faces", "stages"]), ("types", ["Outcome"]), ("_framerail", ["FrameItem", "Detection"])]),
    (
        "Stages of your own",
        [
            ("functions", ["stage"]),
            ("batch", ["ItemBatch"]),
            ("_framerail", ["Attribute", "InstanceMask", "DenseMap"]),
            ("interop", ["to_supervision", "to_pandas"]),
        ],
    ),
    ("Ray", [("ray/read", ["read_clips", "read_frames"]), ("ray/run", ["run"]), ("ray/detect", ["Detect"]), ("jobs/report", ["Report", "JobRow"])]),
    ("Memory", [("_framerail", ["Tensor"])]),
    ("Errors", [("errors", ["DecodeError", "UnsupportedError", "CudaError", "PipelineError", "PipelineUsageError"])]),
    ("This machine", [("doctor", ["doctor"]), ("_framerail", ["set_log_level"])]),
]

HEAD = """# Python API

Generated from types and docstrings by `scripts/python_api.py`. The [Python guide](python.md) explains how to use it. Names are in `framerail`, except
those of the chapters "PyTorch" and "Ray", which are in `framerail.torch` and `framerail.ray`.
"""


def typed(argument, default):
    """A parameter with its type and default."""
    text = argument.arg + (f": {ast.unparse(argument.annotation)}" if argument.annotation else "")
    if not default:
        return text
    return text + (" = " if argument.annotation else "=") + ast.unparse(default)


def signature(function, name):
    """A function's signature with types."""
    arguments = function.args
    parts = []
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for argument, default in zip(positional, defaults):
        if argument.arg not in ("self", "cls"):
            parts.append(typed(argument, default))
    if arguments.vararg:
        parts.append("*" + arguments.vararg.arg)
    elif arguments.kwonlyargs:
        parts.append("*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        parts.append(typed(argument, default))
    if arguments.kwarg:
        parts.append("**" + arguments.kwarg.arg)
    result = f" -> {ast.unparse(function.returns)}" if function.returns and function.name != "__init__" else ""
    line = f"{name}({', '.join(parts)}){result}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){result}"


def docstring(node, title):
    text = ast.get_docstring(node)
    if not text:
        raise SystemExit(f"python_api: {title} has no docstring")
    return text


def described(text):
    """A docstring in NumPy's style as Markdown."""
    lines, out, at = text.splitlines(), [], 0
    in_section = False
    while at < len(lines):
        line = lines[at]
        if at + 1 < len(lines) and lines[at + 1] and set(lines[at + 1]) == {"-"}:
            out += ["", f"**{line}**", ""]
            in_section = line not in ("Examples", "Notes")
            if line == "Examples":
                out += ["```python", *lines[at + 2 :], "```"]
                break
            at += 2
            continue
        if in_section and line and not line.startswith(" "):
            out.append(f"- `{line}`" if line[0].isidentifier() or line.startswith("*") else line)
        else:
            out.append(("  " + line.strip()) if in_section and line.strip() else line)
        at += 1
    # Fences keep their three.
    return re.sub(r"(?<!`)``(?!`)", "`", "\n".join(out)).strip() + "\n"


def is_public(node):
    if not isinstance(node, ast.FunctionDef) or not ast.get_docstring(node):
        return False
    return not node.name.startswith("_") or node.name in ("__call__", "__len__", "__getitem__", "__iter__")


def document(node, parts):
    """Appends what is to be said of a class or function."""
    if isinstance(node, ast.FunctionDef):
        parts += [f"### {node.name}\n", f"```python\n{signature(node, node.name)}\n```\n", described(docstring(node, node.name))]
        return
    # The implementation follows its overloads, which are for type checkers.
    starts = [member for member in node.body if isinstance(member, ast.FunctionDef) and member.name == "__init__"]
    start = starts[-1] if starts else None
    fields = [member for member in node.body if isinstance(member, ast.AnnAssign)]
    parts.append(f"### {node.name}\n")
    if start:
        parts.append(f"```python\n{signature(start, node.name)}\n```\n")
    elif fields and node.decorator_list:
        names = [ast.unparse(one.target) + (f"={ast.unparse(one.value)}" if one.value else "") for one in fields]
        parts.append(f"```python\n{node.name}({', '.join(names)})\n```\n")
    parts.append(described(docstring(node, node.name)))
    for member in filter(is_public, node.body):
        is_property = any(ast.unparse(decorator) == "property" for decorator in member.decorator_list)
        called = f"{node.name}.{member.name}" if is_property else signature(member, f"{node.name}.{member.name}")
        parts += [f"#### {node.name}.{member.name}\n"]
        if not is_property:
            parts.append(f"```python\n{called}\n```\n")
        parts.append(described(docstring(member, called)))


def make():
    parts = [HEAD]
    for title, modules in CHAPTERS:
        parts.append(f"## {title}\n")
        for module, names in modules:
            path = next(path for path in (PACKAGE / f"{module}.py", PACKAGE / f"{module}.pyi") if path.exists())
            tree = ast.parse(path.read_text())
            nodes = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
            for name in names:
                document(nodes[name], parts)
    return re.sub("\n{3,}", "\n\n", "\n".join(parts))


def main():
    made = make()
    if sys.argv[1:] == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != made:
            raise SystemExit("docs/python-api.md is not what the docstrings say; run: python3 scripts/python_api.py")
    elif sys.argv[1:]:
        raise SystemExit(__doc__)
    else:
        TARGET.write_text(made)


if __name__ == "__main__":
    main()
