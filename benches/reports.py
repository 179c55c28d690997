"""`make bench-reports`: reports an hour, and how long organisations wait for each other.

The server, NCMEC's stand-in and a platform with pictures run on this machine; every call of NCMEC's takes as long as
`--delay-ms` says, since the real one is not here. First one organisation files alone, with one report on its way at a time.
Then one has many decisions waiting when three others decide few. Ends with 1 if a report was filed twice or not at all, or
if the first part is slower than promised.
"""

import argparse
import http.server
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib

AN_HOUR_MIN = 500
PATIENCE_S = 1800
USER, PASSWORD = "bench-esp", "bench-esp-password"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder of hashward and ncmec-stand-in")
    parser.add_argument("--out", required=True, help="folder for reports.json")
    parser.add_argument("--reports", type=int, default=60, help="of the organisation that files alone")
    parser.add_argument("--files", type=int, default=20, help="of each of its reports")
    parser.add_argument("--file-bytes", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=int, default=100, help="of each answer of NCMEC's")
    parser.add_argument("--many", type=int, default=100, help="reports of the organisation with many")
    parser.add_argument("--few", type=int, default=5, help="of each of the others")
    return parser.parse_args()


def say(text):
    print(text, flush=True)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(name, length):
    """A PNG of about this length, another one for each name."""
    dice = random.Random(name)
    rows = b"".join(b"\0" + dice.randbytes(32) for _ in range(32))
    size = struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(rows))]
    parts.append(chunk(b"juNK", dice.randbytes(max(0, length - 1200))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


class Pictures(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    length = 0

    def do_GET(self):
        body = picture(self.path, self.length)
        self.send_response(200)
        self.send_header("content-type", "image/png")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode(errors='replace')}")
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text.decode()


def until(what, holds):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not happen within {PATIENCE_S} s")
        time.sleep(0.1)
    return found


class Program:
    """A program of ours that says in a line of JSON when it is ready."""

    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{command[0]} did not get ready")
        self.ready = json.loads(line)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Bench:
    """Everything, running."""

    def __init__(self, args):
        self.args, self.folder, self.users = args, tempfile.mkdtemp(prefix="reports-"), {}
        Pictures.length = args.file_bytes
        self.pictures = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
        threading.Thread(target=self.pictures.serve_forever, daemon=True).start()
        stand_in = [f"{args.bin}/ncmec-stand-in", "--user", USER, "--password", PASSWORD, "--quiet",
                    "--keep-bytes-max", "0", "--delay-ms", str(args.delay_ms)]
        self.ncmec = Program(stand_in)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HASHWARD_") and k != "NCMEC_ENV"}
        environment["HASHWARD_NCMEC_BASE_URL"] = self.ncmec.ready["url"]
        self.server = Program(
            [f"{args.bin}/hashward", "serve", "--data-dir", f"{self.folder}/data", "--listen", "127.0.0.1:0", "--admin",
             "127.0.0.1:0", "--log", "warn", "--fetch-allow", "127.0.0.1/32", "--cores", "1"], environment)
        self.control = f"http://{self.ncmec.ready['listen']}/control"

    def stop(self):
        self.server.stop()
        self.ncmec.stop()
        shutil.rmtree(self.folder)

    def api(self, method, path, body=None):
        return call(method, f"http://{self.server.ready['admin']}/api/v1/{path}", body)

    def organisation(self, name):
        """An organisation with its credentials, a queue, and a rule that sends its posts there."""
        user = f"{USER}-{name}"
        call("POST", f"{self.control}/users", {"environment": "test", "user": user, "password": PASSWORD})
        self.api("PUT", f"organisations/{name}", {"company_name": name, "contact_email": "desk@example.com"})
        credentials = {"username": user, "password": PASSWORD, "environment": "test"}
        self.api("PUT", f"organisations/{name}/credentials", credentials)
        self.api("PUT", f"queues/{name}", {"description": name, "child_safety": True, "organisation": name})
        fields = [{"name": "pictures", "type": "IMAGE", "container": "ARRAY"}, {"name": "text", "type": "STRING"},
                  {"name": "author", "type": "RELATED_ITEM"}]
        self.api("PUT", f"item-types/{name}", {"kind": "CONTENT", "fields": fields, "roles": {"creatorId": "author"}})
        every = {"field": "text", "comparator": "CONTAINS", "values": ["words"]}
        self.api("PUT", f"rules/{name}", {"kind": "proactive", "item_types": [name], "when": every,
                                          "actions": [{"enqueue_ncmec": {"queue": name}}]})

    def jobs(self, name, count, files):
        """So many jobs of an organisation, their media preserved, none decided."""
        host = f"http://127.0.0.1:{self.pictures.server_port}"
        users = [f"{name}-{number}" for number in range(count)]
        for user in users:
            pictures = [f"{host}/{user}/{number}.png" for number in range(files)]
            data = {"pictures": pictures, "text": "words", "author": {"id": user, "typeId": "user"}}
            self.api("POST", "items/async/", {"items": [{"id": user, "typeId": name, "data": data}]})
        until("taking in", lambda: not self.api("GET", "intake?limit=1")["entries"])
        until("making jobs", lambda: self.open(name) >= count)

    def open(self, name):
        queues = {queue["name"]: queue["jobs"] for queue in self.api("GET", "queues")}
        return queues.get(name, 0)

    def decide(self, name):
        """Decides the next job of an organisation; gives its user, and when that was."""
        job = self.api("POST", f"queues/{name}/next", {"reviewer": "bench"})
        media, after = [], 0
        while page := self.api("GET", f"jobs/{job['id']}/media?after={after}")["entries"]:
            media += page
            after = page[-1]["number"]
        decided = [{"media": medium["number"], "classification": "Unclassified"} for medium in media]
        decision = {"decision": "report", "lease": job["lease"]["token"], "revision": job["revision"],
                    "incident_type": "Child Pornography (possession, manufacture, and distribution)", "media": decided}
        self.api("POST", f"jobs/{job['id']}/decision", decision)
        return job["subject"]["id"], time.time()

    def finished(self):
        """Whose report is finished; each must be once."""
        finished = call("GET", f"{self.control}/finished")
        for user, ids in finished.items():
            if len(ids) != 1:
                sys.exit(f"{user} was reported {len(ids)} times: {ids}")
        return set(finished)

    def filed(self, users):
        """Waits until all are filed; gives when each was."""
        until("filing", lambda: set(users) <= self.finished())
        reports = call("GET", f"{self.control}/reports?state=finished")
        return {report["esp_identifier"]: report["modified_ms"] / 1000 for report in reports}


def alone(bench):
    args = bench.args
    bench.organisation("alone")
    bench.jobs("alone", args.reports, args.files)
    began = time.time()
    decided = dict(bench.decide("alone") for _ in range(args.reports))
    filed = bench.filed(decided)
    calls = [row for row in call("GET", f"{bench.control}/calls") if row["code"] == 0]
    opened = sorted(row["at_ms"] for row in calls if row["endpoint"] == "submit")
    seconds = max(filed[user] for user in decided) - min(began, opened[0] / 1000)
    uploads = sum(row["endpoint"] == "upload" for row in calls)
    rate = args.reports * 3600 / seconds
    say(f"one organisation, one report at a time, {args.files} files each, an answer takes {args.delay_ms} ms:")
    say(f"  {args.reports} reports with {uploads} files in {seconds:.1f} s: {rate:.0f} an hour (promised: {AN_HOUR_MIN})")
    waited = len(calls) * args.delay_ms / 1000
    say(f"  of those {seconds:.1f} s, {waited:.1f} were NCMEC's own; calls at once: {at_once(calls)}")
    return {"reports": args.reports, "files": args.files, "delay_ms": args.delay_ms, "seconds": seconds, "an_hour": rate,
            "uploads": uploads, "ncmec_seconds": waited, "calls_at_once": at_once(calls)}


def at_once(calls):
    """The most calls that were under way at once."""
    ends = [(row["ended_us"] or float("inf"), -1) for row in calls]  # the last one may be under way still
    turns = sorted([(row["began_us"], 1) for row in calls] + ends)
    now = most = 0
    for _, change in turns:
        now += change
        most = max(most, now)
    return most


def together(bench):
    args = bench.args
    counts = {"many": args.many, "few-1": args.few, "few-2": args.few, "few-3": args.few}
    for name, count in counts.items():
        bench.organisation(name)
        bench.jobs(name, count, 2)
    decided = {name: dict(bench.decide(name) for _ in range(count)) for name, count in counts.items()}
    filed = bench.filed([user for users in decided.values() for user in users])
    say(f"{args.many} decisions of one organisation, then {args.few} of each of three others; 2 files each:")
    say(f"  {'organisation':<14} {'reports':>7} {'first':>8} {'median':>8} {'last':>8}   seconds from decision to filing")
    rows = {}
    for name, users in decided.items():
        waits = sorted(filed[user] - at for user, at in users.items())
        order = [filed[user] for user, _ in sorted(users.items(), key=lambda pair: pair[1])]
        swapped = sum(before > after for before, after in zip(order, order[1:]))
        rows[name] = {"reports": len(waits), "first": waits[0], "median": statistics.median(waits), "last": waits[-1],
                      "out_of_order": swapped}
        say(f"  {name:<14} {len(waits):>7} {waits[0]:>8.1f} {statistics.median(waits):>8.1f} {waits[-1]:>8.1f}"
            f"   {swapped} out of order")
    return rows


def main():
    args = arguments()
    bench = Bench(args)
    try:
        results = {"alone": alone(bench), "together": together(bench)}
    finally:
        bench.stop()
    with open(f"{args.out}/reports.json", "w") as file:
        json.dump(results, file, indent=1)
    slowest = max(row["last"] for name, row in results["together"].items() if name != "many")
    fair = slowest < results["together"]["many"]["last"] / 2
    if not fair:
        say("NOT AS PROMISED: those with few reports wait for the one with many")
    if not (fast := results["alone"]["an_hour"] >= AN_HOUR_MIN):
        say("NOT AS PROMISED: too few reports an hour")
    if not (modest := results["alone"]["calls_at_once"] == 1):
        say("NOT AS PROMISED: more than one call of an organisation at once")
    return 0 if fair and fast and modest else 1


if __name__ == "__main__":
    sys.exit(main())
