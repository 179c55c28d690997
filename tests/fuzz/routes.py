"""Fuzzes every route of the admin port by the server's own OpenAPI document, with schemathesis.

Starts a server with temporary data and all rights, fills it so that paths lead somewhere, and runs the examples,
coverage, fuzzing and stateful phases. A status of 500 or more is a finding unless it says that a setting is missing
(501) or that a URL cannot be fetched (502); so are a connection without an answer, a panic, an end of the server and
an answer whose status, type or shape is not in the document.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from random import Random

PDQ = "0f" * 32
CONFIG = """
[checks.not_a_server_error]
enabled = true
expected-statuses = ["2xx", "3xx", "4xx", 501, 502]
"""
# Ends what it would be asked about next.
LEFT_OUT = "^/dev/factory_reset$"
DEVIATIONS = "response_schema_conformance,content_type_conformance,status_code_conformance"


def call(base, method, path, body=None, kind="application/json"):
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, method=method, headers={"content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def fill(base):
    """One of everything, under names and numbers that a generator is told of or comes upon by itself."""
    for name in ("A", "B", "TEST"):
        call(base, "POST", "/api/v1/banks", {"name": name})
        call(base, "POST", f"/api/v1/banks/{name}/contents", {"signals": {"pdq": PDQ}})
        call(base, "POST", f"/api/v1/banks/{name}/import?signal_type=raw_text", "some words\nothers\n", "text/plain")
    fields = [
        {"name": "text", "type": "STRING"},
        {"name": "author", "type": "RELATED_ITEM"},
        {"name": "pictures", "type": "IMAGE", "container": "ARRAY"},
    ]
    call(base, "PUT", "/api/v1/item-types/post", {"kind": "CONTENT", "fields": fields, "roles": {"creatorId": "author"}})
    call(base, "PUT", "/api/v1/queues/q", {"description": "d"})
    call(base, "PUT", "/api/v1/webhooks/w", {"url": "http://127.0.0.1:9/", "enabled": False})
    call(base, "PUT", "/api/v1/rules/r", {"queue": "q", "when": {"hash_match": {"banks": ["A"]}}})
    author = {"id": "u", "typeId": "user"}
    items = [
        {"id": str(at), "typeId": "post", "data": {"text": "t", "author": author, "pictures": [{"signals": {"pdq": PDQ}}]}}
        for at in range(20)
    ]
    status, answer = call(base, "POST", "/api/v1/items/async/", {"items": items})
    if status != 202:
        sys.exit(f"the server takes no items: {status} {answer}")


def spoil(body, random):
    """A body with a few bytes changed, cut out, doubled or added."""
    body = bytearray(body)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(body) + 1)
        until = min(len(body), at + random.choice((1, 2, 8, 64)))
        match random.randrange(4):
            case 0:
                body[at:until] = random.randbytes(until - at)
            case 1:
                del body[at:until]
            case 2:
                body[at:at] = body[at:until]
            case 3:
                body[at:at] = random.choice((b"\0", b"\xff\xfe", b'"', b"{", b"\n", b"-1", b"1e999", b",", b"\r\n"))
    return bytes(body)


def spoilt_bodies(base, seed, count):
    """Sends bodies that are no JSON, each spoilt so many times: the document cannot describe them."""
    pdq = bytes.fromhex(PDQ)
    set_of = b'{"id": "a", "vector": [0.25, -1, 3.5]}\n{"id": "b", "vector": [1, 2, 3]}\n'
    picture = bytes.fromhex("474946383961010001008000000000000000ff21f90401000000002c00000000010001000002024401003b")
    form = b'--b\r\ncontent-disposition: form-data; name="photo"; filename="f.gif"\r\n\r\n' + picture + b"\r\n--b--\r\n"
    event = {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]}
    bodies = [
        ("PUT", "/api/v1/embeddings/e", "application/x-ndjson", set_of),
        ("POST", "/api/v1/banks/A/import?signal_type=pdq&format=csv", "text/csv", b"signal,note,quality\n%s,n,9\n" % PDQ.encode()),
        ("POST", "/api/v1/banks/A/import?signal_type=vpdq&format=lines", "text/plain", b"%s,100,0.5\n" % PDQ.encode()),
        ("POST", "/api/v1/banks/A/import?signal_type=pdq", "text/plain", b'{"signal": "%s", "note": "n"}\n' % PDQ.encode()),
        ("POST", "/api/v1/scan", "application/octet-stream", pdq * 4),
        ("POST", "/api/v1/hash", "application/octet-stream", picture),
        ("POST", "/h/hash", "multipart/form-data; boundary=b", form),
        ("POST", "/m/lookup", "multipart/form-data; boundary=b", form),
        ("POST", "/c/bank/A/content", "multipart/form-data; boundary=b", form),
        ("POST", "/api/v1/s3/events", "text/plain", json.dumps(event).encode()),
        ("POST", "/api/v1/items/async/", "application/json", b'{"items": [{"id": "x", "typeId": "post", "data": {"text": "t"}}]}'),
    ]
    random = Random(seed)
    found = set()
    for method, path, kind, body in bodies:
        for _ in range(count):
            spoilt = spoil(body, random)
            try:
                status, answer = call(base, method, path, spoilt, kind)
            except OSError as error:
                status, answer = 599, f"no answer: {error}"
            if status >= 500 and status not in (501, 502):
                found.add(f"{method} {path}: {status} {answer[:200]} for {spoilt.hex()}")
    return found, count * len(bodies)


def run(arguments, base, out):
    config = out / "schemathesis.toml"
    config.write_text(CONFIG)
    checks = "not_a_server_error," + DEVIATIONS
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run",
        f"{base}/openapi.json", "--checks", checks, "--phases", arguments.phases,
        "--max-examples", str(arguments.examples), "--seed", str(arguments.seed), "--workers", "1",
        "--request-timeout", "30", "--continue-on-failure", "--suppress-health-check", "all",
        "--exclude-path-regex", LEFT_OUT, "--no-color", "--output-truncate", "true",
    ]
    with open(out / "log", "w", encoding="utf-8") as log:
        try:
            subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, check=False, timeout=arguments.seconds, cwd=out
            )
        except subprocess.TimeoutExpired:
            print(f"schemathesis did not end within {arguments.seconds} s: --examples is too much for --seconds")
    return (out / "log").read_text(encoding="utf-8", errors="replace")


def findings(log):
    """Failures by kind, with the route and what was received; each once."""
    found, route, kinds = {}, "?", []
    failures = log.split("= FAILURES =", 1)[-1].split("= SUMMARY =", 1)[0]
    for line in failures.splitlines():
        if match := re.fullmatch(r"_+ (.*?) _+", line):
            route, kinds = match[1], []
        elif match := re.match(r"- (?:ST\d+ )?(\w.*)", line):
            kinds.append(match[1])
        elif match := re.match(r"\s*(?:\[(\d+)\] |Reproduce with)", line):
            for kind in kinds:
                found.setdefault(kind, set()).add(f"{route}: {match[1] or 'no answer'}")
            kinds = []
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=int(os.environ.get("FUZZ_EXAMPLES", "30")))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    data = tempfile.mkdtemp(prefix="hashward-fuzz-http-")
    words = open(arguments.out / "server.log", "w+", encoding="utf-8")
    server = subprocess.Popen(
        [arguments.bin, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--dev", "true"],
        stdout=subprocess.PIPE, stderr=words, text=True,
    )
    try:
        base = "http://" + json.loads(server.stdout.readline())["admin"]
        fill(base)
        spoilt, sent = spoilt_bodies(base, arguments.seed, arguments.examples * 5)
        log = run(arguments, base, arguments.out)
        ended = server.poll()
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(data, ignore_errors=True)
    words.seek(0)
    panics = [line for line in words if "panicked" in line]
    found = findings(log)
    generated = re.search(r"(\d+) generated", log)
    print(f"{generated[1] if generated else 'no'} requests and {sent} spoilt bodies, seed {arguments.seed}")
    print("".join(f"     {line}\n" for line in sorted(spoilt)), end="")
    bad = bool(spoilt or found)
    for kind, where in sorted(found.items()):
        print(f"{len(where):4} {kind}")
        print("".join(f"     {line}\n" for line in sorted(where)), end="")
    if ended is not None:
        print(f"the server ended: {ended}")
    if panics:
        print("".join(panics), end="")
    if not generated or ended is not None or panics or bad:
        print(f"see {arguments.out}/log and {arguments.out}/server.log")
        sys.exit(1)
    print("no finding")


if __name__ == "__main__":
    main()
