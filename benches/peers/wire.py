"""The wire rows of `make bench-peers`: `hashward serve` with one shard on one core, the load generator on
another, for each reactor. Writes wire.json and prints the table.

The in-process rate is measured between the loads, on the server's core, so that the ratio is of one run.
Ends with 1 if an answer was wrong.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from contender import Contender, Failed

BATCH = 64
REACTORS = ["glommio", "epoll"]
# Promises: share of the in-process rate, batch service times at half load, single-hash lookups a second.
SHARE_MIN, SERVICES_MAX, SINGLE_MIN = 0.8, {"poisson": 6, "constant": 3}, 60_000
READY_S_MAX = 60
MERGED_S_MAX = 120


def arguments():
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="folder of hashward, hashward-loadtest, hashward-peers")
    parser.add_argument("--out", required=True, help="folder for data and results")
    parser.add_argument("--n", type=int, default=1_000_000, help="hashes of the batch rows")
    parser.add_argument("--n-single", type=int, default=10_000, help="hashes of the single-hash row")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--depth", type=int, default=4, help="frames under way on a connection, batches")
    parser.add_argument("--single-depth", type=int, default=16, help="the same, single hashes")
    parser.add_argument("--server-core", type=int, default=cores[-1])
    parser.add_argument("--load-core", type=int, default=cores[0])
    return parser.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


class Server:
    """A server with one shard and a seeded bank, on its core."""

    def __init__(self, args, reactor, count):
        self.args, self.reactor, self.count = args, reactor, count
        self.folder = tempfile.mkdtemp(prefix="wire-", dir=args.out)
        self.start()
        try:
            self.seed()
        except BaseException:
            self.close()
            raise

    def start(self):
        """Starts it on what its folder holds, and waits until it takes traffic."""
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.process = subprocess.Popen(
            [
                os.path.join(self.args.bin, "hashward"), "serve", "--data-dir", os.path.join(self.folder, "data"),
                "--cores", "1", "--reactor", self.reactor, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                "--log", "warn",
            ],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.args.server_core}),
        )
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            said = self.log.read().strip()[-400:]
            self.close()
            raise Failed(f"serve --reactor {self.reactor} did not start: {said}")
        ready = json.loads(line)
        self.listen, self.admin = ready["listen"], f"http://{ready['admin']}"

    def kill(self):
        """Ends it at once, as a crash would."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def seed(self):
        command = [os.path.join(self.args.bin, "hashward-loadtest"), "seed", "--admin", self.admin]
        subprocess.run(
            command + ["--bank", "WIRE", "--count", str(self.count)], check=True, stdout=subprocess.DEVNULL
        )
        # Merges go on after the seeding; two equal looks three seconds apart mean they are through.
        last, until = None, time.monotonic() + MERGED_S_MAX
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{self.admin}/api/v1/index", timeout=10) as answer:
                shape = answer.read()
            if shape == last:
                return
            last = shape
            time.sleep(3)
        raise Failed(f"merges were not through after {MERGED_S_MAX} s")

    def cpu_s(self):
        """Processor seconds the server has used."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def load(self, *flags):
        """One run of the load generator; its JSON, and how busy either side was: who is near 100 % is the limit."""
        result = os.path.join(self.folder, "result.json")
        if os.path.exists(result):
            os.remove(result)
        begun, server, children = time.perf_counter(), self.cpu_s(), os.times()
        run = subprocess.run(
            [
                os.path.join(self.args.bin, "hashward-loadtest"), "run", "--addr", self.listen,
                "--admin", self.admin, "--bank-count", str(self.count), "--json", result,
                "--duration", str(self.args.seconds), "--allow-generator-bound", *map(str, flags),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.args.load_core}),
        )
        took, after = time.perf_counter() - begun, os.times()
        if not os.path.exists(result):
            raise Failed(f"loadtest gave no result: {run.stderr.strip()[-400:]}")
        with open(result) as text:
            answer = json.load(text)
        answer["exit_status"], answer["said"] = run.returncode, run.stderr.strip()[-400:]
        answer["server_busy"] = (self.cpu_s() - server) / took
        loaded = after.children_user + after.children_system - children.children_user - children.children_system
        answer["generator_busy"] = loaded / took
        return answer

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def wrong(answer):
    return answer["false_hits"] > 0 or answer["hits_found"] != answer["hits_expected"]


def middle(values):
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def arrivals(args):
    """Kinds of open loops this load generator offers, with their flags."""
    text = subprocess.run(
        [os.path.join(args.bin, "hashward-loadtest"), "run", "--help"], check=True, capture_output=True, text=True
    ).stdout
    if "--arrivals" in text:
        return {kind: ["--arrivals", kind] for kind in SERVICES_MAX}
    return {"constant": []}


def batch_rows(args, reactor, inside):
    """Closed loop and open loops at half of what it gave."""
    server = Server(args, reactor, args.n)
    try:
        closed, in_process = [], []
        for _ in range(args.rounds):
            flags = ["--closed", "--connections", 1, "--batch", BATCH, "--depth", args.depth]
            closed.append(server.load(*flags))
            in_process.append(inside.qps("go", args.seconds))
        rates = [answer["lookups_per_s"] for answer in closed]
        capacity = statistics.median(rates)
        service_us = BATCH / capacity * 1e6
        row = {
            "reactor": reactor,
            "server": closed[-1]["server"],
            "n": args.n,
            "closed_lookups_per_s": middle(rates),
            "in_process_lookups_per_s": middle(in_process),
            "share_of_in_process": capacity / statistics.median(in_process),
            "server_busy": statistics.median(answer["server_busy"] for answer in closed),
            "generator_busy": statistics.median(answer["generator_busy"] for answer in closed),
            "batch_service_us": service_us,
            "open": {},
            "loads": closed,
        }
        for kind, flags in arrivals(args).items():
            answers, alone = [], []
            for _ in range(args.rounds):
                answers.append(
                    server.load("--rate", round(capacity / 2), "--batch", BATCH, "--connections", 1, *flags)
                )
                alone.append(inside.ask(kind, args.seconds))
            p99 = [answer["latency_us"]["p99"] for answer in answers]
            row["open"][kind] = {
                "offered_per_s": capacity / 2,
                "p50_us": middle([answer["latency_us"]["p50"] for answer in answers]),
                "p99_us": middle(p99),
                "p99_service_times": statistics.median(p99) / service_us,
                # The same arrivals in a process that only searches: what queueing and the machine alone cost.
                "in_process_p99_service_times": statistics.median(
                    answer["p99_us"] / answer["service_us"] for answer in alone
                ),
            }
            row["loads"] += answers
        return row
    finally:
        server.close()


def single_row(args, reactor):
    """Frames of one hash, pipelined on 64 connections."""
    server = Server(args, reactor, args.n_single)
    try:
        flags = ["--closed", "--connections", 64, "--batch", 1, "--depth", args.single_depth]
        answers = [server.load(*flags) for _ in range(args.rounds)]
        return {
            "single_n": args.n_single,
            "single_connections": 64,
            "single_depth": args.single_depth,
            "single_lookups_per_s": middle([answer["lookups_per_s"] for answer in answers]),
            "single_p99_us": middle([answer["latency_us"]["p99"] for answer in answers]),
            "single_loads": answers,
        }
    finally:
        server.close()


def start_inside(args):
    folder = os.path.join(args.out, "data", f"uniform-{args.n}")
    program = os.path.join(args.bin, "hashward-peers")
    make = [program, "make", "--dataset", "uniform", "--n", str(args.n), "--dir", folder]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    return Contender("in process", [program, "ours", "--dir", folder], args.server_core)


def figure(value):
    return f"{value:,.0f}".replace(",", " ")


def verdict(held):
    return "held" if held else "MISSED"


def lines(row):
    if "note" in row:
        return [f"{row['reactor']}: {row['note']}"]
    rate, share = row["closed_lookups_per_s"], row["share_of_in_process"]
    out = [
        f"{row['reactor']}: {figure(row['n'])} hashes, batches of {BATCH}, closed: {figure(rate['median'])} lookups/s "
        f"({figure(rate['lowest'])} to {figure(rate['highest'])}), {share:.0%} of in-process "
        f"{figure(row['in_process_lookups_per_s']['median'])} (at least {SHARE_MIN:.0%}): {verdict(share >= SHARE_MIN)}; "
        f"busy: server {row['server_busy']:.0%}, generator {row['generator_busy']:.0%}"
    ]
    for kind, at in row["open"].items():
        times, limit = at["p99_service_times"], SERVICES_MAX[kind]
        out.append(
            f"{row['reactor']}: open loop, {kind} arrivals at {figure(at['offered_per_s'])}/s: p50 "
            f"{figure(at['p50_us']['median'])} us, p99 {figure(at['p99_us']['median'])} us = {times:.1f} batch "
            f"service times of {figure(row['batch_service_us'])} us (at most {limit}): {verdict(times <= limit)}; "
            f"in-process, without a network, {at['in_process_p99_service_times']:.1f}"
        )
    rate = row["single_lookups_per_s"]["median"]
    out.append(
        f"{row['reactor']}: {figure(row['single_n'])} hashes, single-hash frames on 64 connections: "
        f"{figure(rate)} lookups/s, p99 {figure(row['single_p99_us']['median'])} us "
        f"(at least {figure(SINGLE_MIN)}): {verdict(rate >= SINGLE_MIN)}"
        + ("; its generator was the limit" if any(load.get("generator_bound") for load in row["single_loads"]) else "")
    )
    return out


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)
    if args.server_core == args.load_core:
        say("one core for server and load generator: the rates are of both together")
    os.sched_setaffinity(0, {args.load_core})
    rows, inside = [], start_inside(args)
    try:
        for reactor in REACTORS:
            say(f"over the wire, {reactor}")
            try:
                rows.append({**batch_rows(args, reactor, inside), **single_row(args, reactor)})
            except Failed as failed:
                rows.append({"reactor": reactor, "note": f"not measured: {failed}"})
            with open(os.path.join(args.out, "wire.json"), "w") as out:
                json.dump(rows, out, indent=1)
    finally:
        inside.close()
    print("\nOver the wire, one server core\n" + "\n".join(line for row in rows for line in lines(row)))
    loads = [load for row in rows for load in row.get("loads", []) + row.get("single_loads", [])]
    bad = [load for load in loads if wrong(load) or load["exit_status"] != 0]
    for load in bad:
        say(f"loadtest ended with {load['exit_status']}: {load['hits_found']} of {load['hits_expected']} hits, "
            f"{load['false_hits']} false, {load['errors']} errors; {load['said']}")
    sys.exit(1 if bad or all("note" in row for row in rows) else 0)


if __name__ == "__main__":
    main()
