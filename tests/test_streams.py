from gptlab.streams import stream_seed


def test_a_stream_never_changes():
    """Old runs can be repeated only while these numbers stay as they are."""
    assert stream_seed(0, "data") == 736_872_305_540_241_488


def test_streams_differ_by_seed_and_by_every_name():
    streams = [
        (0, "data"),
        (1, "data"),
        (0, "init"),
        (0, "init", "embedding.weight"),
        (0, "init", "head.matrix.weight"),
        (0, "data", 1),
        (0, "data", 2),
        (10, "data"),
    ]
    assert len({stream_seed(*stream) for stream in streams}) == len(streams)


def test_a_seed_fits_every_generator():
    seeds = [stream_seed(seed, "data") for seed in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # and no bit of the 63 is wasted
