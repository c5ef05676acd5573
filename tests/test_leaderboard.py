"""The leaderboard of a run: what its tables say, in a form that does not change unseen."""

import json
import re

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from conftest import ROOT, SMALL
from detour import leaderboard

SCHEMA = ROOT / "schemas/leaderboard.schema.json"


@pytest.fixture
def board(finished) -> dict:
    return json.loads((finished.results / "leaderboard.json").read_text())


def test_the_schema_is_that_of_the_models():
    assert json.loads(SCHEMA.read_text()) == leaderboard.schema(), "run `make schema`"


def test_a_run_s_leaderboard_is_of_the_schema_and_says_what_its_tables_say(finished, board):
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(board)
    summary, metrics = finished.table("summary"), finished.table("metrics").set_index("measure")
    seen = 0
    for detector in board["detectors"]:
        for result in detector["results"]:
            rows = summary[
                (summary["detector"] == detector["name"])
                & (summary["protocol"] == result["protocol"])
                & (summary["population"] == result["population"])
            ].set_index("measure")
            for measure in ("auc", "worst"):
                assert list(result[measure].values()) == list(rows.loc[measure, ["value", "low", "high"]])
            seen += 1
    assert seen == summary["measure"].eq("auc").sum()
    pooled = metrics.loc["tpr@0.05"].query(
        "detector == 'lstm' and protocol == 'known' and attack == 'all' and population == 'all' and originals == 'all'"
    )
    (first,) = (at for at in board["detectors"][0]["results"][0]["detected"] if at["fpr"] == 0.05)
    assert first["flagged"]["value"] == pooled["value"].item()
    adapted = finished.table("adaptive").query("detector == 'lstm'")
    assert [e["evaded"]["value"] for e in board["detectors"][0]["adaptive"]] == list(adapted["share"])
    done = finished.table("outcomes").set_index("set")
    assert board["clean_accuracy"] == done.loc["original", "accuracy"]
    assert [(a["eps"], a["successful"]) for a in board["attacks"]] == [
        (a["eps"], done.loc[a["name"], "successful"]) for a in SMALL["attacks"]
    ]


def test_images_are_the_same_by_their_pixels_in_any_order(rng, write_store):
    pixels = rng.integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    pixels[5] = pixels[2]
    order = rng.permutation(6)
    stores = [write_store(f"of-{i}", {"images": x}) for i, x in enumerate((pixels, pixels[order]))]
    first, second = map(leaderboard.digests, stores)
    assert len(set(first)) == 6
    assert sorted(first) == sorted(second)
    # A copy is told by its number alone.
    assert first[5].split("-")[0] == first[2].split("-")[0]
    assert leaderboard.together(first) == leaderboard.together(second)
    pixels[0, 0, 0, 0] ^= 1
    assert leaderboard.together(leaderboard.digests(write_store("other", {"images": pixels}))) != (
        leaderboard.together(first)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format: found 2, expected 1"),
        ({"clean_accuracy": 1.5}, "clean_accuracy: Input should be less than or equal to 1"),
        ({"other": 1}, "other: Extra inputs are not permitted"),
        (None, "is no JSON"),
    ],
)
def test_what_is_no_leaderboard_is_named(board, tmp_path, change, said):
    path = tmp_path / "leaderboard.json"
    path.write_text(json.dumps(board | change) if change else "{")
    with pytest.raises(ValueError, match=re.escape(said)):
        leaderboard.read(path)
