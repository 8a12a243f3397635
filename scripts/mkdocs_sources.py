"""MkDocs hook: pages link to files outside docs/, such as examples; the site gets copies of them under source/.

A link that leads nowhere stays as it is, and `mkdocs build --strict` fails on it.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
#: ](target#anchor), but neither addresses nor anchors alone.
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
TEXTS = {".md", ".py", ".rs", ".sh", ".toml", ".json", ".jsonl", ".txt", ""}


def repository_path(src_uri: str) -> str:
    """The path in the repository of a page of the site."""
    if src_uri.startswith("source/"):
        return re.sub(r"/(index\.md|listing\.md)$|\.view\.md$", "", src_uri.removeprefix("source/"))
    return posixpath.join("docs", src_uri)


def site_path(path: str) -> str:
    """Where the site has a path of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"source/{path}/index.md"
    if path.endswith(".md") or Path(path).suffix not in TEXTS:
        return f"source/{path}"
    # Text files are shown as a page; browsers would download them.
    return f"source/{path}.view.md"


def target(page: str, link: str) -> str:
    folder = repository_path(page)
    if not (ROOT / folder).is_dir():
        folder = posixpath.dirname(folder)
    return posixpath.normpath(posixpath.join(folder, link))


def page_of(path: str) -> str:
    file = ROOT / path
    if file.is_dir():
        rows = sorted(entry.name for entry in file.iterdir() if not entry.name.startswith((".", "_")) and entry.name != "target")
        return f"# {path}\n\n" + "".join(f"- [{name}]({name})\n" for name in rows)
    text = file.read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = {".py": "python", ".rs": "rust", ".sh": "bash", ".toml": "toml", ".json": "json"}.get(file.suffix, "text")
    fence = "````" if "```" in text else "```"
    return f"# {path}\n\n{fence}{language}\n{text}{fence}\n"


def on_files(files, config):
    waiting = [(file.src_uri, Path(file.abs_src_path).read_text(encoding="utf-8")) for file in files.documentation_pages()]
    known = set()
    while waiting:
        page, text = waiting.pop()
        for link, _ in LINK.findall(text):
            path = target(page, link)
            if path.startswith(("docs/", "..")) or path in known or not (ROOT / path).exists():
                continue
            known.add(path)
            uri = site_path(path)
            if uri.endswith(".md"):
                content = page_of(path)
                files.append(File.generated(config, uri, content=content, inclusion=InclusionLevel.NOT_IN_NAV))
                if path.endswith(".md") or (ROOT / path).is_dir():
                    waiting.append((uri, content))
            else:
                files.append(File.generated(config, uri, abs_src_path=os.fspath(ROOT / path)))
    return files


def on_page_markdown(markdown, page, **_):
    here = page.file.src_uri

    def replaced(match):
        path = target(here, match[1])
        if not (ROOT / path).exists():
            return match[0]
        return f"]({posixpath.relpath(site_path(path), posixpath.dirname(here) or '.')}{match[2] or ''})"

    return LINK.sub(replaced, markdown)
