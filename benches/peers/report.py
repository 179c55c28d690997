"""What `make bench-peers` prints and draws, from the entries of peers.json alone: `python3 report.py DIR`."""

import json
import math
import os
import sys

import plot

# What we hold ourselves to, by size: ratio to the best peer (floor, goal), bytes a hash and build seconds at
# most, and lookups a second (floor, goal) where they are absolute.
PROMISES = {
    10_000: {"ratio": (3, 6), "bytes": 600, "build": None, "qps": None},
    100_000: {"ratio": (15, 30), "bytes": 450, "build": 0.3, "qps": None},
    1_000_000: {"ratio": (60, 100), "bytes": 400, "build": 3, "qps": None},
    10_000_000: {"ratio": (60, 100), "bytes": 300, "build": 60, "qps": (5_000, 8_000)},
}
ROOFLINE_SHARE = (0.3, 0.5)
EXPONENT_MAX = 0.7
MISS_RATIO_MAX = 2.0
WORST_MS_MAX = 50.0
COLUMNS = [
    ("hashes", 10), ("data", 11), ("kernel", 6), ("ours/s", 9), ("lowest-highest", 17), ("flat/s", 7),
    ("MIH/s", 7), ("pytx/s", 7), ("pytx2/s", 7), ("x best", 6), ("roof", 5), ("B/hash", 6), ("build s", 7),
    ("recall", 6), ("false", 5),
]


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def cells(entry):
    low_high = entry["spread_qps"]["ours"]
    return [
        number(entry["n"]), entry["dataset"], entry["kernel"], number(entry["ours_qps"]),
        f"{number(low_high[0])}-{number(low_high[1])}", number(entry["faiss_flat_qps"]),
        number(entry["faiss_mih_qps"]), number(entry["pytx_pdqindex_qps"]), number(entry["pytx_pdqindex2_qps"]),
        number(entry["ratio_to_best_peer"], 1), f"{entry['ours_qps'] / entry['roofline_qps']:.0%}",
        number(entry["bytes_per_hash"]), number(entry["build_s"], 2), f"{entry['recall']:.4f}",
        number(entry["false_hits"]),
    ]


def table(entries):
    line = lambda row: "  ".join(text.rjust(width) for text, (_, width) in zip(row, COLUMNS))
    return "\n".join([line([name for name, _ in COLUMNS])] + [line(cells(entry)) for entry in entries])


def best_kernel(entries):
    """One entry a bank: the kernel that is chosen where nobody forces one, which comes first."""
    first = {}
    for entry in entries:
        first.setdefault((entry["dataset"], entry["n"]), entry)
    return list(first.values())


def graded(what, value, floor, goal, digits=1):
    verdict = "goal" if value >= goal else "floor" if value >= floor else "BELOW FLOOR"
    return f"{what}: {number(value, digits)} (floor {floor}, goal {goal}): {verdict}"


def bounded(what, value, limit, digits=1):
    return f"{what}: {number(value, digits)} (at most {limit}): {'held' if value <= limit else 'EXCEEDED'}"


def verdicts(entries):
    lines = []
    for entry in entries:
        about = f"{entry['dataset']} {number(entry['n'])}"
        if entry["dataset"] == "uniform":
            lines += uniform_verdicts(about, entry)
        else:
            if entry["miss_ratio_to_uniform"] is not None:
                lines.append(bounded(f"{about}, cost of a random miss against uniform",
                                     entry["miss_ratio_to_uniform"], MISS_RATIO_MAX, 2))
            lines.append(bounded(f"{about}, worst single lookup in ms", entry["worst_lookup_ms"], WORST_MS_MAX, 2))
    growth = exponent([entry for entry in entries if entry["dataset"] == "uniform"])
    if growth is not None:
        lines.append(bounded("growth of cost per lookup from 100 000 on, exponent", growth, EXPONENT_MAX, 2))
    return lines


def uniform_verdicts(about, entry):
    promise, lines = PROMISES.get(entry["n"]), []
    if promise is None:
        return lines
    if entry["ratio_to_best_peer"] is not None:
        lines.append(graded(f"{about}, times the best peer", entry["ratio_to_best_peer"], *promise["ratio"]))
    if promise["qps"]:
        lines.append(graded(f"{about}, lookups/s", entry["ours_qps"], *promise["qps"], digits=0))
    if entry["n"] == 1_000_000:
        share = entry["ours_qps"] / entry["roofline_qps"]
        lines.append(graded(f"{about}, share of the roofline", share, *ROOFLINE_SHARE, digits=2))
    lines.append(bounded(f"{about}, bytes a hash", entry["bytes_per_hash"], promise["bytes"], 0))
    if promise["build"]:
        lines.append(bounded(f"{about}, build seconds", entry["build_s"], promise["build"], 2))
    return lines


def exponent(entries):
    """Slope of log(cost) over log(n) between the smallest bank from 100 000 on and the biggest."""
    big = sorted((entry for entry in entries if entry["n"] >= 100_000), key=lambda entry: entry["n"])
    if len(big) < 2:
        return None
    return math.log(big[0]["ours_qps"] / big[-1]["ours_qps"]) / math.log(big[-1]["n"] / big[0]["n"])


def machine_line(entry, core):
    roof = entry["roofline"]
    return (
        f"core {core}; one random run of four lines {roof['run_ns']:.1f} ns at prefetch depth {roof['depth']}, "
        f"roofline {number(entry['roofline_qps'])} lookups/s, stream {roof['stream_gb_s']:.1f} GB/s, "
        f"{roof['huge_page_bytes'] >> 20} of 256 MiB on huge pages"
    )


def notes(entries):
    seen = {}
    for entry in entries:
        if entry["dataset"] == "images":
            seen[f"images {number(entry['n'])}: drawn pictures and near copies of {entry['real_hashes']} real hashes"] = None
    for entry in entries:
        for who, note in entry["notes"].items():
            seen[f"{entry['dataset']} {number(entry['n'])}, {who}: {note}"] = None
        for who, check in entry["peer_checks"].items():
            if check["recall"] != 1.0 or check["false_hits"]:
                seen[
                    f"{entry['dataset']} {number(entry['n'])}, {who}: recall {check['recall']:.4f}, "
                    f"{check['false_hits']} false hits over {check['checked']} questions"
                ] = None
    return list(seen)


def write(entries, folder, core):
    if not entries:
        print("nothing was measured")
        return
    best = best_kernel(entries)
    parts = [table(entries), machine_line(best[-1], core), "\n".join(verdicts(best))]
    parts += ["\n".join(notes(entries))] if notes(entries) else []
    uniform = [entry for entry in best if entry["dataset"] == "uniform"]
    if uniform:
        parts.append(plot.text(uniform))
        with open(os.path.join(folder, "peers.svg"), "w") as out:
            out.write(plot.svg(uniform))
    print("\n\n".join(parts))


if __name__ == "__main__":
    with open(os.path.join(sys.argv[1], "peers.json")) as results:
        write(json.load(results), sys.argv[1], "?")
