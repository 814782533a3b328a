# SPDX-License-Identifier: Apache-2.0
"""Figures as a table in docs/benchmarks.md, between its two marks, and as a chart of ratios beside it."""
import datetime
import os
import platform
import statistics

from figures import FIGURES

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30
    return (f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}, "
            f"{datetime.date.today().isoformat()}, load before: {os.getloadavg()[0]:.2f}")


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(key, ours, theirs):
    """Above 1: ours is better."""
    return ours / theirs if FIGURES[key][2] else theirs / ours


def medians(rounds):
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def ratios(key, ours, theirs):
    """The median of the rounds' ratios, with the least and the greatest when there are several."""
    each = [ratio(key, a[key], b[key]) for a, b in zip(ours, theirs)]
    middle = f"{statistics.median(each):.2f}"
    return middle if len(each) == 1 else f"{middle} ({min(each):.2f}-{max(each):.2f})"


def pairs(group):
    """Which title is compared with which: each of ephfs with each of the others."""
    ours = [title for title in group if title.startswith("ephfs")]
    return [(one, other) for other in group if other not in ours for one in ours]


def table(group):
    """`group`: title -> rounds, each a dictionary of figures."""
    titles = list(group)
    compared = pairs(group)
    several = len({one for one, _ in compared}) > 1
    middle = {title: medians(group[title]) for title in titles}
    heads = [f"{one} to {other}" if several else f"to {other}" for one, other in compared]
    lines = ["| | " + " | ".join(titles + heads) + " |", "|---" * (1 + len(titles) + len(heads)) + "|"]
    for key, (name, unit, _) in FIGURES.items():
        cells = [f"{name}, {unit}"] + [number(middle[title][key]) for title in titles]
        cells += [ratios(key, group[one], group[other]) for one, other in compared]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def chart(groups):
    """An SVG of bars: for each figure, the ratio of ephfs to each of the others; the line is at 1."""
    bars = []
    for group in groups:
        for one, other in pairs(group):
            bars.append((f"{one} / {other}",
                         {key: statistics.median(ratio(key, a[key], b[key])
                                                 for a, b in zip(group[one], group[other])) for key in FIGURES}))
    row, left, width, most = 15, 230, 560, 32.0
    colours = ["#4878a8", "#d1843c", "#5a9a5a", "#a85a78", "#7a6ab0", "#8a8a4a"]

    def place(value):
        """Logarithmic from 1/8 to 32."""
        import math
        clipped = min(max(value, 1 / 8), most)
        return left + width * (math.log2(clipped) + 3) / 8

    height = 60 + len(FIGURES) * (len(bars) * row + 12)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height + 20 * len(bars)}" '
           'font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>']
    for mark in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32):
        x = place(mark)
        out.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="26" y2="{height - 10}" '
                   f'stroke="{"#333" if mark == 1 else "#ddd"}"/>')
        out.append(f'<text x="{x:.0f}" y="18" text-anchor="middle">{mark:g}</text>')
    y = 36
    for key, (name, _, _) in FIGURES.items():
        out.append(f'<text x="{left - 8}" y="{y + len(bars) * row / 2 + 4:.0f}" text-anchor="end">{name}</text>')
        for (_, values), colour in zip(bars, colours):
            one, x = place(1), place(values[key])
            out.append(f'<rect x="{min(one, x):.1f}" y="{y}" width="{max(abs(x - one), 1):.1f}" height="{row - 3}" '
                       f'fill="{colour}"/>')
            out.append(f'<text x="{max(one, x) + 4:.1f}" y="{y + row - 5}" font-size="10">{values[key]:.2f}</text>')
            y += row
        y += 12
    for (title, _), colour in zip(bars, colours):
        out.append(f'<rect x="{left}" y="{y}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{left + 18}" y="{y + 11}">{title} (to the right of 1: better)</text>')
        y += 20
    out.append("</svg>")
    return "\n".join(out) + "\n"


def write_measured(page, measured, begin=BEGIN, end=END):
    """Replaces what stands between the document's marks."""
    with open(page, encoding="utf-8") as source:
        before, rest = source.read().split(begin, 1)
    with open(page, "w", encoding="utf-8") as out:
        out.write(before + begin + "\n" + measured + "\n" + end + rest.split(end, 1)[1])
