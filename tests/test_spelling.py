import pytest

from detour.spelling import unknown


@pytest.mark.parametrize(
    ("found", "allowed", "message"),
    [
        ("fgms", ["fgsm", "noise"], "key: found 'fgms', allowed: fgsm, noise; did you mean `fgsm`?"),
        (3, ["fgsm"], "key: found 3, allowed: fgsm"),
    ],
)
def test_a_name_that_is_not_there_gets_the_nearest_that_is(found, allowed, message):
    assert unknown("key", found, allowed) == message


def test_a_long_list_of_names_is_cut():
    assert "name11, ... (40 in all)" in unknown("key", "x", [f"name{i}" for i in range(40)])
