"""`make bench-peers`: our index against its peers, over the same data on one pinned core in one run.

Every contender is a process that has built its index and sleeps. In each round all are asked in turn, so
that what disturbs the machine disturbs all; figures are medians of the rounds, with lowest and highest.
Writes peers.json, peers.svg and prints the table. Ends with 1 if an answer of ours was wrong or a row of ours is not there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

import report
from contender import Contender, Failed, memory_available

HERE = os.path.dirname(os.path.abspath(__file__))
# Memory a contender takes while it builds, bytes a hash; what does not fit is not run.
NEED = {"ours": 700, "faiss_flat": 100, "faiss_mih": 800, "pytx_pdqindex": 1300, "pytx_pdqindex2": 1700}
# (chunks, bits, flips) of FAISS MultiHash; each finds all within 31 bits: chunks x (flips + 1) > 31.
MIH = {
    0: [(16, 16, 1), (16, 12, 1), (32, 8, 0)],
    50_000: [(16, 16, 1), (16, 14, 1), (11, 20, 2)],
    500_000: [(16, 16, 1), (11, 20, 2), (11, 23, 2)],
}
SKEWED = ["clustered", "low_entropy", "images"]
SKEWED_N = 1_000_000
# From here on a re-scan of a million hashes is measured, too.
BULK = 1_000_000
# From here on one kernel of ours at a time, and fewer rounds.
BIG = 5_000_000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="hashward-peers")
    parser.add_argument("--out", required=True, help="folder for data and results")
    parser.add_argument("--n", help="sizes of uniform banks, comma-separated")
    parser.add_argument("--datasets", default=",".join(SKEWED), help="skewed banks; empty for none")
    parser.add_argument("--skewed-n", type=int, default=SKEWED_N)
    parser.add_argument("--full", action="store_true", help="10 000 000 hashes as well")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender in each round")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    return parser.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


class Row:
    """One bank: contenders, rounds, result."""

    def __init__(self, args, dataset, n):
        self.args, self.dataset, self.n = args, dataset, n
        self.folder = self.make(dataset, n)
        with open(os.path.join(self.folder, "meta.json")) as meta:
            self.real_hashes = json.load(meta)["real"]
        self.contenders, self.notes, self.rates = [], {}, {}

    def make(self, dataset, n):
        folder = os.path.join(self.args.out, "data", f"{dataset}-{n}")
        subprocess.run(
            [self.args.bin, "make", "--dataset", dataset.replace("_", "-"), "--n", str(n), "--dir", folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return folder

    def start(self, name, kind, command, environment=None):
        need = NEED.get(kind, 0) * self.n
        if need > memory_available() - (1 << 30):
            self.notes[name] = f"not run: needs about {need / 2**30:.0f} GiB of memory"
            return None
        try:
            contender = Contender(name, command, self.args.core, environment)
        except Failed as failed:
            self.notes[name] = f"not run: {failed}"
            return None
        self.contenders.append(contender)
        say(f"  {name}: built in {contender.ready.get('build_s', 0):.2f} s")
        return contender

    def start_ours(self, kernel, folder=None, name=None):
        environment = {"HASHWARD_KERNEL": kernel}
        return self.start(
            name or f"ours_{kernel}", "ours", [self.args.bin, "ours", "--dir", folder or self.folder], environment
        )

    def start_peers(self):
        settings = MIH[max(least for least in MIH if least <= self.n)]
        peers = [("faiss_flat", "faiss_flat")]
        peers += [("faiss_mih_%d_%d_%d" % setting, "faiss_mih") for setting in settings]
        peers += [("pytx_pdqindex", "pytx_pdqindex"), ("pytx_pdqindex2", "pytx_pdqindex2")]
        worker = os.path.join(HERE, "worker.py")
        for name, kind in peers:
            self.start(name, kind, [sys.executable, worker, name, self.folder])

    def rounds(self, commands):
        """Asks every contender once a round; `commands` says what, beginning with another one each time."""
        for turn in range(self.args.rounds):
            shift = turn % len(self.contenders)
            for contender in self.contenders[shift:] + self.contenders[:shift]:
                if contender.name in self.notes:
                    continue
                for command in commands(contender.name):
                    try:
                        self.measure(contender, command)
                    except Failed as failed:
                        self.notes[contender.name] = f"stopped: {failed}"
                        break

    def measure(self, contender, command):
        if contender.name == "roofline":
            answer = contender.ask("go", self.args.seconds)
            for run in answer["runs"]:
                self.rates.setdefault(("roofline", run["depth"]), []).append(run["ns"])
            self.rates.setdefault(("roofline", "stream"), []).append(answer["stream_gb_s"])
        else:
            rate = contender.qps(command, self.args.seconds)
            self.rates.setdefault((contender.name, command), []).append(rate)

    def check(self, contender, ready, checks):
        """Its answers against the truth: all of ours, of a peer's as many as two seconds allow."""
        try:
            check = contender.ask("check", 2.0)
            if contender.name.startswith("ours"):
                check |= contender.ask("singles")
        except Failed as failed:
            self.notes[contender.name] = f"stopped: {failed}"
            return
        ready[contender.name], checks[contender.name] = contender.ready, check

    def close(self):
        for contender in self.contenders:
            contender.close()
        self.contenders = []


def median(values):
    return statistics.median(values) if values else None


def spread(values):
    return [min(values), max(values)] if values else None


def measure(args, dataset, n, kernels):
    """The entries of peers.json for one bank."""
    say(f"{dataset}, {n:,} hashes")
    row = Row(args, dataset, n)
    skewed = dataset != "uniform"
    together = kernels if n < BIG else kernels[:1]
    try:
        row.start("roofline", "roofline", [args.bin, "roofline"])
        ours = {kernel: row.start_ours(kernel) for kernel in together}
        if skewed:
            row.start_ours(kernels[0], row.make("uniform", n), "uniform")
        row.start_peers()

        def commands(name):
            if name == "uniform":
                return ["misses"]
            if not name.startswith("ours"):
                return ["go"]
            return ["go", "misses"] if skewed else ["go", "bulk"] if n >= BULK else ["go"]

        row.rounds(commands)
        checks, ready = {}, {}
        for contender in row.contenders:
            if contender.name in ("roofline", "uniform") or contender.name in row.notes:
                continue
            row.check(contender, ready, checks)
        ready["roofline"] = next(c.ready for c in row.contenders if c.name == "roofline")
        row.close()
        for kernel in kernels[len(together) :]:
            ours[kernel] = row.start_ours(kernel)
            if ours[kernel]:
                row.rounds(commands)
                row.check(ours[kernel], ready, checks)
            row.close()
    finally:
        row.close()
    for who, note in row.notes.items():
        say(f"  {who}: {note}")
    return [entry(row, kernel, ready, checks) for kernel in kernels if f"ours_{kernel}" in checks]


def entry(row, kernel, ready, checks):
    rates, name = row.rates, f"ours_{kernel}"
    qps = {who: median(values) for (who, command), values in rates.items() if command == "go"}
    mih = {who: rate for who, rate in qps.items() if who.startswith("faiss_mih")}
    best_mih = max(mih, key=mih.get) if mih else None
    depths = {depth: median(ns) for (who, depth), ns in rates.items() if who == "roofline" and depth != "stream"}
    depth = min(depths, key=depths.get)
    shown = {"ours": name, "faiss_flat": "faiss_flat", "faiss_mih": best_mih}
    shown |= {"pytx_pdqindex": "pytx_pdqindex", "pytx_pdqindex2": "pytx_pdqindex2"}
    peers = {label: qps.get(who) for label, who in shown.items() if label != "ours"}
    best = max((rate for rate in peers.values() if rate), default=None)
    built, checked = ready[name], checks[name]
    miss, uniform = median(rates.get((name, "misses"))), median(rates.get(("uniform", "misses")))
    return {
        "n": row.n,
        "dataset": row.dataset,
        "kernel": kernel,
        "false_hits": checked["false_hits"],
        "ours_qps": qps[name],
        **{f"{label}_qps": rate for label, rate in peers.items()},
        "recall": checked["recall"],
        "roofline_qps": 1e9 / (272 * depths[depth]),
        "bytes_per_hash": built["bytes"] / row.n,
        "build_s": built["build_s"],
        "bulk_qps": median(rates.get((name, "bulk"))),
        "ratio_to_best_peer": qps[name] / best if best else None,
        "spread_qps": {label: spread(rates.get((who, "go"))) for label, who in shown.items()},
        "rounds": row.args.rounds,
        "miss_ratio_to_uniform": uniform / miss if miss and uniform else None,
        "worst_lookup_ms": checked["worst_ms"],
        "worst_lookup_raw_ms": checked["worst_raw_ms"],
        "single_lookup_p50_ms": checked["p50_ms"],
        "checked_queries": checked["checked"],
        "matches": checked["matches"],
        "real_hashes": row.real_hashes,
        "rss_bytes_per_hash": built["rss_bytes"] / row.n,
        "rss_bytes_max_per_hash": built["rss_bytes_max"] / row.n,
        "huge_page_bytes": built["huge_page_bytes"],
        "roofline": {
            "run_ns": depths[depth],
            "depth": depth,
            "run_ns_by_depth": depths,
            "stream_gb_s": median(rates[("roofline", "stream")]),
            "huge_page_bytes": ready["roofline"]["huge_page_bytes"],
        },
        "faiss_mih_setting": best_mih,
        "faiss_mih_qps_by_setting": mih,
        "peer_build_s": {who: ready[who]["build_s"] for who in ready if who != "roofline"},
        "peer_rss_bytes_per_hash": {who: ready[who]["rss_bytes"] / row.n for who in ready if who != "roofline"},
        "peer_checks": {who: check for who, check in checks.items() if not who.startswith("ours")},
        "notes": row.notes,
    }


def main():
    args = arguments()
    sizes = [int(n) for n in args.n.split(",")] if args.n else [10_000, 100_000, 1_000_000]
    if args.full:
        sizes.append(10_000_000)
    cores = os.sched_getaffinity(0)
    if args.core not in cores:
        sys.exit(f"run.py: core {args.core} is not among {sorted(cores)}")
    if len(cores) > 1:
        os.sched_setaffinity(0, cores - {args.core})
    kernels = subprocess.run([args.bin, "kernels"], check=True, capture_output=True, text=True).stdout.split()
    rows = [("uniform", n) for n in sizes]
    rows += [(dataset, args.skewed_n) for dataset in args.datasets.split(",") if dataset]
    results, absent = [], []
    for dataset, n in rows:
        measured = measure(args, dataset, n, kernels)
        results += measured
        absent += [(dataset, n, kernel) for kernel in kernels if kernel not in {r["kernel"] for r in measured}]
        # After every bank, so that a run cut short leaves what it has.
        with open(os.path.join(args.out, "peers.json"), "w") as out:
            json.dump(results, out, indent=1)
    report.write(results, args.out, args.core)
    wrong = [r for r in results if r["recall"] != 1.0 or r["false_hits"]]
    for r in wrong:
        say(f"WRONG ANSWERS: {r['dataset']} {r['n']} {r['kernel']}: recall {r['recall']}, false hits {r['false_hits']}")
    for dataset, n, kernel in absent:
        say(f"NOT MEASURED: {dataset} {n} {kernel}; the notes above say why")
    sys.exit(1 if wrong or absent else 0)


if __name__ == "__main__":
    main()
