"""Half a minute of chaos; `make chaos` is the long version."""

import random

import chaos


def test_nothing_is_lost_or_doubled_whatever_happens(tmp_path):
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    print(chaos.run(tmp_path, 30, seed))
