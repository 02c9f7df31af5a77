"""Compute again for the backward pass what is cheaper to compute than to keep.

Selective activation recomputation (Korthikanti et al., 2205.05198, section 5) on a captured
graph: results of the forward pass that follow by a short chain of operators from others that are
kept anyway are dropped, and computed again where the backward pass reads them. Values stay the
same bit for bit, for the same operators read the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from effine.export.capture import Captured
from effine.export.lowering.graph import AGAIN, Node, aten
from effine.export.lowering.lives import Lives, lives_in, size_of

_PRODUCTS = {aten.linear.default, aten.mm.default, aten.bmm.default}
_LONGEST = 24
_DEAREST = 1024
_SMALL = 1 << 14


def compute_again(captured: Captured) -> None:
    """Drop and compute again, in place, what can be of the results kept for the backward pass.

    First what is kept where most is alive, again and again; then what is kept from the end of
    the forward pass on.
    """
    graph = captured.graph.graph
    output: Node = graph.output_node()
    loss = output.args[0][list(captured.outputs).index("loss")]
    forward = _large_sources(loss)
    copies: dict[Node, Node] = {}

    def end(lives: Lives) -> int:
        return max(lives.made[node] for node in forward)

    for place_of in (_peak, end):
        untried = set(forward)
        while _shorten_one(graph, place_of, untried, copies):
            pass


def _peak(lives: Lives) -> int:
    return lives.peak


def _shorten_one(
    graph: fx.Graph,
    place_of: Callable[[Lives], int],
    untried: set[Node],
    copies: dict[Node, Node],
) -> bool:
    """Do it for the largest result that is kept over a place and allows it.

    Args:
        untried: results of the forward pass, each looked at once.
        copies: of results, computed again; at most one of each.
    """
    lives = lives_in(graph)
    place = place_of(lives)
    kept = [n for n in untried if lives.made[n] < place < lives.last[n]]
    for node in sorted(kept, key=lambda node: (-size_of(node), lives.made[node])):
        untried.remove(node)
        readers = [user for user in node.users if lives.made[user] > place]
        first = min(readers, key=lives.made.__getitem__)
        if first.op == "output" or any(lives.made[user] == place for user in node.users):
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


def _large_sources(loss: Node) -> set[Node]:
    """The results that the loss follows from, but for small ones."""
    found: set[Node] = set()
    left = [loss]
    while left:
        new = set(left.pop().all_input_nodes) - found
        found |= new
        left += new
    return {node for node in found if size_of(node) > _SMALL}


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
