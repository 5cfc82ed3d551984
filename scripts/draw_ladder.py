"""Draw the ladder from its table in `kevel.domain.ladder`, as a picture and as a table of Markdown.

    python scripts/draw_ladder.py            write docs/ladder.svg, and the table in docs/architecture.md
    python scripts/draw_ladder.py --check    write nothing; exit 1 when they are not what the code says

In `docs/architecture.md` the table stands between two comments, `<!-- ladder -->` and `<!-- /ladder -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from kevel.domain.ladder import HANDOVER, MOVES, Hands, Move, Rung

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- ladder -->", "<!-- /ladder -->"

#: What the documents call the two holders of a path.
HOLDERS = {Hands.CONTROL: "the control plane", Hands.HOST: "the host's agent"}
COLOURS = {Hands.CONTROL: "#2b6cb0", Hands.HOST: "#2f855a"}

WIDTH, RUNG_HEIGHT, GAP, TOP = 640, 40, 58, 20
RUNG_LEFT, RUNG_WIDTH = 220, 200


def rung_top(rung: Rung) -> int:
    """The y of a rung's upper edge: the highest rung is at the top."""
    return TOP + (max(Rung) - rung) * (RUNG_HEIGHT + GAP)


def write_text(x: int, y: int, text: str, colour: str, anchor: str) -> str:
    """A line of text that starts, ends or has its middle at x."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def draw_move(move: Move) -> str:
    """An arrow between two rungs with the act's name beside it; ways up on the left, ways down on the right."""
    up = move.target > move.source
    x = RUNG_LEFT + RUNG_WIDTH * (1 if up else 2) // 3
    upper, lower = max(move.source, move.target), min(move.source, move.target)
    ends = (rung_top(upper) + RUNG_HEIGHT + 4, rung_top(lower) - 4)
    start, stop = reversed(ends) if up else ends
    colour = COLOURS[move.hands]
    name = write_text(x - 12 if up else x + 12, sum(ends) // 2 + 5, move.act, colour, "end" if up else "start")
    place = f'x1="{x}" y1="{start}" x2="{x}" y2="{stop}"'
    return f'<line {place} stroke="{colour}" stroke-width="2" marker-end="url(#{move.hands.value})"/>{name}'


def draw_rung(rung: Rung) -> str:
    """A box with the rung's name; a dashed line beside the rung on which a path changes hands."""
    y = rung_top(rung)
    middle = y + RUNG_HEIGHT // 2
    place = f'x="{RUNG_LEFT}" y="{y}" width="{RUNG_WIDTH}" height="{RUNG_HEIGHT}" rx="6"'
    name = write_text(RUNG_LEFT + RUNG_WIDTH // 2, middle + 5, rung.name.lower(), "#1a202c", "middle")
    box = f'<rect {place} fill="#ffffff" stroke="#2d3748"/>{name}'
    if rung is not HANDOVER:
        return box
    right = WIDTH - 16
    line = f'<line x1="16" y1="{middle}" x2="{right}" y2="{middle}" stroke="#a0aec0" stroke-dasharray="5 5"/>'
    above = write_text(right, middle - 8, HOLDERS[Hands.HOST], COLOURS[Hands.HOST], "end")
    below = write_text(right, middle + 18, HOLDERS[Hands.CONTROL], COLOURS[Hands.CONTROL], "end")
    return line + box + above + below


def draw_arrow_head(hands: Hands) -> str:
    """The arrow head that a holder's moves end in."""
    size = 'viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"'
    return f'<marker id="{hands.value}" {size}><path d="M0 0L10 5L0 10z" fill="{COLOURS[hands]}"/></marker>'


def draw_picture() -> str:
    """Return the ladder as an SVG document."""
    height = rung_top(min(Rung)) + RUNG_HEIGHT + TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        ' font-family="sans-serif" font-size="14">',
        "<title>The ladder: rungs, moves, and whose they are</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#f7fafc"/>',
        f"<defs>{''.join(map(draw_arrow_head, Hands))}</defs>",
        *map(draw_rung, sorted(Rung, reverse=True)),
        *map(draw_move, MOVES),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def write_table() -> str:
    """Return the moves as a table of Markdown."""
    rows = [
        f"| `{move.act}` | {move.source.name.lower()} | {move.target.name.lower()} | {HOLDERS[move.hands]} |"
        for move in MOVES
    ]
    return "\n".join(["| act | from | to | made by |", "|---|---|---|---|", *rows])


def render_documents() -> dict[Path, str]:
    """Return what each document should hold, by its path. Raises SystemExit when the table's place is missing."""
    documents = {DOCS / "ladder.svg": draw_picture()}
    page = DOCS / "architecture.md"
    if page.exists():
        text = page.read_text()
        place = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
        if len(place.findall(text)) != 1:
            raise SystemExit(f"docs: {page.name} must have one {BEGIN} ... {END}, where the table of moves goes")
        documents[page] = place.sub(lambda _: f"{BEGIN}\n{write_table()}\n{END}", text)
    return documents


def main() -> int:
    """Write the documents, or compare them."""
    if sys.argv[1:] not in ([], ["--check"]):
        print(f"usage: {Path(sys.argv[0]).name} [--check]", file=sys.stderr)
        return 2
    code = 0
    for path, text in render_documents().items():
        if path.exists() and path.read_text() == text:
            continue
        if sys.argv[1:] == ["--check"]:
            print(f"docs: {path.relative_to(DOCS.parent)} is not what the code says; run `make docs`", file=sys.stderr)
            code = 1
        else:
            path.write_text(text)
            print(f"docs: wrote {path.relative_to(DOCS.parent)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
