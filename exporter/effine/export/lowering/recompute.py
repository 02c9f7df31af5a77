"""Compute again for the backward pass what is cheaper to compute than to keep.

Selective activation recomputation (Korthikanti et al., 2205.05198, section 5) on a captured
graph: at the point where most is alive, results that follow by a short chain of operators from
others that stay alive anyway are dropped, and computed again where they are read next. Values
stay the same bit for bit, for the same operators read the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from effine.export.lowering.graph import AGAIN, Node, aten
from effine.export.lowering.lives import Lives, lives_in, size_of

_PRODUCTS = {aten.linear.default, aten.mm.default, aten.bmm.default}
_LONGEST = 24
_DEAREST = 1024
_SMALL = 1 << 14


def recompute(graph: fx.GraphModule) -> None:
    """Drop and compute again, as long as there is something at the peak that can be."""
    lives = lives_in(graph.graph)
    untried = {node for node, place in lives.made.items() if place < lives.peak}
    copies: dict[Node, Node] = {}
    while _shorten_one(graph.graph, copies, untried):
        pass


def _shorten_one(graph: fx.Graph, copies: dict[Node, Node], untried: set[Node]) -> bool:
    """Do it for the largest result that allows it.

    Args:
        copies: of results, computed again; at most one of each.
        untried: results of the forward pass, each looked at once.
    """
    lives = lives_in(graph)
    for node in sorted(_kept(lives), key=size_of, reverse=True):
        if node not in untried:
            continue
        untried.remove(node)
        readers = [user for user in node.users if lives.made[user] > lives.peak]
        first = min(readers, key=lives.made.__getitem__)
        if first.op == "output":
            continue
        copied = node in copies and lives.made[copies[node]] < lives.made[first]
        chain = [] if copied else _chain(node, lives, lives.made[first], copies)
        if chain:
            _copy(graph, chain, first, lives, copies)
        if copied or chain:
            for reader in readers:
                reader.replace_input_with(node, copies[node])
            return True
    return False


def _kept(lives: Lives) -> Iterator[Node]:
    """Results that are alive at the peak only because they are read later."""
    for node, place in lives.made.items():
        if size_of(node) > _SMALL and place < lives.peak < lives.last[node]:
            if all(lives.made[user] != lives.peak for user in node.users):
                yield node


def _chain(node: Node, lives: Lives, until: int, copies: dict[Node, Node]) -> list[Node]:
    """What computes a result from others that are at hand at `until`, in order; none if too much.

    A small result is worth keeping alive; more than `_DEAREST` multiplications for each number
    aren't worth their time.
    """
    chain: list[Node] = []

    def at_hand(source: Node) -> bool:
        kept = source.op != "call_function" or lives.last[source] >= until
        copied = source in copies and lives.made[copies[source]] < until
        return kept or copied or size_of(source) <= _SMALL

    def add(wanted: Node) -> bool:
        if wanted.op != "call_function" or len(chain) >= _LONGEST:
            return False
        for source in wanted.all_input_nodes:
            if source not in chain and not at_hand(source) and not add(source):
                return False
        chain.append(wanted)
        return True

    worth = add(node) and sum(map(_multiplications, chain)) <= _DEAREST * node.meta["val"].numel()
    return chain if worth else []


def _multiplications(node: Node) -> int:
    if node.target not in _PRODUCTS:
        return 0
    return int(node.meta["val"].numel() * node.args[0].meta["val"].shape[-1])


def _copy(
    graph: fx.Graph, chain: list[Node], before: Node, lives: Lives, copies: dict[Node, Node]
) -> None:
    """Compute a chain `before` a reader; copies that stand there already are read."""
    until = lives.made[before]
    usable = {node: copy for node, copy in copies.items() if lives.made[copy] < until}

    def source(node: Node) -> Node:
        kept = node.op != "call_function" or lives.last[node] >= until
        return node if kept and node not in chain else usable.get(node, node)

    later = [(node, copies[node]) for node in chain if node in copies]
    with graph.inserting_before(before):
        for node in chain:
            copy = usable[node] = copies[node] = graph.node_copy(node, source)
            copy.meta[AGAIN] = True
    for node, replaced in reversed(later):
        replaced.replace_all_uses_with(copies[node])
        graph.erase_node(replaced)
