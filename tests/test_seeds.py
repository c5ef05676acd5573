from detour.seeds import draw


def test_a_draw_depends_on_seed_purpose_and_source_alone():
    def first(*key):
        return draw(*key).integers(2**62)

    assert first(0, "noise", 3) == first(0, "noise", 3)
    keys = [(0, "noise", 3), (1, "noise", 3), (0, "noisy", 3), (0, "noise", 4), (3, "noise", 0)]
    assert len({first(*key) for key in keys}) == len(keys)
