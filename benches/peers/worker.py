"""One peer as a process: builds its index of a folder's hashes, then answers commands as our own side does
(`benches/src/contender.rs`): one command a line in, one JSON object a line out.

Radius 32 means strictly less in FAISS, so distance 31 is the last that counts, as for us. One OpenMP thread.
"""

import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import faiss  # noqa: E402  the thread count must be set before
import numpy  # noqa: E402

BATCH = 64
RADIUS = 32


class Faiss:
    """A binary index of FAISS: whole batches in, arrays out."""

    def __init__(self, name, hashes):
        if name == "faiss_flat":
            self.index = faiss.IndexBinaryFlat(256)
        else:
            chunks, bits, flips = (int(part) for part in name.split("_")[2:])
            self.index = faiss.IndexBinaryMultiHash(256, chunks, bits)
            self.index.nflip = flips
        self.index.add(hashes)

    def questions(self, queries):
        return [numpy.ascontiguousarray(queries[at : at + BATCH]) for at in range(0, len(queries), BATCH)]

    def ask(self, batch):
        return self.index.range_search(batch, RADIUS)

    def answers(self, batch, asked):
        """Ids of each question of the batch."""
        limits, _, ids = asked
        return [ids[limits[at] : limits[at + 1]].tolist() for at in range(len(batch))]


class PdqIndex:
    """python-threatexchange's index over FAISS MultiHash, asked a batch at a time through the matcher it
    wraps (its own `query` takes one hash), with the entries looked up as `query` does."""

    def __init__(self, hashes):
        from threatexchange.signal_type.pdq.pdq_index import PDQIndex

        self.index = PDQIndex(entries=[(row.tobytes().hex(), at) for at, row in enumerate(hashes)])

    def questions(self, queries):
        hexes = [row.tobytes().hex() for row in queries]
        return [hexes[at : at + BATCH] for at in range(0, len(hexes), BATCH)]

    def ask(self, batch):
        found = self.index.index.search_with_distance_in_result(batch, self.index.get_match_threshold())
        entries = self.index.local_id_to_entry
        return {query: [entries[match[0]][1] for match in matches] for query, matches in found.items()}

    def answers(self, batch, asked):
        return [asked[query] for query in batch]


class PdqIndex2:
    """python-threatexchange's successor over IndexFlatL2. It takes one question at a time."""

    def __init__(self, hashes):
        from threatexchange.signal_type.pdq.pdq_index2 import PDQIndex2

        self.index = PDQIndex2(entries=((row.tobytes().hex(), at) for at, row in enumerate(hashes)))

    def questions(self, queries):
        return [[row.tobytes().hex()] for row in queries]

    def ask(self, batch):
        return self.index.query(batch[0])

    def answers(self, _, asked):
        return [[match.metadata for match in asked]]


def build(name, hashes):
    if name == "pytx_pdqindex":
        return PdqIndex(hashes)
    if name == "pytx_pdqindex2":
        return PdqIndex2(hashes)
    return Faiss(name, hashes)


def rss_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


class Worker:
    def __init__(self, name, folder):
        faiss.omp_set_num_threads(1)
        read = lambda file: numpy.fromfile(os.path.join(folder, file), dtype=numpy.uint8).reshape(-1, 32)
        hashes = read("hashes.bin")
        before, begun = rss_bytes(), time.perf_counter()
        self.peer = build(name, hashes)
        self.ready = {"name": name, "build_s": time.perf_counter() - begun, "rss_bytes": rss_bytes() - before}
        self.batches = self.peer.questions(read("queries.bin"))
        self.truth = numpy.fromfile(os.path.join(folder, "truth.bin"), dtype="<u4").reshape(-1, 3)
        with open(os.path.join(folder, "meta.json")) as meta:
            self.checked = json.load(meta)["checked"]
        self.at = 0

    def go(self, seconds):
        asked, begun = 0, time.perf_counter()
        while True:
            batch = self.batches[self.at]
            self.at = (self.at + 1) % len(self.batches)
            self.peer.ask(batch)
            asked += len(batch)
            took = time.perf_counter() - begun
            if took >= seconds:
                return {"queries": asked, "seconds": took}

    def check(self, seconds):
        """Answers against the truth, as many as the time allows."""
        query, right, false, wanted, begun = 0, 0, 0, 0, time.perf_counter()
        for batch in self.batches:
            if query + len(batch) > self.checked or (query and time.perf_counter() - begun >= seconds):
                break
            first, last = numpy.searchsorted(self.truth[:, 0], [query, query + len(batch)])
            expected = {(int(row[0]), int(row[1])) for row in self.truth[first:last]}
            answers = self.peer.answers(batch, self.peer.ask(batch))
            given = {(query + at, int(hit)) for at, hits in enumerate(answers) for hit in hits}
            right += len(given & expected)
            false += len(given - expected)
            wanted += len(expected)
            query += len(batch)
        return {"checked": query, "recall": right / wanted if wanted else 1.0, "false_hits": false}


def main():
    worker = Worker(sys.argv[1], sys.argv[2])
    print(json.dumps(worker.ready), flush=True)
    for line in sys.stdin:
        command, seconds = line.split()
        print(json.dumps({"go": worker.go, "check": worker.check}[command](float(seconds))), flush=True)


if __name__ == "__main__":
    main()
