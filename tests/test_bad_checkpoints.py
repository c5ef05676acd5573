"""Checkpoints as people have them, and files that are none: each is loaded, or refused in one line."""

import argparse
import collections
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune
from torchvision import models

import asked
from detour import checkpoints, classifiers
from detour.options.classifier import Training
from detour.store import Made


class Evil:
    """Makes a file if its pickle is run."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def state(classes=10):
    return classifiers.untrained("small_resnet", classes, seed=0).state_dict()


def renamed(before, after=""):
    return {f"{before}{name}{after}": value for name, value in state().items()}


def changed(**tensors):
    return state() | {name.replace("_", "."): value for name, value in tensors.items()}


def saved(value, **options):
    return lambda path: torch.save(value(), path, **options)


def cut(write, share):
    def begin(path):
        write(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return begin


def replaced(old, new):
    return lambda: {re.sub(old, new, name): value for name, value in state().items()}


LEGACY = {"_use_new_zipfile_serialization": False}
SAFETENSORS = lambda path: save_file(state(), path)  # noqa: E731


def padded(begin):
    """Safetensors whose header has a length with that lowest byte: blanks may fill it up."""

    def write(path):
        SAFETENSORS(path)
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        longer = length + (begin - length) % 256
        header = content[8 : 8 + length].ljust(longer)
        path.write_bytes(longer.to_bytes(8, "little") + header + content[8 + length :])

    return write


def uncounted(path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert {entry.CRC for entry in zipfile.ZipFile(path).infolist()} == {0}


GOOD = {
    "state dict": saved(state),
    "of PyTorch before 1.6": saved(state, **LEGACY),
    "under state_dict": saved(lambda: {"state_dict": state(), "epoch": 3}),
    "under model": saved(lambda: {"model": state(), "optimizer": {"lr": 0.1}}),
    "under model_state_dict": saved(lambda: {"model_state_dict": state(), "loss": 0.3}),
    "under state_dict_ema": saved(lambda: {"state_dict_ema": state()}),
    "beside a tensor": saved(lambda: {"state_dict": state(), "best_acc1": torch.tensor(76.1)}),
    "beside options and NumPy": saved(
        lambda: {"state_dict": state(), "args": argparse.Namespace(lr=0.1), "best": np.float64(0.7),
                 "epoch": np.int64(3), "losses": np.zeros(3)}
    ),
    "one in another": saved(lambda: {"state_dict": {"model": state()}}),
    "module.": saved(lambda: renamed("module.")),
    "_orig_mod.": saved(lambda: renamed("_orig_mod.")),
    "model.": saved(lambda: {"state_dict": renamed("model.")}),
    "module._orig_mod.": saved(lambda: renamed("module._orig_mod.")),
    "model.module.": saved(lambda: renamed("model.module.")),
    "compiled within": saved(replaced(r"^blocks\.", "blocks._orig_mod.")),
    "FSDP within": saved(replaced(r"^blocks\.(\d)", r"blocks.\1._fsdp_wrapped_module")),
    "some with module.": saved(replaced(r"^blocks\.", "module.blocks.")),
    "average of weights": saved(
        lambda: torch.optim.swa_utils.AveragedModel(classifiers.untrained("small_resnet", 10, seed=0)).state_dict()
    ),
    "safetensors": SAFETENSORS,
    "a header of safetensors whose length begins like a pickle": padded(0x80),
    "counts of batches as vectors of one": saved(
        lambda: {name: v.reshape(1) if v.dim() == 0 else v for name, v in state().items()}
    ),
    "without CRCs": uncounted,
    "doubles": saved(lambda: {name: v.double() if v.is_floating_point() else v for name, v in state().items()}),
}  # fmt: skip


def filled(path):
    network = classifiers.untrained("small_resnet", 10, seed=1)
    checkpoints.fill(network, checkpoints.read(path), where=str(path), what="small_resnet with 10 classes")
    return network.state_dict()


@pytest.mark.parametrize("name", GOOD)
def test_weights_are_found_wherever_scripts_put_them(tmp_path, name):
    path = tmp_path / "a.ckpt"
    GOOD[name](path)
    found = filled(path)
    assert all(torch.equal(found[key], value) for key, value in state().items())


def test_what_a_file_is_its_content_says_and_not_its_name(tmp_path):
    torch.save(state(), tmp_path / "a.safetensors")
    found = filled(tmp_path / "a.safetensors")
    assert all(torch.equal(found[key], value) for key, value in state().items())


def test_halves_become_floats_of_the_same_value(tmp_path):
    halves = {name: v.half() if v.is_floating_point() else v for name, v in state().items()}
    torch.save(halves, tmp_path / "a.pt")
    found = filled(tmp_path / "a.pt")
    assert all(torch.equal(found[name], value.to(found[name].dtype)) for name, value in halves.items())
    assert found["fc.weight"].dtype == torch.float32


@pytest.mark.parametrize("prefix", ["", "module."])
def test_modules_read_their_old_layout_by_the_version_that_is_saved_beside_the_weights(tmp_path, prefix):
    """MNASNet of 0.5 rebuilds its stem for weights without a version, whose shapes then fit no more."""
    network = models.mnasnet0_5(num_classes=4)
    wrapped = network if not prefix else nn.DataParallel(network)
    torch.save(wrapped.state_dict(), tmp_path / "a.pt")
    other = models.mnasnet0_5(num_classes=4)
    checkpoints.fill(other, checkpoints.read(tmp_path / "a.pt"), where="a.pt", what="mnasnet0_5")
    assert torch.equal(other.state_dict()["layers.0.weight"], network.state_dict()["layers.0.weight"])
    # Of safetensors, which keep no versions.
    checkpoints.fill(
        models.mnasnet0_5(num_classes=4), {**network.state_dict()}, where="a.pt", what="mnasnet0_5"
    )


def test_names_of_old_densenets_are_those_of_new_ones(tmp_path):
    network = models.densenet121(num_classes=4)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", n): v for n, v in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    other = models.densenet121(num_classes=4)
    checkpoints.fill(other, old, where="a.pt", what="densenet121")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_of_torchvision_in_old_layouts_are_read_as_torchvision_reads_them(prefix):
    """Its Vision Transformers name their perceptrons otherwise, older networks do not count batches."""
    network = models.VisionTransformer(32, 16, 1, 2, 8, 16, num_classes=4)
    old = {
        n.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
        for n, v in network.state_dict().items()
    }
    assert any("linear_1" in name for name in old)
    other = models.VisionTransformer(32, 16, 1, 2, 8, 16, num_classes=4)
    checkpoints.fill(other, {f"{prefix}{name}": v for name, v in old.items()}, where="a.pt", what="vit")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())
    uncounted = {f"{prefix}{name}": v for name, v in state().items() if "num_batches" not in name}
    checkpoints.fill(
        classifiers.untrained("small_resnet", 10, seed=1), uncounted, where="a.pt", what="small_resnet"
    )


def test_of_two_state_dicts_in_a_file_the_one_that_is_taken_is_said(tmp_path, caplog):
    torch.save({"state_dict_ema": renamed("x."), "state_dict": state()}, tmp_path / "a.pt")
    filled(tmp_path / "a.pt")
    assert "has state_dict, state_dict_ema; state_dict is taken" in caplog.text


def with_norm(change):
    """The state of a network whose last layer computes its weight from other tensors."""
    network = classifiers.untrained("small_resnet", 10, seed=0)
    change(network.fc)
    return network.state_dict()


NOTHING = r"expected a state dict, as `torch.save\(network.state_dict\(\), path\)` or safetensors write it"
FILES = {
    "empty": (lambda path: path.write_bytes(b""), f"found an empty file, {NOTHING}; copy or fetch it again"),
    "text": (lambda path: path.write_text("a text\n" * 9), f"found text, {NOTHING}"),
    "one letter": (lambda path: path.write_text("e"), "found text"),
    "Git LFS": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid"), "found text"),
    "a page": (lambda path: path.write_text("<!doctype html>"), "found text"),
    "random": (lambda path: path.write_bytes(bytes(range(130, 255))), "found bytes of no known format"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "found bytes of no known format"),
    "NumPy": (lambda path: np.save(path.open("wb"), np.zeros(3)), "found bytes of no known format"),
    "another zip": (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "x"), "found a zip with a.txt"),
    "npz": (lambda path: np.savez(path.open("wb"), a=np.zeros(3)), "found a zip with a.npy"),
    "a folder": (lambda path: path.mkdir(), "found a folder, expected the file of"),
    "cut": (cut(saved(state), 0.5), "found a zip that is cut short"),
    "cut at its end": (cut(saved(state), 0.999), "found a zip that is cut short"),
    "cut, old": (cut(saved(state, **LEGACY), 0.5), "found a file that is cut short or damaged"),
    "cut, safetensors": (cut(SAFETENSORS, 0.5), "found a safetensors file that cannot be read"),
    "a network": (saved(lambda: nn.Linear(1, 1)), r"found a pickled torch\.nn\.modules\.linear\.Linear, whose"),
    "a network, old": (saved(lambda: nn.Linear(1, 1), **LEGACY), "found a pickled .*Linear, whose loading would run"),
    "a network inside": (saved(lambda: {"model": nn.Linear(1, 1)}), "found a pickled .*Linear"),
    "a counter": (saved(lambda: {"state_dict": collections.ChainMap()}), "found a pickled collections.ChainMap"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps([1, 2])), "found a pickle that PyTorch did not write"),
    "a tensor": (saved(lambda: torch.zeros(3, 4)), r"found a tensor \[3, 4\], expected .* a name for every tensor"),
    "a list": (saved(lambda: [torch.zeros(3)]), "found a list"),
    "nothing": (saved(lambda: None), "found a NoneType"),
    "a number": (saved(lambda: 3), "found a int"),
    "no entries": (saved(dict), "found a dictionary without entries"),
    "no tensors": (saved(lambda: {"a": 1, "b": "x"}), r"without tensors, with 'a' \(int\), 'b' \(str\), .* under state_"),
    "no entries inside": (saved(lambda: {"state_dict": {}}), "found a dictionary without entries"),
    "a number inside": (saved(lambda: {"weights": {"a": 3}}), r"without tensors, with 'a' \(int\)"),
    "a list for a tensor": (saved(lambda: changed(fc_bias=[0.0] * 10)), "found a list under 'fc.bias'"),
    "numbers for names": (saved(lambda: {1: torch.zeros(3)}), "found a Tensor under 1"),
    "another prefix": (saved(lambda: renamed("encoder.")), r"missing: stem.0.weight, .* \(\d+\); unexpected: encoder.stem.0.weight, .* \(116\); its names begin with 'encoder\.'"),
    "of a student": (saved(lambda: renamed("student.net.")), r"its names begin with 'student\.net\.'"),
    "other classes": (saved(lambda: state(7)), r"fc.weight \[7, 64\], expected \[10, 64\].* trained on 7 classes, and the reference has 10"),
    "another network": (saved(lambda: models.resnet18(num_classes=10).state_dict()), r"missing: stem\S+, .* unexpected: conv1.weight, .*another network: check classifier.model"),
    "a part": (saved(lambda: {n: v for n, v in state().items() if "fc" not in n}), r"missing: fc.weight, fc.bias \(2\); it is a part of the network, or of a smaller one: save all of it, or check classifier.model$"),
    "outputs without a bias": (saved(lambda: changed(fc_bias=torch.zeros(0))), r"fc.bias \[0\], expected \[10\] \(1\); it is of another network, or was changed"),
    "weights turned": (saved(lambda: changed(fc_weight=state()["fc.weight"].T)), r"fc.weight \[64, 10\], .*; it is of another network, or was changed"),
    "a kernel flattened": (saved(lambda: state() | {"stem.0.weight": state()["stem.0.weight"].flatten(1)}), "; it is of another network, or was changed"),
    "a wider layer": (saved(lambda: state() | {"stem.0.weight": torch.zeros(99, 3, 3, 3)}), "; it is of another network, or was changed"),
    "weight norm": (saved(lambda: with_norm(nn.utils.parametrizations.weight_norm)), "pruned or computed from others: make them plain"),
    "old weight norm": (saved(lambda: with_norm(nn.utils.weight_norm)), "pruned or computed from others: make them plain"),
    "spectral norm": (saved(lambda: with_norm(nn.utils.spectral_norm)), "pruned or computed from others: make them plain"),
    "pruned": (saved(lambda: with_norm(lambda fc: prune.l1_unstructured(fc, "weight", 0.5))), "pruned or computed from others: make them plain"),
    "more": (saved(lambda: changed(head_weight=torch.zeros(3))), r"unexpected: head.weight \(1\)"),
    "twice": (saved(lambda: state() | renamed("module.")), r"found stem.0.weight, module.stem.0.weight, which all mean stem.0.weight, .*116 such"),
    "bytes": (saved(lambda: changed(fc_weight=torch.zeros(10, 64, dtype=torch.int8))), "fc.weight is of torch.int8, expected torch.float32"),
    "integers": (saved(lambda: {n: v.long() for n, v in state().items()}), "stem.0.weight is of torch.int64"),
    "complex": (saved(lambda: changed(fc_bias=torch.zeros(10, dtype=torch.complex64))), "fc.bias is of torch.complex64"),
    "quantised": (saved(lambda: changed(fc_bias=torch.quantize_per_tensor(torch.zeros(10), 0.1, 0, torch.qint8))), "fc.bias is of torch.qint8"),
    "sparse": (saved(lambda: changed(fc_bias=torch.ones(10).to_sparse())), "fc.bias is a tensor in layout torch.sparse"),
    "without data": (saved(lambda: changed(fc_bias=torch.zeros(10, device="meta"))), "fc.bias is a tensor without data"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_checkpoint_of_the_network_is_refused_in_one_line(tmp_path, name):
    write, message = FILES[name]
    write(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message) as caught:
        filled(tmp_path / "a.pt")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'a.pt'}: ")
    assert "\n" not in said
    assert not re.search(r"0x[0-9a-f]+|weights_only", said)


@pytest.mark.parametrize(
    "write",
    [
        lambda evil, path: torch.save(evil, path),
        lambda evil, path: torch.save({"state_dict": state(), "args": evil}, path),
        lambda evil, path: torch.save(evil, path, **LEGACY),
        lambda evil, path: path.write_bytes(pickle.dumps(evil)),
        lambda evil, path: path.write_bytes(pickle.dumps({"state_dict": evil}, protocol=2)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_code_in_a_file_is_never_run(tmp_path, write):
    write(Evil(tmp_path / "ran"), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="found a pickle"):
        checkpoints.read(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def prepare(folder, **options):
    classifiers.prepare(
        folder / "classifier.pt",
        **{"model": "small_resnet", "mean": [0.5] * 3, "std": [0.5] * 3, "classes": 10, "made": Made({}, "")}
        | options,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fc.bias", torch.nan),
        ("fc.weight", torch.inf),
        ("stem.1.running_var", -torch.inf),
        ("blocks.0.bn1.running_mean", torch.nan),
    ],
)
def test_weights_and_statistics_that_are_not_finite_are_refused_by_name(tmp_path, name, value):
    spoiled = state()
    spoiled[name].view(-1)[-1] = value
    torch.save(spoiled, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"a\.pt: {name} has 1 values of \d+ that are NaN or infinite"):
        prepare(tmp_path, weights=str(tmp_path / "a.pt"))
    assert not (tmp_path / "classifier.pt").exists()


@pytest.mark.parametrize("value", [-1e-6, -1.0])
def test_a_variance_below_zero_is_refused_by_name(tmp_path, value):
    """One above -eps gives finite logits of another network, one below NaN."""
    spoiled = state()
    spoiled["stem.1.running_var"][3] = value
    torch.save(spoiled, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"a\.pt: stem\.1\.running_var has a variance of -1.*, expected none"
    ):
        prepare(tmp_path, weights=str(tmp_path / "a.pt"))
    assert not (tmp_path / "classifier.pt").exists()
    spoiled["stem.1.running_var"][3] = -0.0
    torch.save(spoiled, tmp_path / "a.pt")
    prepare(tmp_path, weights=str(tmp_path / "a.pt"))


@pytest.mark.parametrize("entry", ["data.pkl", "data/0", "data/7", "version"])
def test_a_flipped_bit_in_a_checkpoint_is_refused_by_file_and_entry(tmp_path, entry):
    """Torch compares no CRC: one bit of an exponent moves all logits."""
    path = tmp_path / "a.pt"
    torch.save(state(), path)
    with zipfile.ZipFile(path) as zipped:
        (found,) = (i for i in zipped.infolist() if i.filename.endswith(f"/{entry}"))
        first = zipped.read(found)
    content = bytearray(path.read_bytes())
    at = content.index(first, found.header_offset)
    content[at + len(first) - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt: found .*(damage|pickle|cut|zip)") as caught:
        checkpoints.read(path)
    if entry.startswith("data/"):
        assert f"found damage in a/{entry} (its bytes are not those of its CRC-32)" in str(caught.value)


def test_doubles_beyond_floats_are_refused_too(tmp_path):
    torch.save(changed(fc_bias=torch.full((10,), 1e300, dtype=torch.float64)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"fc\.bias has 10 values"):
        prepare(tmp_path, weights=str(tmp_path / "a.pt"))


def test_a_training_that_diverges_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"train: .* NaN or infinite, expected none; use a lower classifier.training.lr"
    ):
        prepare(
            tmp_path,
            weights="train",
            training=Training(epochs=1, batch_size=16, lr=1e12),
            dataset=asked.digits(1757, 16),
        )


@pytest.mark.parametrize("where", ["model", "size"])
def test_the_error_of_a_run_names_the_key_the_network_and_its_classes(tmp_path, where):
    torch.save(state(7) if where == "size" else {"state_dict": renamed("x.")}, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"^classifier\.weights: .*a\.pt: no state dict of small_resnet with 10 classes"
    ):
        prepare(tmp_path, weights=str(tmp_path / "a.pt"))
