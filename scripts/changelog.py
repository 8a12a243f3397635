#!/usr/bin/env python3
"""Makes a release entry of CHANGELOG.md from the fragments in changelog.d/.

    scripts/changelog.py            print the entry
    scripts/changelog.py 1.2.0      write it to CHANGELOG.md under this version and today's date, and remove the fragments

A fragment is a file of list items (Markdown), written from the user's point of view, named after its topic. It may begin with a heading, such
as `### Python`: fragments with the same heading are put together, those without one come last.
"""

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNRELEASED = "## Unreleased\n"
OTHER = "### Other changes"
NOTE = "\nEntries of the next release are fragments, one file per topic, in `changelog.d`; `make changelog` moves them here.\n"


def fragments() -> list[Path]:
    return sorted((ROOT / "changelog.d").glob("*.md"))


def section(path: Path) -> tuple[str, str]:
    """Heading and list items of a fragment."""
    heading, text = OTHER, path.read_text(encoding="utf-8").strip()
    if text.startswith("### "):
        heading, _, text = text.partition("\n")
    text = text.strip()
    if not text.startswith("- ") or re.search(r"^#", text, re.MULTILINE):
        raise SystemExit(f"changelog: {path.relative_to(ROOT)}: a fragment is a list, with at most one heading (### Topic) before it")
    return heading, text


def entry() -> str:
    sections: dict[str, list[str]] = {}
    for heading, text in map(section, fragments()):
        sections.setdefault(heading, []).append(text)
    order = sorted(sections, key=lambda heading: (heading == OTHER, heading))
    return "\n\n".join(f"{heading}\n\n" + "\n".join(sections[heading]) for heading in order)


def main() -> None:
    if len(sys.argv) < 2:
        print(entry())
        return
    version = sys.argv[1]
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", version):
        raise SystemExit(f"changelog: '{version}' is not a version; write it as 1.2.0")
    path = ROOT / "CHANGELOG.md"
    before, found, earlier = path.read_text(encoding="utf-8").partition(UNRELEASED)
    if not found:
        raise SystemExit("changelog: CHANGELOG.md has no section 'Unreleased'")
    # What was written into the section by hand belongs to this release too.
    by_hand = re.split(r"^## ", earlier.replace(NOTE, "", 1), maxsplit=1, flags=re.MULTILINE)
    rest = f"\n## {by_hand[1]}" if len(by_hand) > 1 else "\n"
    released = f"\n## {version} ({datetime.date.today().isoformat()})\n\n{entry()}\n\n{by_hand[0].strip()}".rstrip()
    path.write_text(f"{before}{UNRELEASED}{NOTE}{released}\n{rest}".rstrip() + "\n", encoding="utf-8")
    for fragment in fragments():
        fragment.unlink()
    print(f"changelog: {version} in CHANGELOG.md")


if __name__ == "__main__":
    main()
