"""What the documentation site has besides the pages of docs/: the API, notebooks, the pages of the root, navigation.

A hook of mkdocs (mkdocs.yml); each function's name says when it is called.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

FOLDERS = {"How to": "how-to", "Concepts": "concepts", "Reference": "reference", "Notebooks": "notebooks"}
OF_THE_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md")
API_PAGE = "reference/python.md"

_FETCHED = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>|url\(["']?https?:"""
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Every page of a folder is in the navigation, under the heading it has."""
    docs = Path(config.docs_dir)

    def pages(folder: str) -> list[str]:
        found = [p.with_suffix(".md") for ending in ("md", "ipynb") for p in docs.glob(f"{folder}/**/*.{ending}")]
        return sorted(p.relative_to(docs).as_posix() for p in found)

    nav: list[Any] = ["README.md", "tutorial.md", "gallery.md"]
    for title, folder in FOLDERS.items():
        entries = pages(folder) + ([API_PAGE] if API_PAGE.startswith(folder) else [])
        nav += [{title: sorted(entries)}] if entries else []
    config.nav = [{"Start": nav[:3]}, *nav[3:], {"Model cards": pages("cards")}]
    config.nav.append({"Project": ["glossary.md", *(name for name in OF_THE_ROOT if (_root(config) / name).exists())]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other things than Markdown in docs/."""
    files.append(File.generated(config, API_PAGE, content=_api()))
    for name in OF_THE_ROOT:
        if (_root(config) / name).exists():
            text = (_root(config) / name).read_text(encoding="utf-8")
            files.append(File.generated(config, name, content=text.replace("](docs/", "](")))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        page = file.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, page, content=notebook_page(Path(file.abs_src_path))))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links out of docs/ to a page of the root lead to the site's copy of it, links to a notebook to its page."""
    names = "|".join(map(re.escape, OF_THE_ROOT))
    markdown = re.sub(r"(\]\([^):]*\b\w+)\.ipynb", r"\1.md", markdown)
    return re.sub(rf"\]\(\.\./((?:\.\./)*(?:{names}))", r"](\1", markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """The site fetches nothing from elsewhere: no fonts, scripts, pictures."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in {".html", ".css"} and (found := _FETCHED.search(path.read_text(encoding="utf-8"))):
            raise PluginError(f"{path} would fetch from another place: {found.group()[:200]}")


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown, with what its cells printed and drew when they were last run."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(f"```python\n{source}\n```")
            parts += filter(None, map(_output, cell["outputs"]))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if isinstance(value, str | list)}
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f"![Drawn by the cell above](data:{kind};base64,{data[kind].replace(chr(10), '')})"
    if "text/html" in data:
        return data["text/html"]
    text = data.get("text/plain", "".join(output.get("text", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def _api() -> str:
    import cytolite

    names = [name for name in cytolite.__all__ if name != "__version__"]
    head = "# Python API\n\nWhat `import cytolite` offers. Each name is loaded when it is first used.\n\n"
    return head + "\n\n".join(f"::: cytolite.{name}" for name in names) + "\n"


def _root(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent
