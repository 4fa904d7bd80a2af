"""Which linear layers of a running model write into its residual stream, told by the autograd graph alone.

A layer writes into the stream where its output, carried on without another matrix product or a nonlinearity, is
added to something of its width that its own input was computed from. No name of a module is looked at.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

# what carries a layer's output on in a straight line: shapes, sums, a scale, a gate, a norm
_STRAIGHT = {
    *("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Sum", "Mean", "Addcmul", "Mv"),
    *(
        "View",
        "Reshape",
        "ReshapeAlias",
        "UnsafeView",
        "Transpose",
        "T",
        "Permute",
        "Expand",
        "Alias",
        "AsStrided",
    ),
    *(
        "Unsqueeze",
        "Squeeze",
        "Slice",
        "Select",
        "Split",
        "SplitWithSizes",
        "Unbind",
        "Cat",
        "Stack",
        "Roll",
        "Clone",
    ),
    *("ConstantPadNd", "Index", "IndexAdd", "IndexPut", "IndexSelect", "Gather", "Scatter", "ScatterAdd", "Where"),
    *("MaskedFill", "MaskedScatter", "ToCopy", "CopySlices", "Copy", "NativeDropout", "Repeat"),
    *("NativeLayerNorm", "FusedRmsNorm", "NativeBatchNorm", "NativeGroupNorm"),
}


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Linear layers by path, GPT-2's transposed ones too."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, Conv1D))}


def residual_writers(model: nn.Module, **inputs: Any) -> tuple[set[str], set[str]]:
    """Paths of the linear layers that write into the residual stream of a forward pass, and of all that ran.

    model: with parameters that require gradients.
    inputs: of its forward pass.
    """
    calls: list[tuple[str, Any, Any]] = []
    names = {layer: name for name, layer in linear_layers(model).items()}

    def note(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if arguments and arguments[0].grad_fn is not None and output.grad_fn is not None:
            calls.append((names[layer], arguments[0].grad_fn, output.grad_fn))

    hooks = [layer.register_forward_hook(note) for layer in names]
    try:
        outputs = model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    children = _children(node.grad_fn for node in _tensors(outputs) if node.grad_fn is not None)
    ancestors: dict[Any, set[Any]] = {}
    found = {name for name, before, after in calls if _is_added(before, after, children, ancestors)}
    return found, {name for name, *_ in calls}


def _tensors(outputs: Any) -> list[Any]:
    values = outputs.values() if hasattr(outputs, "values") else [outputs]
    flat = []
    for value in values:
        flat += list(value) if isinstance(value, (tuple, list)) else [value]
    return [value for value in flat if hasattr(value, "grad_fn")]


def _children(roots: Iterable[Any]) -> dict[Any, list[Any]]:
    """For every node of the graph the nodes that take what it gives."""
    children: dict[Any, list[Any]] = {}
    left, seen = list(roots), set()
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        for before, _ in node.next_functions:
            if before is not None:
                children.setdefault(before, []).append(node)
                left.append(before)
    return children


def _is_added(before: Any, after: Any, children: dict[Any, list[Any]], ancestors: dict[Any, set[Any]]) -> bool:
    """Whether what `after` gives is carried straight into a sum with something that `before` was computed from."""
    left, seen = [after], {after}
    while left:
        node = left.pop()
        for child in children.get(node, ()):
            if child in seen or _kind(child) not in _STRAIGHT:
                continue
            if _kind(child) == "Add" and _width(child) == _width(after):
                others = [each for each, _ in child.next_functions if each is not None and each is not node]
                if any(_carries_stream(each, _ancestors(before, ancestors)) for each in others):
                    return True
            seen.add(child)
            left.append(child)
    return False


def _carries_stream(node: Any, stream: set[Any]) -> bool:
    """Whether what a node gives was carried straight from the stream: itself, scaled, or in a sum with others."""
    left, seen = [node], {node}
    while left:
        each = left.pop()
        if each in stream:
            return True
        if _kind(each) in _STRAIGHT:
            fresh = [before for before, _ in each.next_functions if before is not None and before not in seen]
            seen.update(fresh)
            left += fresh
    return False


def _ancestors(node: Any, known: dict[Any, set[Any]]) -> set[Any]:
    if node not in known:
        found, left = set(), [node]
        while left:
            each = left.pop()
            if each is not None and each not in found:
                found.add(each)
                left += [before for before, _ in each.next_functions]
        known[node] = found
    return known[node]


def _width(node: Any) -> int:
    """The last dimension of what a node gives."""
    shape = node._input_metadata[0].shape
    return int(shape[-1]) if len(shape) else 1


def _kind(node: Any) -> str:
    return str(node.name()).partition("Backward")[0]
