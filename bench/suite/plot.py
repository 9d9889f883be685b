"""The results as a plot: a panel a case, a bar a subject."""

from html import escape
from statistics import median

from .cases import TITLES
from .report import number
from .subjects import VARIANTS

STYLE = """
  .surface { fill: #fff } text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .note { fill: #57606a } .peer { fill: #afb8c1 } .floor { fill: #d8dee4 } .ours { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .surface { fill: #0d1117 } text { fill: #e6edf3 } .note { fill: #9198a1 }
    .peer { fill: #57606a } .floor { fill: #30363d } .ours { fill: #4493f8 }
  }
"""
COLUMNS, WIDTH, BAR, GAP, LABEL = 2, 400, 15, 5, 92


def svg(results):
    kinds = {name: kind for name, kind in results["subjects"] if kind not in VARIANTS}
    panels = []
    for case, subjects in results["load"].items():
        values = {name: median(subjects[name]["us"]) for name in kinds if name in subjects}
        panels.append((TITLES[case], "processor time, µs", values))
    for figure, title, unit in [("loaded_mib", "memory after all load", "MiB"), ("ready_ms", "start to first good answer", "ms")]:
        values = {name: median(results["once"][name][figure]) for name in kinds if figure in results["once"].get(name, {})}
        if values:
            panels.append((title, unit, values))
    height = 44 + len(kinds) * (BAR + GAP)
    rows = -(-len(panels) // COLUMNS)
    total_width, total_height = COLUMNS * WIDTH + 24, rows * height + 44
    about = results["about"]
    label = "Processor time per request of auth-sidecar and other proxies"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}" '
        f'width="{total_width}" height="{total_height}" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<rect class="surface" width="{total_width}" height="{total_height}" rx="8"/>',
    ]
    for index, (title, unit, values) in enumerate(panels):
        x, y = 16 + index % COLUMNS * WIDTH, 16 + index // COLUMNS * height
        parts.append(f'<text x="{x}" y="{y + 14}"><tspan class="title">{escape(title)}</tspan>'
                     f'<tspan class="note" dx="8">{escape(unit)}</tspan></text>')
        longest = max(values.values())
        for row, (name, value) in enumerate(values.items()):
            top = y + 24 + row * (BAR + GAP)
            width = max(value / longest * (WIDTH - LABEL - 80), 1)
            style = {"auth-sidecar": "ours", "relay": "floor"}.get(kinds[name], "peer")
            parts.append(f'<text x="{x}" y="{top + 12}">{escape(name)}</text>')
            parts.append(f'<rect class="{style}" x="{x + LABEL}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>')
            parts.append(f'<text class="note" x="{x + LABEL + width + 6:.1f}" y="{top + 12}">{number(value)}</text>')
    note = f"{about['date']}, {about['machine']}; processor time is per request; shorter is better"
    parts.append(f'<text class="note" x="16" y="{total_height - 14}">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])
