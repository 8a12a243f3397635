"""Outputs of pipelines in object storage: written locally, then uploaded, so that each appears when it is complete."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import List, NamedTuple, Tuple

from . import remote
from .errors import PipelineError


class _Target(NamedTuple):
    """The destination of a stage's outputs."""

    stage: str
    #: The folder in object storage.
    url: str
    #: The local folder.
    staging: str
    #: The name of the output if it is known before the run.
    name: str
    overwrite: bool


class Uploads:
    """The outputs of a pipeline's text in object storage; ``text`` has local paths instead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._targets: List[_Target] = []
        if "://" not in text:
            return
        from .jobs.template import SINKS, quoted, split_words, stages_of

        try:
            words = split_words(text)
        except ValueError:
            # The compiled part reports the error, with its position.
            return
        raws = [word.raw for word in words]
        for stage in stages_of(words):
            places = [place for place in range(stage.place + 1, len(words)) if words[place].text in stage.arguments[:1]]
            if stage.name not in SINKS or not places or not remote.is_remote(stage.arguments[0]):
                continue
            url, _, name = stage.arguments[0].rpartition("/")
            if "{" in url:
                raise ValueError(f"`{stage.name}` {stage.arguments[0]}: placeholders may stand in the last part of the name only")
            if not self._targets:
                self._folder = tempfile.mkdtemp(prefix="framerail-upload-")
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            staging = os.path.join(self._folder, str(len(self._targets)))
            os.mkdir(staging)
            overwrite = stage.options.get("overwrite", "no") in ("yes", "true", "on", "1")
            self._targets.append(_Target(stage.name, url, staging, "" if "{" in name else name, overwrite))
            raws[places[0]] = quoted(os.path.join(staging, name))
        if self._targets:
            self.text = " ".join(raws)

    def check(self) -> None:
        """Checks for outputs that exist already.

        Raises
        ------
        PipelineError
        """
        for target in self._targets:
            if target.name:
                self._check(target, target.name)

    def complete(self) -> List[Tuple[str, str]]:
        """Uploads the outputs of a run; returns the local paths and the addresses.

        Raises
        ------
        PipelineError
            Where the storage refuses; what was written is kept on this machine, and the message names it.
        """
        done = []
        for target in self._targets:
            names = sorted(os.listdir(target.staging))
            for name in names:
                self._check(target, name)
            for name in names:
                path, address = os.path.join(target.staging, name), f"{target.url}/{name}"
                try:
                    self._put(target, path, name)
                except Exception as error:
                    kept = os.path.join(tempfile.mkdtemp(prefix="framerail-kept-"), name)
                    shutil.move(path, kept)
                    words = " ".join(str(error).split())
                    raise PipelineError(f"`{target.stage}`: {address} cannot be uploaded: {words}; it is kept as {kept}", "output", 4, target.stage) from error
                done.append((path, address))
        return done

    @staticmethod
    def _put(target: _Target, path: str, name: str) -> None:
        from .jobs.folders import folder

        folder(target.url).put(path, name)

    @staticmethod
    def _check(target: _Target, name: str) -> None:
        from .jobs.folders import folder

        if not target.overwrite and folder(target.url).size(name) is not None:
            raise PipelineError(
                f"`{target.stage}`: {target.url}/{name} exists; give overwrite=True, or another name", "output", 4, target.stage
            )
