#!/usr/bin/env python3
"""Checks the vocabulary of texts against scripts/words.toml: README, docs, examples, and text literals of the sources.

    scripts/check_words.py [FILE ...]

A line with `words: allow` in a comment is left out. Code blocks are left out; `code` in lines is too.
"""

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUST_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


@functools.cache
def rules(kind: str) -> list[tuple[re.Pattern, str]]:
    table = tomllib.loads((ROOT / "scripts" / "words.toml").read_text(encoding="utf-8"))
    return [(re.compile(rule["pattern"], re.IGNORECASE), rule["instead"]) for rule in table["rule"] if kind in rule["where"]]


def markdown(text: str):
    """Lines of prose with their numbers, without code."""
    in_block = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_block = not in_block
        elif not in_block or line.startswith("  "):
            yield number, line if in_block else re.sub(r"`[^`]*`", "`…`", line)


def rust(text: str):
    """Text literals of several words, with their first lines; tests below `#[cfg(test)]` are left out."""
    text = re.sub(r"^\s*//.*$", lambda comment: " " * len(comment[0]), text.split("#[cfg(test)]\nmod")[0], flags=re.MULTILINE)
    for found in RUST_TEXT.finditer(text):
        if found[1].count(" ") >= 2:
            literal = re.sub(r"\\\n\s*", "", found[1])
            yield text.count("\n", 0, found.start()) + 1, re.sub(r"`[^`]*`", "`…`", literal)


def python(text: str):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, re.sub(r"`[^`]*`", "`…`", line)


def is_test(path: Path) -> bool:
    return path.name in {"tests.rs", "test.rs"} or "tests" in path.relative_to(ROOT).parts


def texts():
    """Every text that is checked: kind of rules, path, reader."""
    yield from (("docs", path, markdown) for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
    yield from (("docs", path, markdown) for path in [ROOT / "examples" / "README.md", *sorted((ROOT / "changelog.d").glob("*.md"))])
    yield from (("strings", path, rust) for path in sorted((ROOT / "crates").glob("*/src/**/*.rs")) if not is_test(path))
    yield from (("strings", path, python) for path in sorted((ROOT / "python" / "framerail").glob("**/*.py")))


def main() -> int:
    wanted = {Path(name).resolve() for name in sys.argv[1:]}
    problems = 0
    for kind, path, reader in texts():
        if wanted and path not in wanted:
            continue
        text = path.read_text(encoding="utf-8")
        allowed = {number for number, line in enumerate(text.splitlines(), 1) if "words: allow" in line}
        for number, line in reader(text):
            for pattern, instead in rules(kind) if number not in allowed else ():
                if found := pattern.search(line):
                    problems += 1
                    print(f"{path.relative_to(ROOT)}:{number}: '{found[0]}': write {instead}: {line.strip()[:120]}", file=sys.stderr)
    if problems:
        print(f"check_words: {problems} places; see scripts/words.toml", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
