"""Turn the text of a terminal, with its colours, into a picture.

    tmux capture-pane -e -p -t SESSION | python docs/images/terminal.py > picture.svg

Only what flpoc uses is understood: bold, faint, and the eight colours. Fonts
are those of the reader's system; every piece of text is put at its column, so
that columns stay columns whatever the font.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from html import escape

CELL, LINE, EDGE, BAR = 8.4, 18.0, 16.0, 30.0
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
GROUND, INK = "#1e2127", "#d7dae0"
COLOURS = {31: "#e06c75", 32: "#98c379", 33: "#e5c07b", 34: "#61afef", 35: "#c678dd", 36: "#56b6c2"}
ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")


def pieces(line: str) -> Iterator[tuple[int, str, str]]:
    """Column, text and style of each piece of a line."""
    column, at, codes = 0, 0, set[int]()
    for found in [*ESCAPE.finditer(line), None]:
        text = line[at : found.start() if found else len(line)]
        if text.strip():
            blank = len(text) - len(text.lstrip(" "))
            yield column + blank, text.strip(" "), style(codes)
        column += width(text)
        if found is None:
            return
        at = found.end()
        for code in map(int, (found.group(1) or "0").split(";")) if found.group(2) == "m" else ():
            if code in COLOURS or code == 39:
                codes -= {*COLOURS}
            if code == 22:
                codes -= {1, 2}
            codes = set() if code == 0 else codes | {code}


def style(codes: set[int]) -> str:
    """The attributes of a piece of text."""
    colour = next((COLOURS[code] for code in codes if code in COLOURS), "")
    found = f' fill="{colour}"' if colour else ""
    found += ' font-weight="bold"' if 1 in codes else ""
    return found + (' opacity="0.6"' if 2 in codes else "")


def width(text: str) -> int:
    """How many columns a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def picture(text: str, title: str) -> str:
    """The whole picture as SVG."""
    lines = text.rstrip("\n").split("\n")
    columns = max(60, *(width(ESCAPE.sub("", line)) for line in lines))
    across, down = 2 * EDGE + CELL * columns, BAR + 2 * EDGE + LINE * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:g} {down:g}" width="{across:g}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{across:g}" height="{down:g}" rx="8" fill="{GROUND}"/>',
        *(f'<circle cx="{20 + 18 * place}" cy="19" r="5.5" fill="#4b515c"/>' for place in range(3)),
        f'<g font-family="{FONT}" font-size="14" fill="{INK}" xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        low = BAR + EDGE + LINE * (number + 0.75)
        for column, piece, how in pieces(line):
            left, long = EDGE + CELL * column, CELL * width(piece)
            place = f'x="{left:.1f}" y="{low:.1f}" textLength="{long:.1f}"'
            parts.append(f"<text {place}{how}>{escape(piece)}</text>")
    return "\n".join([*parts, "</g>", "</svg>", ""])


if __name__ == "__main__":
    sys.stdout.write(picture(sys.stdin.read(), " ".join(sys.argv[1:]) or "A terminal"))
