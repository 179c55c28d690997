"""HMA's routes under load: `wrk` on one core, the server on another.

`/m/raw_lookup` of random hashes, and `/h/hash` of a picture beside `pdqhash` (the reference hasher, with Pillow's
decoder) on the server's core in the same rounds. Writes hma.json and prints the table.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

from contender import Contender, Failed
from wire import Server, figure, middle, say

# What the figures name: requests a second and processor milliseconds a request from one server core.
LOOKUPS_MIN, CPU_MS_MAX, HASHER_RATIO_MIN = 20_000, 0.04, 2.0

LOOKUP = """
math.randomseed(7)
request = function()
  local words = {}
  for at = 1, 8 do words[at] = string.format("%08x", math.random(0, 4294967295)) end
  return wrk.format("GET", "/m/raw_lookup?signal_type=pdq&signal=" .. table.concat(words))
end
"""
UPLOAD = """
local file = io.open("{path}", "rb")
local picture = file:read("*all")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=b"
wrk.body = '--b\\r\\ncontent-disposition: form-data; name="photo"; filename="f"\\r\\n\\r\\n' .. picture .. "\\r\\n--b--\\r\\n"
"""
# The peer, asked over the same lines as every contender.
REFERENCE = """
import io, json, sys, time
import numpy, pdqhash
from PIL import Image
picture = open(sys.argv[1], "rb").read()
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    seconds, begun, hashed = float(line.split()[1]), time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        pdqhash.compute(numpy.asarray(Image.open(io.BytesIO(picture)).convert("RGB")))
        hashed += 1
    print(json.dumps({"queries": hashed, "seconds": time.perf_counter() - begun}), flush=True)
"""


def arguments():
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="folder of hashward and hashward-loadtest")
    parser.add_argument("--out", required=True, help="folder for data and results")
    parser.add_argument("--n", type=int, default=100_000, help="banked hashes")
    parser.add_argument("--picture", help="a JPEG [default: the 1600 x 1004 one of HASHWARD_SHARED, else a small one]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--server-core", type=int, default=cores[-1])
    parser.add_argument("--load-core", type=int, default=cores[0])
    return parser.parse_args()


def wrk(args, server, script, path, connections):
    """Requests a second, and processor milliseconds a request."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", dir=args.out) as lua:
        lua.write(script)
        lua.flush()
        before = server.cpu_s()
        run = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{args.seconds:.0f}s", "-s", lua.name, server.admin + path],
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {args.load_core}),
        )
    if run.returncode or "Non-2xx" in run.stdout:
        raise Failed(f"wrk on {path}: {run.stdout[-400:]} {run.stderr[-400:]}")
    requests = int(re.search(r"(\d+) requests in", run.stdout)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)[1])
    return rate, (server.cpu_s() - before) * 1e3 / requests


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)
    shared = os.path.join(os.environ.get("HASHWARD_SHARED", "../shared"), "data/pdq/bridge-mods/aaa-orig.jpg")
    small = os.path.join(os.path.dirname(__file__), "../../engine/pictures/ridges.jpg")
    picture = os.path.abspath(args.picture or (shared if os.path.exists(shared) else small))
    os.sched_setaffinity(0, {args.load_core})
    reference = Contender("pdqhash", [sys.executable, "-c", REFERENCE, picture], args.server_core)
    server = Server(args, "auto", args.n)
    rows = {"lookups": {}, "hashing": {"ours": [], "pdqhash": []}}
    try:
        for connections in (1, 16):
            runs = [wrk(args, server, LOOKUP, "/", connections) for _ in range(args.rounds)]
            rows["lookups"][connections] = {
                "requests_per_s": middle([rate for rate, _ in runs]),
                "cpu_ms": middle([cost for _, cost in runs]),
            }
        for _ in range(args.rounds):
            rows["hashing"]["ours"].append(wrk(args, server, UPLOAD.format(path=picture), "/h/hash", 4)[0])
            rows["hashing"]["pdqhash"].append(reference.qps("go", args.seconds))
    finally:
        server.close()
        reference.close()
    with open(os.path.join(args.out, "hma.json"), "w") as out:
        json.dump(rows, out, indent=1)
    print(f"\n/m/raw_lookup, {figure(args.n)} hashes, one server core, wrk on the other")
    for connections, row in rows["lookups"].items():
        rate, cost = row["requests_per_s"], row["cpu_ms"]
        print(
            f"{connections:>3} connections: {figure(rate['median'])} requests/s ({figure(rate['lowest'])} to "
            f"{figure(rate['highest'])}), {cost['median']:.4f} CPU ms a request "
            f"(at most {CPU_MS_MAX}): {'held' if cost['median'] <= CPU_MS_MAX else 'MISSED'}"
        )
    most = rows["lookups"][16]
    held = most["requests_per_s"]["median"] >= LOOKUPS_MIN
    print(f"at least {figure(LOOKUPS_MIN)}/s with 16 connections: {'held' if held else 'MISSED'}")
    ours, theirs = (statistics.median(rows["hashing"][name]) for name in ("ours", "pdqhash"))
    verdict = "held" if ours >= HASHER_RATIO_MIN * theirs else "MISSED"
    print(
        f"/h/hash of {os.path.basename(picture)}: {ours:.1f}/s from one core, pdqhash {theirs:.1f}/s, "
        f"{ours / theirs:.1f} times (at least {HASHER_RATIO_MIN:.0f}): {verdict}"
    )


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        say(str(failed))
        sys.exit(1)
