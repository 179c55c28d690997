"""The restart row of `make bench-peers`: a server with a seeded bank is killed and started again; with its files in
memory and without, then with a stored segment damaged. Every start is followed by lookups that are checked.
Writes restart.json and prints the table. Ends with 1 if an answer was wrong or a promise was missed.
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request

from contender import Failed
from wire import Server, figure, say, wrong

# Promise: seconds until the server takes traffic.
READY_S_MAX = 10
STORED_S_MAX = 600


def arguments():
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="folder of hashward and hashward-loadtest")
    parser.add_argument("--out", required=True, help="folder for data and results")
    parser.add_argument("--n", type=int, default=1_000_000, help="hashes")
    parser.add_argument("--rounds", type=int, default=3, help="restarts of each kind")
    parser.add_argument("--seconds", type=float, default=1.0, help="of lookups after each start")
    parser.set_defaults(server_core=cores[-1], load_core=cores[0])
    return parser.parse_args()


def wait_until_stored(server, n):
    until = time.monotonic() + STORED_S_MAX
    while time.monotonic() < until:
        with urllib.request.urlopen(f"{server.admin}/api/v1/index", timeout=10) as answer:
            plans = json.load(answer)["pdq"]["plans"]
        if sum(plan["signals"] for plan in plans) == n and all(plan["stored"] for plan in plans):
            return
        time.sleep(1)
    raise Failed(f"the tables were not stored after {STORED_S_MAX} s")


def forget_files():
    """Empties the system's cache of files; says whether it may."""
    os.sync()
    return subprocess.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], stderr=subprocess.DEVNULL).returncode == 0


def damage(server):
    """Flips a bit in the middle of the largest file of stored segments."""
    files = glob.glob(os.path.join(server.folder, "data", "segments", "*.sst"))
    with open(max(files, key=os.path.getsize), "r+b") as file:
        file.seek(os.path.getsize(file.name) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))


def restart(server, cold=False, damaged=False):
    server.kill()
    if damaged:
        damage(server)
    if cold and not forget_files():
        return None
    begun = time.perf_counter()
    server.start()
    ready = time.perf_counter() - begun
    load = server.load("--closed", "--connections", 1, "--batch", 64, "--depth", 4)
    server.log.seek(0)
    rebuilt = "built anew" in server.log.read()
    return {"ready_s": ready, "rebuilt": rebuilt, "wrong": wrong(load), "hits": load["hits_found"]}


def main():
    args = arguments()
    server = Server(args, "auto", args.n)
    try:
        wait_until_stored(server, args.n)
        kinds = {"warm": {}, "cold": {"cold": True}, "damaged": {"damaged": True}}
        runs = {kind: [] for kind in kinds}
        for kind, how in kinds.items():
            for _ in range(args.rounds):
                run = restart(server, **how)
                if run:
                    runs[kind].append(run)
                if kind == "damaged":
                    wait_until_stored(server, args.n)
    finally:
        server.close()
    with open(os.path.join(args.out, "restart.json"), "w") as out:
        json.dump({"n": args.n, **runs}, out, indent=1)
    bad = []
    print(f"\nRestart after kill -9, {figure(args.n)} hashes")
    for kind, all_runs in runs.items():
        if not all_runs:
            print(f"{kind}: not measured: the system's cache of files cannot be emptied here")
            continue
        seconds = [run["ready_s"] for run in all_runs]
        middle, limit = statistics.median(seconds), None if kind == "damaged" else READY_S_MAX
        missed = limit is not None and middle > limit
        rebuilt = sum(run["rebuilt"] for run in all_runs)
        print(
            f"{kind}: ready after {middle:.1f} s ({min(seconds):.1f} to {max(seconds):.1f}"
            + (f"; at most {limit}): {'MISSED' if missed else 'held'}" if limit else ")")
            + f"; built anew {rebuilt} of {len(all_runs)} times, wrong answers in {sum(run['wrong'] for run in all_runs)}"
        )
        repaired = rebuilt == (len(all_runs) if kind == "damaged" else 0)
        if missed or not repaired or any(run["wrong"] or not run["hits"] for run in all_runs):
            bad.append(kind)
    for kind in bad:
        say(f"RESTART {kind}: see above")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
