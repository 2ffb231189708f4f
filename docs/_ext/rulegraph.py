"""The workflow's picture, drawn from Snakemake's own graph of its rules.

The many rules `figure_NAME` and `table_NAME` are one box each, and an arrow that follows from
others is left out. Colours are those of the rule files.
"""

import re
import subprocess
import sys
import tempfile
from html import escape
from itertools import pairwise
from pathlib import Path

import networkx as nx
from grandalf.graphs import Edge, Graph, Vertex
from grandalf.layouts import SugiyamaLayout
from grandalf.routing import EdgeViewer, route_with_lines

TARGETS = ("all", "report", "tune", "rome_layout")
COLOURS = {
    "assets": "#eeeeee",
    "facts": "#dcebf7",
    "tracing": "#d8f0e6",
    "editing": "#fbe3cd",
    "tuning": "#f3dceb",
    "analysis": "#fdf3c4",
    "figures": "#e3f3fb",
    "report": "#e9e2f5",
    "export": "#e9e2f5",
}
HEIGHT, GAP = 30, 34


class Box:
    """A rule's box: what the layout asks of it, and where it is put."""

    def __init__(self, name: str) -> None:
        self.w, self.h, self.xy = 8 * len(name) + 22, HEIGHT, (0.0, 0.0)


def graph(root: Path) -> nx.DiGraph:
    """Snakemake's rule graph, an arrow from each rule to those that take what it makes."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile")]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--directory", folder, "--rulegraph", "dot", *TARGETS],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"snakemake --rulegraph: {done.stderr.strip()[-2000:]}")
    found = parsed(done.stdout)
    found.remove_nodes_from(n for n in ("all", "tune") if n in found)  # these make nothing
    reduced = nx.transitive_reduction(found)
    reduced.add_nodes_from(found.nodes(data=True))
    return reduced


def parsed(dot: str) -> nx.DiGraph:
    """The graph that Snakemake writes, rules of one kind together: `count` says how many."""
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)', dot, re.MULTILINE))
    names = {
        index: re.sub(r"^(figure|table)_(?!sweep)\w+", r"\1_*", name)
        for index, name in names.items()
    }
    found = nx.DiGraph()
    for name in names.values():
        count = found.nodes[name]["count"] if name in found else 0
        found.add_node(name, count=count + 1)
    for made, taken in re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE):
        if names[made] != names[taken]:
            found.add_edge(names[made], names[taken])
    return found


def stages(root: Path) -> dict[str, str]:
    """The file of each rule in rules/."""
    return {
        rule: path.stem
        for path in sorted((root / "rules").glob("*.smk"))
        for rule in re.findall(r"^\s*rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
    } | {"figure_*": "figures", "table_*": "analysis"}


def svg(found: nx.DiGraph, stage_of: dict[str, str]) -> str:
    """The graph as a picture, in layers from what is fetched to what is shown."""
    vertices = {name: Vertex(name) for name in sorted(found)}
    labels = {
        name: f"{name}  ({found.nodes[name]['count']})" if name.endswith("*") else name
        for name in vertices
    }
    for name, vertex in vertices.items():
        vertex.view = Box(labels[name])
    edges = [Edge(vertices[a], vertices[b]) for a, b in sorted(found.edges)]
    parts, left = [], 0.0
    for component in Graph(list(vertices.values()), edges).C:
        for edge in component.sE:
            edge.view = EdgeViewer()
        layout = SugiyamaLayout(component)
        layout.route_edge = route_with_lines
        layout.xspace, layout.yspace = 18, GAP
        layout.init_all()
        layout.draw(8)
        views = [vertex.view for vertex in component.sV]
        shift = left - min(box.xy[0] - box.w / 2 for box in views)
        for box in views:
            box.xy = (box.xy[0] + shift, box.xy[1])
        left = max(box.xy[0] + box.w / 2 for box in views) + 30
        parts += [_arrow(edge, shift) for edge in component.sE]
    boxes = {name: vertex.view for name, vertex in vertices.items()}
    parts += [
        _box(labels[n], b, COLOURS.get(stage_of.get(n, ""), "#fff")) for n, b in boxes.items()
    ]
    top = min(b.xy[1] - b.h / 2 for b in boxes.values()) - 10
    height = max(b.xy[1] + b.h / 2 for b in boxes.values()) + 10 - top
    used = [s for s in COLOURS if s in {stage_of.get(name) for name in boxes}]
    parts += [_key(stage, index, top + height) for index, stage in enumerate(used)]
    width = max(left, 105 * len(used))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 {top:.0f} {width:.0f} '
            f'{height + 40:.0f}" font-family="Helvetica,Arial,sans-serif" font-size="13">',
            '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>',
            f'<rect x="-10" y="{top:.0f}" width="100%" height="100%" fill="#fff"/>',
            *parts,
            "</svg>\n",
        )
    )


def _arrow(edge: Edge, shift: float) -> str:
    """A line through the layers between two boxes, from the one's foot to the other's head."""
    upper, lower = (vertex.view for vertex in edge.v)
    middle = [(x + shift, y) for x, y in edge.view._pts[1:-1]]
    start, end = (upper.xy[0], upper.xy[1] + HEIGHT / 2), (lower.xy[0], lower.xy[1] - HEIGHT / 2)
    points = [start, *middle, end]
    text = f"M{start[0]:.0f} {start[1]:.0f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        bend = (y0 + y1) / 2
        text += f"C{x0:.0f} {bend:.0f} {x1:.0f} {bend:.0f} {x1:.0f} {y1:.0f}"
    return f'<path d="{text}" fill="none" stroke="#777" marker-end="url(#a)"/>'


def _box(label: str, box: Box, colour: str) -> str:
    x, y = box.xy[0] - box.w / 2, box.xy[1] - box.h / 2
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{box.w}" height="{box.h}" rx="6" fill="{colour}" '
        f'stroke="#777"/><text x="{box.xy[0]:.0f}" y="{box.xy[1] + 4:.0f}" text-anchor="middle">'
        f"{escape(label)}</text>"
    )


def _key(stage: str, index: int, y: float) -> str:
    x = 105 * index
    return (
        f'<rect x="{x}" y="{y:.0f}" width="14" height="14" fill="{COLOURS[stage]}" stroke="#777"/>'
        f'<text x="{x + 20}" y="{y + 12:.0f}">{stage}</text>'
    )


def draw(root: Path, path: Path) -> None:
    """Write the picture."""
    path.write_text(svg(graph(root), stages(root)), encoding="utf-8")
