"""Pipeline texts with placeholders for an input: {path}, {name}, {out} and {rows}."""

from __future__ import annotations

import json
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from .. import _framerail

_SIGNS = ("!", "(", ")", "--")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*=")
_PLAIN = re.compile(r"[\w@%+:,./{}*-]+\Z")
#: Stages that write files named by their first argument.
SINKS = frozenset(("write", "save", "frames", "report", "record"))
#: Those whose target is one file.
_ONE_FILE = frozenset(("write", "save", "report"))
#: Placeholders of a job. Other braces belong to the stages.
PLACES = ("path", "name", "out", "rows")
_PLACE = re.compile(r"\{(path|name|out|rows)\}")


class Word(NamedTuple):
    """A word of a text: as written, and unquoted."""

    raw: str
    text: str

    @property
    def sign(self) -> bool:
        return self.raw in _SIGNS

    @property
    def key(self) -> str:
        """The key of an option; empty for arguments."""
        found = _OPTION.match(self.raw)
        return found.group()[:-1] if found else ""

    @property
    def value(self) -> str:
        """An option's value, or an argument."""
        return self.text[len(self.key) + 1 :] if self.key else self.text


class Stage(NamedTuple):
    """A stage of a text: its name, arguments and options."""

    name: str
    arguments: List[str]
    options: Dict[str, str]
    #: Index of its name among the words.
    place: int
    #: The branches that contain it.
    depth: int


def split_words(text: str) -> List[Word]:
    """The words of a pipeline text, quoted as in a shell.

    Raises
    ------
    ValueError
        For a quotation that does not end.
    """
    words: List[Word] = []
    at, end = 0, len(text)
    while at < end:
        if text[at].isspace():
            at += 1
            continue
        start, meant = at, ""
        while at < end and not text[at].isspace():
            letter = text[at]
            if letter == "'":
                close = text.find("'", at + 1)
                if close < 0:
                    raise ValueError(f"the quotation mark at character {at} of the pipeline is not closed: {text[at:]}")
                meant, at = meant + text[at + 1 : close], close + 1
            elif letter == '"':
                opened, at = at, at + 1
                while at < end and text[at] != '"':
                    at += text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\")
                    meant, at = meant + text[at : at + 1], at + 1
                if at >= end:
                    raise ValueError(f"the quotation mark at character {opened} of the pipeline is not closed: {text[opened:]}")
                at += 1
            else:
                at += letter == "\\"
                meant, at = meant + text[at : at + 1], at + 1
        words.append(Word(text[start:at], meant))
    return words


def quoted(value: str) -> str:
    """A value quoted for a pipeline's text."""
    return value if _PLAIN.match(value) else "'" + value.replace("'", "'\"'\"'") + "'"


def stages_of(words: List[Word]) -> List[Stage]:
    """The stages of a text; those of branches follow the stage that branches."""
    found: List[Stage] = []
    is_name, is_literal, depth = True, False, 0
    for place, word in enumerate(words):
        if word.raw in ("!", "(", ")"):
            depth += (word.raw == "(") - (word.raw == ")")
            is_name, is_literal = word.raw != ")", False
        elif word.raw == "--":
            is_literal = True
        elif is_name:
            found.append(Stage(word.text, [], {}, place, depth))
            is_name = False
        elif word.key and not is_literal:
            found[-1].options[word.key] = word.value
        else:
            found[-1].arguments.append(word.text)
    return found


class Template:
    """A pipeline text that is run for one input after another.

    ``{path}`` is the input, ``{name}`` its name, ``{out}`` the folder of outputs, and ``{rows}`` a file whose rows are the job's result.

    Raises
    ------
    ValueError
        For a text whose source is not ``{path}``.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = split_words(text)
        self.stages = stages_of(self.words)
        if not self.stages or self.stages[0].name != "read" or self.stages[0].arguments != ["{path}"]:
            raise ValueError(f"pipeline {text!r}: it must begin with `read {{path}}`, which stands for each input")
        #: The folder of outputs in the text, before {out} replaced it.
        self.folder: Optional[str] = None
        self.has_rows = any("{rows}" in word.text for word in self.words)

    def check(self, device: Optional[str] = None) -> None:
        """Checks the text as a pipeline, without opening anything.

        Raises
        ------
        PipelineUsageError
        """
        from ..pipeline import Pipeline

        Pipeline(self.filled(path="input.mp4", name="name", out="out", rows="rows.parquet"), device=device)

    def check_outputs(self, inputs: int) -> None:
        """Checks that outputs of several inputs have different names.

        Raises
        ------
        ValueError
        """
        for stage in self.stages:
            target = (stage.arguments or [stage.options.get("file", "")])[0]
            if inputs > 1 and stage.name in _ONE_FILE and "{out}/" in target and not re.search(r"\{(name|stream)\}", target):
                raise ValueError(f"`{stage.name} {target}`: all {inputs} inputs have this output; put {{name}} into it, as in {{out}}/{{name}}.mp4")

    def outputs_folder(self) -> Optional[str]:
        """The common folder of all outputs in the text; "{out}" if it is given by ``out``; None without outputs.

        Raises
        ------
        ValueError
            Where outputs are in several folders.
        """
        folders = set()
        for stage in self.stages:
            if stage.name in SINKS:
                target = (stage.arguments or [stage.options.get("file", "")])[0]
                if target and "{rows}" not in target and target != "-" and not re.match(r"[a-z]+://", target):
                    head = target.split("{", 1)[0] if not target.startswith("{out}") else "{out}"
                    folders.add(head if head == "{out}" else head.rpartition("/")[0] or ".")
        if len(folders) > 1:
            raise ValueError(f"outputs are in several folders ({', '.join(sorted(folders))}); write them below {{out}} and give out=")
        return folders.pop() if folders else None

    def rooted(self) -> Template:
        """The same with ``{out}`` instead of the folder of outputs in the text."""
        folder = self.outputs_folder()
        if folder is None or folder == "{out}":
            return self
        prefix = "" if folder == "." else folder + "/"
        places = {stage.place: stage for stage in self.stages if stage.name in SINKS}
        texts, current = [], None
        for place, word in enumerate(self.words):
            current = places.get(place) if place in places else None if word.raw in ("!", "(", ")") else current
            is_target = current is not None and place != current.place and not word.sign and (
                word.key == "file" or (not word.key and word.text in current.arguments[:1])
            )
            if is_target and word.value.startswith(prefix) and "{rows}" not in word.value and "://" not in word.value:
                raw = "{out}/" + word.value[len(prefix) :]
                texts.append((word.key + "=" if word.key else "") + quoted(raw))
            else:
                texts.append(word.raw)
        made = Template(" ".join(texts))
        made.folder = folder
        return made

    def filled(self, *, path: str, name: str = "", out: str = "", rows: str = "", options: Optional[Dict[str, Dict[str, str]]] = None) -> str:
        """The text of one job. ``options`` are added to stages of a name that do not have them."""
        values = {"path": path, "name": _literal(name), "out": _literal(out), "rows": _literal(rows)}
        texts = []
        ends = [stage.place for stage in self.stages]
        for place, word in enumerate(self.words):
            if word.sign or not _PLACE.search(word.text):
                texts.append(word.raw)
            else:
                value = _PLACE.sub(lambda found: values[found.group(1)], word.value)
                texts.append((word.key + "=" if word.key else "") + quoted(value))
            if place in ends and options:
                stage = self.stages[ends.index(place)]
                more = options.get(stage.name, {})
                texts += [f"{key}={quoted(value)}" for key, value in more.items() if key not in stage.options]
        return " ".join(texts)

    def threads_options(self, threads: int) -> Dict[str, Dict[str, str]]:
        """Options that limit a job to this many threads, for stages that have ``threads``."""
        known = _threaded()
        return {stage.name: {"threads": str(threads)} for stage in self.stages if stage.name in known}


def _literal(name: str) -> str:
    """Escapes a name, so that nothing in it is a placeholder of the stages."""
    return name.replace("{", "{{")


_THREADED: List[Tuple[str, ...]] = []


def _threaded() -> Tuple[str, ...]:
    if not _THREADED:
        listed = json.loads(_framerail.stages())["stages"]
        _THREADED.append(tuple(stage["name"] for stage in listed if any(option["name"] == "threads" for option in stage["options"])))
    return _THREADED[0]
