"""What MkDocs calls while it builds the site: pages that are made of other files, and links to them.

- `index.md` is README.md, `changes.md` is CHANGELOG.md.
- `reference/errors.md` is the catalogue that `catalogue.py` makes of the error classes' docstrings.
- Files outside of docs/ that a page links to, such as examples, are pages below `repo/`.
"""

from __future__ import annotations

import ast
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "docs" / "_site"))

import catalogue  # noqa: E402  a neighbour of this file

# Pages of the site, and the files of the source tree that they are made of.
MADE = {"index.md": "README.md", "changes.md": "CHANGELOG.md", "examples.md": "examples/README.md"}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".sh": "sh", ".md": ""}
PICTURE = re.compile(r"<picture>.*?</picture>", re.DOTALL)
CHART = (
    "![Times as fast as nats-py](performance/summary-light.svg#only-light)\n"
    "![Times as fast as nats-py](performance/summary-dark.svg#only-dark)"
)


def outside_of_fences(text: str, change: Any) -> str:
    """Return a page's text, changed wherever it is no code block."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def source_of(page: str) -> str:
    """Return the path in the source tree of what a page is made of."""
    if page in MADE:
        return MADE[page]
    if page.startswith("repo/"):
        return page.removeprefix("repo/").removesuffix(".md")
    return f"docs/{page}"


def page_of(source: str) -> str:
    """Return the page, or the other file of the site, that shows a file of the source tree."""
    for page, made_of in MADE.items():
        if source in (made_of, posixpath.dirname(made_of) or made_of):
            return page
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    return f"repo/{source}.md"


def links(page: str, text: str) -> set[str]:
    """Return the paths in the source tree to which a page links."""
    folder = posixpath.dirname(source_of(page))
    found: set[str] = set()

    def note(part: str) -> str:
        for link in LINK.findall(part):
            found.add(posixpath.normpath(posixpath.join(folder, link)))
        return part

    outside_of_fences(text, note)
    return found


def content_of(page: str) -> str:
    """Return the text of a page that is made of another file."""
    path = ROOT / source_of(page)
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir() if p.is_file())
        return f"# {path.name}\n\n" + "\n".join(f"- [{n}]({n})" for n in names) + "\n"
    text = path.read_text()
    if path.suffix == ".md":
        return PICTURE.sub(lambda _: CHART, text)
    language = LANGUAGES.get(path.suffix, "text")
    return f"# {path.name}\n\n```{language}\n{text.replace('```', '` ` `')}```\n"


def examples() -> str:
    """Return a list of the examples, by the first paragraph of each."""
    lines = [
        "# Examples",
        "",
        "Whole programs, to start from. NATS_HOST and NATS_PORT say where the server is.",
        "",
    ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        first = " ".join(text.split("\n\n")[0].split())
        lines.append(f"- [{path.name}]({path.name}): {first}")
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made, and those to which they link."""

    def add(page: str, text: str) -> None:
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=text))

    for page, made_of in MADE.items():
        if (ROOT / made_of).exists():
            add(page, content_of(page))
    add("examples.md", examples())
    add("reference/errors.md", catalogue.page())
    todo = [file for file in files if file.is_documentation_page()]
    while todo:
        file = todo.pop()
        for source in links(file.src_uri, file.content_string):
            page = page_of(source)
            known = files.get_file_from_path(page) is not None
            if page.startswith("repo/") and (ROOT / source).exists() and not known:
                add(page, content_of(page))
                todo += [made for made in files if made.src_uri == page]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links to files of the source tree lead to their pages."""
    here = page.file.src_uri
    folder = posixpath.dirname(source_of(here))

    def change(part: str) -> str:
        def target(found: re.Match[str]) -> str:
            source = posixpath.normpath(posixpath.join(folder, found[0]))
            if files.get_file_from_path(page_of(source)) is None:
                return found[0]  # MkDocs warns of it
            return posixpath.relpath(page_of(source), posixpath.dirname(here) or ".")

        return LINK.sub(target, part)

    return outside_of_fences(markdown, change)
