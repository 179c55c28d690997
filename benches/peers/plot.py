"""Lookups a second over the size of the bank, both logarithmic: as SVG and as text."""

import math

SERIES = [
    ("roofline_qps", "roofline", "#999999"),
    ("ours_qps", "Hashward", "#c0392b"),
    ("faiss_mih_qps", "FAISS MultiHash", "#2471a3"),
    ("faiss_flat_qps", "FAISS Flat", "#27856b"),
    ("pytx_pdqindex_qps", "PDQIndex", "#8e44ad"),
    ("pytx_pdqindex2_qps", "PDQIndex2", "#b9770e"),
]
WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 80, 170, 30, 50
BAR = 50


def points(entries, field):
    return [(entry["n"], entry[field]) for entry in entries if entry[field]]


def svg(entries):
    sizes = [entry["n"] for entry in entries]
    rates = [rate for field, _, _ in SERIES for _, rate in points(entries, field)]
    first, last = math.log10(min(sizes)), max(math.log10(max(sizes)), math.log10(min(sizes)) + 1)
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    x = lambda n: LEFT + (math.log10(n) - first) / (last - first) * (WIDTH - LEFT - RIGHT)
    y = lambda rate: HEIGHT - BOTTOM - (math.log10(rate) - low) / max(high - low, 1) * (HEIGHT - TOP - BOTTOM)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18">Exact PDQ lookups a second, one core, by hashes in the bank</text>',
    ]
    for power in range(low, high + 1):
        at = y(10**power)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10**power:,}</text>')
    for n in sizes:
        out.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{n:,}</text>')
    labels = []
    for field, name, colour in SERIES:
        line = points(entries, field)
        if not line:
            continue
        path = " ".join(f"{x(n):.1f},{y(rate):.1f}" for n, rate in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(n):.1f}" cy="{y(rate):.1f}" r="3" fill="{colour}"/>' for n, rate in line]
        labels.append([y(line[-1][1]), x(line[-1][0]), name, colour])
    below = 0.0
    for at, right, name, colour in sorted(labels):
        below = max(at, below + 14)  # names of near lines must not cover each other
        out.append(f'<text x="{right + 10:.1f}" y="{below + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join(out + ["</svg>\n"])


def text(entries):
    rates = [rate for field, _, _ in SERIES for _, rate in points(entries, field)]
    low, high = math.log10(min(rates)) - 0.1, math.log10(max(rates))
    lines = ["lookups a second, one core, logarithmic"]
    for entry in entries:
        lines.append(f"{entry['n']:,} hashes".replace(",", " "))
        for field, name, _ in SERIES:
            rate = entry[field]
            if rate:
                length = round((math.log10(rate) - low) / max(high - low, 0.1) * BAR)
                lines.append(f"  {name:16} {'#' * max(length, 1):{BAR}} {rate:,.0f}".replace(",", " "))
    return "\n".join(lines)
