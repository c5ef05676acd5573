"""Checkpoints: files of weights as people have them, read as one state dict; code in a file is never run."""

import logging
import re
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from detour.errors import InputError
from detour.spelling import listed

logger = logging.getLogger(__name__)

# Where training scripts keep the state dict among other things; the first of these is taken.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "state_dict_ema",
    "model_ema",
    "net",
    "network",
    "weights",
)

# What wrappers of a network put before every name, and into names.
PREFIXES = ("module.", "model.", "_orig_mod.")
INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

# A count of averages that torch.optim.swa_utils.AveragedModel adds.
IGNORED = ("n_averaged",)

# Names of old DenseNets, as in torchvision's own files: norm.1 for norm1.
DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")

EXPECTED = "a state dict, as `torch.save(network.state_dict(), path)` or safetensors write it"

# Scalars and arrays of NumPy, and options of argparse, which scripts save beside the weights: data, no code.
SCALAR: Any = np.float64(0).__reduce__()[0]
ARRAY: Any = np.zeros(0).__reduce__()[0]
SAFE: list[Any] = [
    Namespace, np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")),
    np.ndarray,
    *((SCALAR, f"{module}.scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((ARRAY, f"{module}._reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
]  # fmt: skip

SHOWN = 3


def read(path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in a file of PyTorch or safetensors, also under one of `WRAPPERS`.

    Raises
    ------
    ValueError
        If the file is something else: what it is, and what is expected.
    """
    path = Path(path)
    found = _unwrapped(path, _contents(path))
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise InputError(
                f"{path}: found a {type(value).__name__} under {name!r}, expected {EXPECTED}, which has names"
                " and tensors alone"
            )
    return found


def fill(
    network: nn.Module, state: Mapping[str, Tensor], *, where: str, what: str, other_classes: bool = False
) -> None:
    """Load a state dict into a network, strictly but for auxiliary heads, which training alone uses.

    Parameters
    ----------
    state
        What `read` gives; its names may have `PREFIXES` and `INSIDE`.
    where, what
        The file and the network, for errors.
    other_classes
        Whether the last layer may be of another number of classes: then it stays as the network has it.

    Raises
    ------
    ValueError
        If they do not fit: what is missing, unexpected and of another shape or type, and what it can be.
    """
    expected = network.state_dict()
    names = {name: _plain(name, expected) for name in state if name not in IGNORED}
    prefixes = {name.removesuffix(found) for name, found in names.items() if found in expected}
    if len(prefixes) == 1:
        # Names of old layouts have the prefix of the others.
        (prefix,) = prefixes
        names = {n: found if found in expected else n.removeprefix(prefix) for n, found in names.items()}
    if twice := [name for name, times in Counter(names.values()).items() if times > 1]:
        of_it = [name for name in names if names[name] == twice[0]]
        raise InputError(
            f"{where}: found {listed(of_it)}, which all mean {twice[0]}, expected one ({len(twice)} such"
            " names); save one state dict alone"
        )
    plain = {names[name]: state[name] for name in names}
    common = [name for name in plain if name in expected]
    for name in common:
        if problem := _unusable(plain[name], expected[name]):
            raise InputError(
                f"{where}: {name} is {problem}, expected {expected[name].dtype}; save it in that type"
            )
    # A scalar may be a vector of one, as before PyTorch 0.4: torch reads it.
    unlike = [name for name in common if (plain[name].shape or (1,)) != (expected[name].shape or (1,))]
    fitting = OrderedDict((name, value) for name, value in plain.items() if name not in unlike)
    missing, unexpected = _loaded(network, fitting, _versions(state, names))
    missing = [name for name in missing if not (_auxiliary(name) or name in unlike)]
    unexpected = [name for name in names if names[name] in unexpected and not _auxiliary(name)]
    unlike = [name for name in unlike if not _auxiliary(name)]
    if other_classes and unlike and _other_classes(unlike, plain, expected):
        logger.info(
            "%s: left out %s, of %d classes; %d are learnt anew",
            where, listed(unlike), plain[unlike[0]].shape[0], expected[unlike[0]].shape[0],
        )  # fmt: skip
        unlike = []
    problems = [
        *_counted("missing", missing),
        *_counted("unexpected", unexpected),
        *_counted(
            "of another shape",
            [f"{n} {list(plain[n].shape)}, expected {list(expected[n].shape)}" for n in unlike],
        ),
    ]
    if problems:
        reason = _reason(missing, unexpected, unlike, plain, expected)
        raise InputError(f"{where}: no state dict of {what}: {'; '.join(problems)}; {reason}")


def outputs(state: Mapping[str, Tensor], network: nn.Module) -> int | None:
    """Number of outputs of the network that a state dict is of, if only that can differ from this one's."""
    expected = network.state_dict()
    plain = {_plain(name, expected): value for name, value in state.items()}
    rows = {
        value.shape[0]
        for name, value in plain.items()
        if name in expected
        and not _auxiliary(name)
        and value.shape != expected[name].shape
        and value.shape[1:] == expected[name].shape[1:]
    }
    return rows.pop() if len(rows) == 1 else None


def _versions(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Any] | None:
    """Versions of the modules when they were saved, by which they read their old layouts."""
    saved, prefixes = getattr(state, "_metadata", None), {n.removesuffix(names[n]) for n in names}
    if saved is None or len(prefixes) != 1:
        return None
    (prefix,) = prefixes
    return {f"{module}.".removeprefix(prefix).removesuffix("."): saved[module] for module in saved}


def _loaded(
    network: nn.Module, state: OrderedDict[str, Tensor], versions: dict[str, Any] | None
) -> tuple[list[str], list[str]]:
    """Load, and give the names that are missing and unexpected after modules have read old layouts."""
    if versions is not None:
        state._metadata = versions  # type: ignore[attr-defined]
    try:
        keys = network.load_state_dict(state, strict=False)
    except ValueError:
        # MNASNet, which reads nothing without a version.
        state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
        keys = network.load_state_dict(state, strict=False)
    return keys.missing_keys, keys.unexpected_keys


def _contents(path: Path) -> Any:
    """What the file has, read without running any of it."""
    if path.is_dir():
        raise InputError(f"{path}: found a folder, expected the file of {EXPECTED}")
    if not path.stat().st_size:
        raise InputError(f"{path}: found an empty file, expected {EXPECTED}; copy or fetch it again")
    with path.open("rb") as file:
        head = file.read(16)
    # By content, whatever it is called: the length of a header below 4 GB, and the header.
    begins = head[4:9] == b"\0\0\0\0{"
    if begins or (path.suffix == ".safetensors" and head[:2] != b"PK" and head[:1] != b"\x80"):
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path}: found a safetensors file that cannot be read ({error}), expected a whole one; copy"
                " or fetch it again"
            ) from error
    try:
        damaged = _damaged(path) if head[:2] == b"PK" else None
        # By a path, torch takes the name's word for what it is.
        with torch.serialization.safe_globals(SAFE), path.open("rb") as file:
            found = torch.load(file, map_location="cpu", weights_only=True)
    # Bytes that are no pickle raise whatever the instruction does that they happen to be.
    except Exception as error:
        raise InputError(f"{path}: {_kind(path, head, error)}") from error
    if damaged:
        raise InputError(
            f"{path}: found damage in {damaged} (its bytes are not those of its CRC-32), expected {EXPECTED};"
            " copy or fetch it again"
        )
    return found


def _damaged(path: Path) -> str | None:
    """The first entry of a zip that is not what its CRC says, which torch does not compare."""
    with zipfile.ZipFile(path) as zipped:
        # Of torch.serialization.set_crc32_options(False): nothing can be told.
        return zipped.testzip() if any(entry.CRC for entry in zipped.infolist()) else None


def _kind(path: Path, head: bytes, error: Exception) -> str:
    """What a file is that torch cannot load, what is expected, and what to do."""
    if head[:2] == b"PK":
        try:
            names = zipfile.ZipFile(path).namelist()
        except zipfile.BadZipFile:
            return f"found a zip that is cut short, expected {EXPECTED}; copy or fetch it again"
        if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
            return f"found a TorchScript archive, which is code, expected {EXPECTED}"
        if not any(name.endswith("data.pkl") for name in names):
            return f"found a zip with {listed(names[:SHOWN])}, expected {EXPECTED}"
    if named := re.search(r"(?:GLOBAL|global) (\S+\.\S+) ", str(error)):
        return (
            f"found a pickled {named[1]}, whose loading would run code, expected {EXPECTED}; load it where"
            " you trust it and save its state dict"
        )
    if head[:1] != b"\x80" and head[:2] != b"PK":
        text = all(31 < byte < 127 or byte in b"\t\n\r" for byte in head)
        return f"found {'text' if text else 'bytes of no known format'}, expected {EXPECTED}"
    # What torch itself says of a pickle is advice to run its code.
    if isinstance(error, UnpicklingError):
        return f"found a pickle that PyTorch did not write, which may run code, expected {EXPECTED}"
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return f"found a file that is cut short or damaged ({said}), expected {EXPECTED}; copy or fetch it again"


def _unwrapped(path: Path, found: Any) -> Mapping[Any, Any]:
    """The innermost dictionary, by the names in `WRAPPERS`."""
    while isinstance(found, Mapping):
        inside = [name for name in WRAPPERS if isinstance(found.get(name), Mapping)]
        if not inside:
            break
        if len(inside) > 1:
            logger.warning("%s: has %s; %s is taken", path, listed(inside), inside[0])
        found = found[inside[0]]
    if not isinstance(found, Mapping):
        kind = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise InputError(f"{path}: found {kind}, expected {EXPECTED}, with a name for every tensor")
    if not found:
        raise InputError(f"{path}: found a dictionary without entries, expected {EXPECTED}")
    if not any(isinstance(value, Tensor) for value in found.values()):
        entries = [f"{name!r} ({type(value).__name__})" for name, value in found.items()]
        raise InputError(
            f"{path}: found a dictionary without tensors, with {listed(entries)}, expected {EXPECTED}, or one"
            f" under {listed(WRAPPERS)}"
        )
    return found


def _plain(name: str, expected: Mapping[str, Tensor]) -> str:
    """The name in the network; a name that it does not have either way is left as it is."""
    tried = name
    for mark in INSIDE:
        tried = tried.replace(mark, "")
    while tried not in expected:
        if (renamed := DENSE.sub(r"\1\2", tried)) in expected:
            return renamed
        prefix = next((p for p in PREFIXES if tried.startswith(p)), None)
        if prefix is None:
            return name
        tried = tried.removeprefix(prefix)
    return name if name in expected else tried


def _auxiliary(name: str) -> bool:
    return "aux" in name.lower()


def _counted(what: str, names: list[str]) -> list[str]:
    more = ", ..." if len(names) > SHOWN else ""
    return [f"{what}: {', '.join(names[:SHOWN])}{more} ({len(names)})"] if names else []


def _reason(
    missing: list[str], unexpected: list[str], unlike: list[str],
    plain: Mapping[str, Tensor], expected: Mapping[str, Tensor],
) -> str:  # fmt: skip
    """What the likely reason is, and what to do."""
    if unlike and not missing and not unexpected and _other_classes(unlike, plain, expected):
        name = unlike[0]
        return (
            f"it was trained on {plain[name].shape[0]} classes, and the reference has"
            f" {expected[name].shape[0]}: use the reference images of its classes, a folder for each"
        )
    if any(_computed(name) in missing for name in unexpected):
        return (
            "its weights are pruned or computed from others: make them plain (torch.nn.utils.prune.remove,"
            " parametrize.remove_parametrizations, remove_weight_norm) and save the state dict again"
        )
    ends = Counter(
        name.removesuffix(end) for name in unexpected for end in missing[:1] if name.endswith(f".{end}")
    )
    if ends:
        prefix = next(iter(ends))
        return f"its names begin with {prefix!r}: save the state dict of the network alone"
    if not unexpected and not unlike:
        return "it is a part of the network, or of a smaller one: save all of it, or check classifier.model"
    if not unexpected and not missing:
        return (
            "it is of another network, or was changed after training: check classifier.model, or save the"
            " state dict as the network has it"
        )
    return "it is of another network: check classifier.model"


def _other_classes(unlike: list[str], plain: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether nothing but the number of outputs differs, of the last layer: all of it, by one number.

    That is the last one of the state dict, or a linear one whose outputs no other layer takes.
    """
    last = [name for name in expected if not _auxiliary(name)][-1].rpartition(".")[0]
    if all(expected[name].ndim < 3 for name in unlike):
        last = unlike[0].rpartition(".")[0]
    outputs = {plain[name].shape[:1] for name in unlike}
    return (
        set(unlike) == {name for name in expected if name.rpartition(".")[0] == last}
        and all(plain[name].shape[1:] == expected[name].shape[1:] for name in unlike)
        and len(outputs) == 1
        and outputs != {(0,)}
    )


def _computed(name: str) -> str:
    """The weight that PyTorch computes from what has this name: pruned, of a norm, or parametrised."""
    return re.sub(r"_(orig|mask|g|v|u)$", "", re.sub(r"parametrizations\.([^.]+)\.original\d?$", r"\1", name))


def _unusable(found: Tensor, expected: Tensor) -> str:
    """Why values cannot become those of the network; halves and doubles can."""
    if found.is_quantized or (expected.is_floating_point() and not found.is_floating_point()):
        return f"of {found.dtype}"
    if found.layout is not torch.strided:
        return f"a tensor in layout {found.layout}"
    return "a tensor without data" if found.is_meta else ""
