"""The client against the real server: `HASHWARD_BIN_DIR` names the folder of the `hashward` program."""

from __future__ import annotations

import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import uuid

from hashward import Admin, AdminError, Client, Context, OutcomeUnknown, Refused, Verdict, new_request_id

KNOWN = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"


def flipped(text: str, bits: int) -> str:
    return f"{int(text, 16) ^ ((1 << bits) - 1):064x}"


class Server:
    def __init__(self, folder: str, *flags: str) -> None:
        program = pathlib.Path(os.environ["HASHWARD_BIN_DIR"]) / "hashward"
        command = [str(program), "serve", "--data-dir", folder, "--admin", "127.0.0.1:0", "--log", "error", *flags]
        if "--listen" not in flags:
            command += ["--listen", "127.0.0.1:0"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HASHWARD_")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        host, port = ready["listen"].rsplit(":", 1)
        self.address = (host, int(port))
        self.admin = Admin(f"http://{ready['admin']}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()


class WithServer(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.server = Server(self.folder.name)
        self.admin = self.server.admin
        self.client = Client(*self.server.address)

    def tearDown(self) -> None:
        self.client.close()
        self.server.end()
        self.folder.cleanup()

    def test_lookups_of_any_size_keep_their_order(self) -> None:
        self.admin.create_bank("B")
        content = self.admin.add_content("B", {"pdq": KNOWN}, note="n", metadata={"a": 1})
        self.assertEqual(self.admin.content(content)["metadata"], {"a": 1})
        hashes: list[str | bytes] = [f"{number:064x}" for number in range(10_000)]
        hashes[3] = KNOWN
        hashes[7_777] = bytes.fromhex(flipped(KNOWN, 31))
        hashes[9_999] = flipped(KNOWN, 32)
        answer = self.client.lookup(hashes)
        found = [(hit.index, [(match.bank, match.content, match.distance) for match in hit.matches]) for hit in answer.hits]
        self.assertEqual(found, [(3, [("B", content, 0)]), (7_777, [("B", content, 31)])])
        self.assertEqual([hit.index for hit in self.client.lookup(hashes, threshold=32).hits], [3, 7_777, 9_999])
        self.assertEqual(self.client.lookup([]).hits, ())
        self.assertTrue(self.admin.remove_content("B", content))
        self.assertEqual(self.client.lookup([KNOWN]).hits, (), "gone with the answer")

    def test_every_type_goes_over_the_port_that_takes_it(self) -> None:
        self.admin.create_bank("T")
        signals = {"video_md5": "1" * 32, "md5": "2" * 32, "sha1": "3" * 40, "sha256": "4" * 64, "url_md5": "5" * 32}
        for kind, text in signals.items():
            content = self.admin.add_content("T", {kind: text})
            hits = self.client.lookup(["0" * len(text), text], signal_type=kind).hits
            self.assertEqual([(hit.index, hit.matches[0].content) for hit in hits], [(1, content)], kind)
        self.admin.add_content("T", {"raw_text": "some words that are known"})
        found = self.admin.lookup("raw_text", ["Some words, that are KNOWN!"])
        self.assertEqual(found["results"][0]["matches"][0]["distance"], 0)
        with self.assertRaisesRegex(ValueError, "does not go over this port"):
            self.client.lookup(["x"], signal_type="raw_text")
        with self.assertRaisesRegex(ValueError, "hash 1 has 31 bytes"):
            self.client.lookup([KNOWN, KNOWN[2:]])

    def test_a_submit_is_logged_once_however_often_it_is_sent(self) -> None:
        self.admin.create_bank("B")
        self.admin.add_content("B", {"pdq": KNOWN})
        request = new_request_id()
        self.assertEqual((request.version, request.variant), (7, uuid.RFC_4122))
        contexts = {1: Context(item_id="item", creator="someone", created_at_ms=5)}

        def send() -> tuple[int, bool]:
            receipt = self.client.submit(["0" * 64, KNOWN], upload_ids=[7, 8], contexts=contexts, request=request)
            self.assertEqual(receipt.durability, "sync")
            self.assertEqual([(hit.index, hit.verdict) for hit in receipt.hits], [(1, Verdict.REVIEW)])
            return receipt.first_position, receipt.replayed

        self.assertEqual(send(), (1, False))
        self.assertEqual(send(), (1, True))
        self.assertEqual(self.client.submit(["0" * 64]).durability, "none")
        submissions = self.admin.recent("pdq", KNOWN)["results"][0]["submissions"]["entries"]
        deadline = time.monotonic() + 10
        while not submissions and time.monotonic() < deadline:
            time.sleep(0.05)
            submissions = self.admin.recent("pdq", KNOWN)["results"][0]["submissions"]["entries"]
        self.assertEqual((submissions[0]["upload_id"], submissions[0]["context"]["item_id"]), (8, "item"))
        with self.assertRaisesRegex(ValueError, "split it"):
            self.client.submit([KNOWN] * 100_000)

    def test_it_goes_on_after_the_server_was_killed(self) -> None:
        self.admin.create_bank("B")
        self.admin.add_content("B", {"pdq": KNOWN})
        self.assertEqual(len(self.client.lookup([KNOWN]).hits), 1)
        self.server.end(signal.SIGKILL)
        listen = "{}:{}".format(*self.server.address)

        def restart() -> None:
            self.server = Server(self.folder.name, "--listen", listen)

        starting = threading.Timer(0.5, restart)
        starting.start()
        receipt = self.client.submit([KNOWN])
        starting.join()
        self.assertEqual((len(receipt.hits), receipt.durability), (1, "sync"))

    def test_nobody_there_is_an_unknown_outcome(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening
            alone = Client(*taken.getsockname(), patience=0.3)
            request = new_request_id()
            with self.assertRaises(OutcomeUnknown) as caught:
                alone.submit([KNOWN], request=request)
            self.assertEqual(caught.exception.request, request)

    def test_what_the_server_refuses_is_said(self) -> None:
        with self.assertRaises(Refused) as refused:
            self.client.lookup([KNOWN], threshold=200)
        self.assertEqual(refused.exception.field, "threshold")
        self.assertEqual(self.client.lookup([KNOWN]).hits, (), "and the client goes on")
        with self.assertRaises(AdminError) as unnamed:
            self.admin.create_bank("lower case")
        self.assertEqual(unnamed.exception.status, 400)

    def test_banks_are_curated(self) -> None:
        key = new_request_id()
        self.admin.create_bank("L", request=key)
        self.assertTrue(self.admin.create_bank("L", request=key)["replayed"], "sent twice, made once")
        lines = "".join(f"{number:064x}\n" for number in range(2_500)) + "not a hash\n"
        done = self.admin.import_signals("L", "pdq", io.BytesIO(lines.encode()))
        self.assertEqual((done["imported"], done["bad"]), (2_500, 1))
        self.assertEqual(sum(1 for _ in self.admin.contents("L")), 2_500)
        self.assertEqual(sum(1 for _ in self.admin.export_signals("L")), 2_500)
        self.admin.update_bank("L", new_name="M", threshold=5)
        self.assertEqual([(bank["name"], bank["threshold"]) for bank in self.admin.banks()], [("M", 5)])
        self.assertEqual([event["event"] for event in self.admin.bank_history("M")], ["bank_created", "bank_exported", "bank_updated"])
        self.assertEqual(self.admin.content_history(2)[0]["event"], "added")
        self.assertEqual(self.admin.hash_file(b"abc", types="md5")["signals"]["md5"], "900150983cd24fb0d6963f7d28e17f72")
        answer = self.admin.match([{"id": "a", "signals": {"pdq": "0" * 64}}, {"url": "http://127.0.0.1:1/"}])
        self.assertEqual((answer["items"][0]["matches_total"] > 0, "error" in answer["items"][1]), (True, True))
        self.assertEqual(self.admin.statistics()["contents"], 2_500)
        self.admin.delete_bank("M")
        self.assertEqual(self.admin.banks(), [])


class WithToken(unittest.TestCase):
    def test_a_token_is_needed_where_the_server_has_one(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            token = "0123456789abcdef0123456789abcdef"
            path = pathlib.Path(folder) / "token"
            path.write_text(token)
            server = Server(f"{folder}/data", "--token-file", str(path))
            try:
                with Client(*server.address, token=token) as client:
                    self.assertEqual(client.lookup([KNOWN]).hits, ())
                with self.assertRaises(Refused):
                    Client(*server.address, token="wrong").welcome()
                with self.assertRaises(AdminError):
                    server.admin.banks()
                url = server.admin._url
                self.assertEqual(Admin(url, token=token).banks(), [])
            finally:
                server.end()


if __name__ == "__main__":
    unittest.main()
