"""Pieces of an HTML page, every text escaped."""

import base64
import dataclasses
import html
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the page, drawn for light and for dark pages, and the same in words."""

    light: bytes
    dark: bytes
    alt: str
    caption: str


def element(tag: str, text: str, style: str = "") -> str:
    """Write an element that holds escaped text."""
    return wrap(tag, html.escape(text), style)


def wrap(tag: str, inner: str, style: str = "") -> str:
    """Write an element around markup that is already safe."""
    return f'<{tag} class="{style}">{inner}</{tag}>' if style else f"<{tag}>{inner}</{tag}>"


def section(title: str, *blocks: str) -> str:
    """Write a section, or nothing where it would be empty."""
    if not any(blocks):
        return ""
    return wrap("section", element("h2", title) + "\n" + "\n".join(blocks))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table; the first cell of a row is its header, verdicts are coloured."""
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    lines = []
    for row in rows:
        first = f'<th scope="row">{html.escape(row[0])}</th>'
        cells = (
            element("td", cell, f"{cell}-cell" if cell in ("better", "worse") else "")
            for cell in row[1:]
        )
        lines.append(wrap("tr", first + "".join(cells)))
    return (
        f'<div class="scroll"><table>{element("caption", caption)}\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def figure(picture: Picture) -> str:
    """Embed a figure; the browser picks the version for its colour scheme."""
    light, dark = (base64.b64encode(data).decode() for data in (picture.light, picture.dark))
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,{dark}">'
        f'<img alt="{html.escape(picture.alt)}" src="data:image/png;base64,{light}">'
        f"</picture>{element('figcaption', picture.caption)}</figure>"
    )


def definitions(items: Sequence[tuple[str, str]]) -> str:
    """Write a definition list."""
    return wrap("dl", "\n".join(element("dt", n) + element("dd", t) for n, t in items))


def bullets(items: Sequence[str], style: str) -> str:
    """Write a bullet list, or nothing where it would be empty."""
    return wrap("ul", "\n".join(element("li", item) for item in items), style) if items else ""
