"""A measured process, ours or a peer's: pinned to one core, asleep unless asked."""

import contextlib
import json
import os
import select
import subprocess


class Failed(Exception):
    """A contender could not be built or has died; the text says why."""


class Contender:
    def __init__(self, name, command, core, environment=None, build_s_max=900.0):
        self.name = name
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        try:
            self.ready = self._answer(build_s_max)
        except Failed:
            self.close()
            raise

    def ask(self, command, seconds=0.0, limit_s=300.0):
        try:
            self.process.stdin.write(f"{command} {seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} has died") from None
        return self._answer(limit_s)

    def qps(self, command, seconds):
        answer = self.ask(command, seconds)
        return answer["queries"] / answer["seconds"]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):  # it died with a command unread
                pipe.close()

    def _answer(self, limit_s):
        # One answer is one line written at once, so what is readable is the whole of it.
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            raise Failed(f"{self.name} gave no answer within {limit_s:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended with status {self.process.wait()}")
        return json.loads(line)


def memory_available():
    """Bytes that can still be used without swapping."""
    with open("/proc/meminfo") as meminfo:
        line = next(line for line in meminfo if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024
