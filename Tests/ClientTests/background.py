"""Clients that go on while a test does something else."""

import threading


class Background:
    """Threads that run `run(number)` from entering on; `finish`, or leaving, tells them by `isOver` to end.

    What they raise, and what they add to `failures`, fails the test then.
    """

    def __init__(self, count=1):
        self.isOver = threading.Event()
        self.failures = []
        self.threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]

    def _run(self, number):
        try:
            self.run(number)
        except Exception as failure:
            self.failures.append(failure)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def finish(self):
        self._end()
        assert not self.failures, self.failures[:3]

    def __exit__(self, raised, *_):
        self._end() if raised else self.finish()

    def _end(self):
        self.isOver.set()
        for thread in self.threads:
            thread.join(60)
