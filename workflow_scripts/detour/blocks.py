"""Blocks: which modules a network calls, one after the other, and which of them `auto` takes."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from detour.errors import InputError
from detour.networks import SmallResNet
from detour.outputs import problem, without_data
from detour.spelling import listed, unknown

# Where the classes of activation functions are.
ACTIVATIONS = nn.ReLU.__module__


@dataclass
class Call:
    """A module's call in a pass.

    Attributes
    ----------
    name
        Of the module; empty for the network itself.
    output
        What it put out; of a tensor shape and type alone.
    within
        The calls that it made, in their order.
    chain
        Whether these are all that it does: the first takes its input, each other the output of the one
        before, and the last gives its output.
    """

    name: str
    module: nn.Module
    output: Any = None
    within: list["Call"] = field(default_factory=list)
    chain: bool = True

    def all(self) -> Iterator["Call"]:
        """This one and all within, in the order in which they began."""
        yield self
        for call in self.within:
            yield from call.all()


class _Seen:
    """A tensor as it was: a block may add to it in place, which is more than to call."""

    def __init__(self, found: Any) -> None:
        self.found, self.version = found, getattr(found, "_version", None)

    def is_still(self, found: Any) -> bool:
        return isinstance(found, Tensor) and found is self.found and found._version == self.version


def passed(classifier: nn.Module, network: nn.Module, x: Tensor) -> tuple[Call, Tensor]:
    """The calls of one pass of the network within a classifier, and what the classifier puts out."""
    calls: list[Call] = []
    # Calls that have not ended, each with the last that it had: its input, or the output of one within.
    begun: list[tuple[Call, list[_Seen]]] = []
    names = {module: name for name, module in network.named_modules()}

    def begin(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = next((a for a in (*arguments, *named.values()) if isinstance(a, Tensor)), None)
        call = Call(names[module], module)
        if begun:
            around, last = begun[-1]
            around.within.append(call)
            around.chain &= last[-1].is_still(given)
        else:
            calls.append(call)
        begun.append((call, [_Seen(given)]))

    def end(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        call, last = begun.pop()
        call.output = without_data(output)
        call.chain &= bool(call.within) and last[-1].is_still(output)
        if begun:
            begun[-1][1][:] = [_Seen(output)]

    hooks = []
    for module in names:
        hooks.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        hooks.append(module.register_forward_hook(end, with_kwargs=True))
    try:
        logits = classifier(x)
    finally:
        for hook in hooks:
            hook.remove()
    return calls[0], logits


def layers(network: nn.Module, names: str | list[str], root: Call, batch: int) -> list[str]:
    """Names of the layers to compare, in the order of the data.

    Parameters
    ----------
    names
        Names of modules, in which `*` stands for any part between two dots, or `auto`.
    root
        The calls of a pass of the network.
    batch
        Images in that pass.

    Raises
    ------
    InputError
        If the network has no such layer, with the nearest names.
    """
    if isinstance(names, str):
        return auto(network, root, batch)
    modules = [name for name, _ in network.named_modules() if name]
    called = dict.fromkeys(call.name for call in root.all() if call.name)
    ordered = [*called, *(name for name in modules if name not in called)]
    found: list[str] = []
    for name in names:
        like = [other for other in ordered if _matches(other, name)] if "*" in name else [name]
        if not like or like[0] not in modules:
            raise InputError(unknown("classifier.layers", name, modules))
        found += like
    return list(dict.fromkeys(found))


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def auto(network: nn.Module, root: Call, batch: int) -> list[str]:
    """The stem and every block; see docs/networks.md for the rule in words.

    Parameters
    ----------
    root
        The calls of a pass of the network.
    batch
        Images in that pass.

    Raises
    ------
    InputError
        If there are no two layers that can be compared.
    """
    times = Counter(call.name for call in root.all())
    calls = [call for call in root.all() if call.name and times[call.name] == 1]
    usable = {call.name: call.output.ndim for call in calls if not problem([call.output], batch)}
    if own := [name for name in _own(network) if name in usable]:
        return own
    unfolded = [call for call in _unfolded(root, usable) if usable.get(call.name, 0) > 2]
    for kind in (_deep(root), {type(call.module) for call in unfolded if call.within}):
        blocks = [i for i, call in enumerate(unfolded) if call.within and type(call.module) in kind]
        if len(blocks) > 1:
            return [call.name for call in unfolded[max(blocks[0] - 1, 0) : blocks[0]]] + [
                unfolded[i].name for i in blocks
            ]
    single = [call for call in calls if not call.within and call.name in usable]
    functions = [call.name for call in single if type(call.module).__module__ == ACTIVATIONS]
    weighted = [call.name for call in single if any(True for _ in call.module.parameters())]
    for found in (functions, weighted[:-1]):
        if len(found) > 1:
            return found
    raise InputError(
        "classifier.layers: found 'auto', and the network has no blocks that can be told; list names of its"
        f" modules, among them: {listed(list(usable))}"
    )


def _own(network: nn.Module) -> list[str]:
    """What the network itself says: one of this project, or one of timm by its `feature_info`."""
    if isinstance(network, SmallResNet):
        return network.layers()
    about = getattr(network, "feature_info", None)
    about = getattr(about, "info", about)
    entries = about if isinstance(about, list) else []
    return [entry["module"] for entry in entries if isinstance(entry, dict) and "module" in entry]


def _deep(root: Call) -> set[type]:
    """Classes of which one calls a module that calls others."""
    found = {type(call.module) for call in root.all() if any(inner.within for inner in call.within)}
    return found - {nn.Sequential}


def _unfolded(root: Call, usable: Container[str]) -> list[Call]:
    """The calls that the network is made of, one after the other."""
    of_class: dict[type, list[Call]] = defaultdict(list)
    for call in root.all():
        of_class[type(call.module)].append(call)
    deep = _deep(root)

    def opened(call: Call) -> bool:
        alike = of_class[type(call.module)]
        return (
            call is root
            or call.name not in usable
            or (
                any(inner.within for inner in call.within)
                and (
                    type(call.module) is nn.Sequential
                    or (len(alike) == 1 and any(type(c.module) in deep for c in list(call.all())[1:]))
                    or all(other.chain for other in alike)
                )
            )
        )

    def unfolded(call: Call) -> Iterator[Call]:
        if call.within and opened(call):
            for inner in call.within:
                yield from unfolded(inner)
        else:
            yield call

    return list(unfolded(root))
