"""EventTree: the sealed events of a log, in nodes of a table.

A leaf has events. An inner node has the first time of each of its children, and how many events and
which totals stand before it. Each node counts from 0, so a change of one event changes one node of
each level, however many events follow it. The root stands in the row of the log.

Nodes are replaced and never changed, so that a copy of a tree shares them.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from sqlite3 import Cursor
from typing import Final, Self

import attrs

__all__ = [
    "EMPTY_ROOT",
    "LEAF_SIZE",
    "EventTree",
    "Node",
    "from_zero",
    "integers_to_bytes",
    "node_numbers",
    "unpack_integers",
]

LEAF_SIZE: Final = 48
"""How many events a new leaf has; after insertions, a node has up to twice as many entries."""

MOST_IN_ROOT: Final = 16
"""So many entries of the root stand in the row of the log, which is read by every call."""

NODES_OF_A_LOG: Final = 1 << 24
"""How many nodes of one log have numbers of their own."""

NO_TOTALS: Final = array("q", (0,))
NO_CHILDREN: Final = array("q")


def node_numbers(first_log: int, last_log: int) -> tuple[int, int]:
    """Return the first and the last number that a node of some logs can have."""
    return first_log * NODES_OF_A_LOG, (last_log + 1) * NODES_OF_A_LOG - 1


def integers_to_bytes(integers: array[int]) -> bytes:
    """Return integers as bytes that are the same on every machine."""
    if sys.byteorder == "big":
        integers = integers[:]
        integers.byteswap()
    return integers.tobytes()


def unpack_integers(data: bytes) -> array[int]:
    """Return the integers that `integers_to_bytes` has packed."""
    integers = array("q")
    integers.frombytes(data)
    if sys.byteorder == "big":
        integers.byteswap()
    return integers


@attrs.define(eq=False)
class Node:
    """A leaf, whose entries are events, or an inner node, whose entries are nodes.

    level: 0 for a leaf. times: of each event, or the first time of each child.
    sent, attempts: the totals before each entry, and after the last; without refused attempts they
        are one array. counts: of an inner node, the same for the number of events.
    children: of an inner node, the numbers of its entries.
    """

    level: int
    times: array[int]
    sent: array[int]
    attempts: array[int]
    counts: array[int] = NO_TOTALS
    children: array[int] = NO_CHILDREN

    @property
    def count(self) -> int:
        """How many events it has, those of its children included."""
        return self.counts[-1] if self.level else len(self.times)

    def pack(self) -> bytes:
        """Return the node as bytes."""
        has_attempts = self.attempts is not self.sent
        columns = [self.times, self.sent]
        if has_attempts:
            columns.append(self.attempts)
        if self.level:
            columns += self.counts, self.children
        packed = array("q", (2 * self.level + has_attempts,))
        for column in columns:
            packed += column
        return integers_to_bytes(packed)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Return the node that `pack` has packed."""
        numbers = unpack_integers(data)
        level, has_attempts = divmod(numbers[0], 2)
        totals = 1 + has_attempts + (level > 0)
        size = (len(numbers) - 1 - totals) // (totals + 1 + (level > 0))
        end = size + 1
        times, sent = numbers[1:end], numbers[end : end + size + 1]
        end += size + 1
        attempts = sent
        if has_attempts:
            attempts = numbers[end : end + size + 1]
            end += size + 1
        if not level:
            return cls(0, times, sent, attempts)
        return cls(
            level, times, sent, attempts, numbers[end : end + size + 1], numbers[end + size + 1 :]
        )

    def replace_events(
        self,
        start: int,
        end: int,
        times: Iterable[int],
        sent: Iterable[int],
        attempts: Iterable[int] | None = None,
    ) -> Node:
        """Return a leaf with other events from `start` up to `end`.

        times, sent, attempts: when they are, and what each costs; without refused attempts, what is
        attempted is what is sent.
        """
        new_sent = _replace(self.sent, start, end, sent)
        if attempts is None:
            new_attempts = new_sent
        else:
            new_attempts = _replace(self.attempts, start, end, attempts)
        return Node(0, _spliced(self.times, start, end, times), new_sent, new_attempts)

    def insert(self, entry: int, at: int, sent: int, attempts: int) -> Node:
        """Return a leaf with another event before an entry."""
        return self.replace_events(entry, entry, [at], [sent], self._attempted(sent, attempts))

    def add(self, entry: int, sent: int, attempts: int) -> Node:
        """Return a leaf with further costs of an event."""
        sent += self.sent[entry + 1] - self.sent[entry]
        attempts += self.attempts[entry + 1] - self.attempts[entry]
        return self.replace_events(
            entry, entry + 1, [self.times[entry]], [sent], self._attempted(sent, attempts)
        )

    def _attempted(self, sent: int, attempts: int) -> list[int] | None:
        return None if self.attempts is self.sent and sent == attempts else [attempts]

    def take_out(self, cost_at: Mapping[int, int]) -> Node:
        """Return a leaf with less of the costs of some entries; one without a cost is dropped."""
        sent, attempts = _sizes(self.sent), _sizes(self.attempts)
        for entry, cost in cost_at.items():
            sent[entry] -= cost
            attempts[entry] -= cost
        left = [entry for entry in range(self.count) if attempts[entry] or entry not in cost_at]
        return self.replace_events(
            0,
            self.count,
            [self.times[entry] for entry in left],
            [sent[entry] for entry in left],
            None if self.attempts is self.sent else [attempts[entry] for entry in left],
        )

    def replace_children(self, start: int, end: int, children: Sequence[tuple[int, Node]]) -> Node:
        """Return an inner node with other children from `start` up to `end`."""
        nodes = [node for _, node in children]
        sent = attempts = _replace(self.sent, start, end, [node.sent[-1] for node in nodes])
        if any(node.attempts is not node.sent for node in (self, *nodes)):
            attempts = _replace(self.attempts, start, end, [node.attempts[-1] for node in nodes])
        return Node(
            self.level,
            _spliced(self.times, start, end, [node.times[0] for node in nodes]),
            sent,
            attempts,
            _replace(self.counts, start, end, [node.count for node in nodes]),
            _spliced(self.children, start, end, [number for number, _ in children]),
        )

    def slice(self, start: int, end: int) -> Node:
        """Return a node with the entries from `start` up to `end`."""
        sent = from_zero(self.sent[start : end + 1])
        attempts = sent
        if self.attempts is not self.sent:
            attempts = from_zero(self.attempts[start : end + 1])
        counts = from_zero(self.counts[start : end + 1]) if self.level else NO_TOTALS
        return Node(
            self.level, self.times[start:end], sent, attempts, counts, self.children[start:end]
        )


def _spliced(values: array[int], start: int, end: int, new: Iterable[int]) -> array[int]:
    changed = values[:start]
    changed.extend(new)
    return changed + values[end:]


def _replace(totals: array[int], start: int, end: int, sizes: Iterable[int]) -> array[int]:
    """Return running totals in which some sizes from `start` up to `end` are replaced."""
    changed = totals[:start]
    changed.extend(accumulate(sizes, initial=totals[start]))
    raised = changed[-1] - totals[end]
    changed.extend([total + raised for total in totals[end + 1 :]])
    return changed


def _sizes(totals: array[int]) -> list[int]:
    return [after - before for before, after in pairwise(totals)]


def from_zero(totals: array[int]) -> array[int]:
    """Return running totals that begin with 0."""
    first = totals[0]
    return array("q", [total - first for total in totals]) if first else totals


EMPTY_ROOT: Final = Node(1, array("q"), NO_TOTALS, NO_TOTALS, NO_TOTALS)

OF_ROOT: Final = -1
"""Stands for the number of the root."""

_Path = list[tuple[int, Node, int]]
"""From the root to a node above a leaf: the number of each, the node, and the entry below it."""


class EventTree:
    """The sealed events of a log, in order; the index of the first is 0.

    log: its number; it may get it later. root: the node that stands in the row of the log.
    next_number: of the next node.
    """

    __slots__ = ("_cursor", "_nodes", "_read", "_removed", "log", "next_number", "root")

    def __init__(
        self, cursor: Cursor, log: int, root: Node = EMPTY_ROOT, next_number: int = 0
    ) -> None:
        self._cursor = cursor
        self.log = log
        self.root = root
        self.next_number = next_number
        self._read: dict[int, Node] = {}
        """Nodes as they are in the file; copies share them."""
        self._nodes: dict[int, Node] = {}
        """Nodes that have changed."""
        self._removed: set[int] = set()

    def copy(self) -> EventTree:
        """Return a copy, which is never stored."""
        copy = EventTree(self._cursor, self.log, self.root, self.next_number)
        copy._read, copy._nodes = self._read, self._nodes.copy()
        return copy

    # Reading.

    def _node(self, number: int) -> Node:
        node = self._nodes.get(number) or self._read.get(number)
        if node is None:
            [data] = self._cursor.execute(
                "SELECT entries FROM log_node WHERE id=?", (self.log * NODES_OF_A_LOG + number,)
            ).fetchone()
            node = self._read[number] = Node.unpack(data)
        return node

    def time(self, index: int) -> int:
        """Return the time of an event."""
        node = self.root
        while node.level:
            entry = bisect_right(node.counts, index) - 1
            index -= node.counts[entry]
            node = self._node(node.children[entry])
        return node.times[index]

    def total_before(self, index: int, *, attempts: bool) -> int:
        """Return what was sent, or attempted, before an event; after the last for their number."""
        node, total = self.root, 0
        while node.level:
            entry = bisect_right(node.counts, index) - 1
            total += (node.attempts if attempts else node.sent)[entry]
            index -= node.counts[entry]
            if not index:
                return total
            node = self._node(node.children[entry])
        return total + (node.attempts if attempts else node.sent)[index]

    def find_time(self, bisect: Callable[[Sequence[int], int], int], moment: int) -> int:
        """Return what `bisect` of all times returns."""
        node, index = self.root, 0
        while node.level:
            entry = max(bisect(node.times, moment) - 1, 0)
            index += node.counts[entry]
            node = self._node(node.children[entry])
        return index + bisect(node.times, moment)

    def find_total(self, total: int, *, attempts: bool) -> int:
        """Return the index of the first event before which `total` or more was sent or attempted.

        One more than their number if all of them are less.
        """
        node, index = self.root, 0
        while node.level:
            totals = node.attempts if attempts else node.sent
            entry = bisect_left(totals, total) - 1
            if entry < 0:
                return index
            if entry == len(node.children):
                return index + node.count + 1
            total -= totals[entry]
            index += node.counts[entry]
            node = self._node(node.children[entry])
        return index + bisect_left(node.attempts if attempts else node.sent, total)

    def events(self, start: int, end: int) -> tuple[array[int], array[int], array[int]]:
        """Return the times of the events from `start` up to `end`, and the totals around them."""
        times = array("q")
        sent = array("q", (self.total_before(start, attempts=False),))
        attempts = array("q", (self.total_before(start, attempts=True),))
        while start < end:
            _, leaf, first = self._leaf(start)
            last = min(first + end - start, leaf.count)
            times += leaf.times[first:last]
            for column, of_leaf in ((sent, leaf.sent), (attempts, leaf.attempts)):
                raised = column[-1] - of_leaf[first]
                column.extend([total + raised for total in of_leaf[first + 1 : last + 1]])
            start += last - first
        return times, sent, attempts

    # Changing.

    def append(self, leaf: Node) -> None:
        """Add events behind all others."""
        path, number, node = self._path_above_leaves(-1)
        size = len(node.children)
        self._replace_children([*path, (number, node, size)], size, self._pieces(None, leaf))

    def insert(self, index: int, at: int, sent: int, attempts: int) -> None:
        """Insert an event before another."""
        path, leaf, entry = self._leaf(index)
        self._set_leaf(path, leaf.insert(entry, at, sent, attempts))

    def add(self, index: int, sent: int, attempts: int) -> None:
        """Add costs to an event."""
        path, leaf, entry = self._leaf(index)
        self._set_leaf(path, leaf.add(entry, sent, attempts))

    def take_out(self, cost_at: Mapping[int, int]) -> None:
        """Take out costs of events, each by the index of its event; drop events without a cost."""
        indexes = sorted(cost_at)
        while indexes:
            path, leaf, entry = self._leaf(indexes[-1])
            first = indexes[-1] - entry
            start = bisect_left(indexes, first)
            taken = {index - first: cost_at[index] for index in indexes[start:]}
            del indexes[start:]
            self._set_leaf(path, leaf.take_out(taken))

    def replace(
        self,
        start: int,
        end: int,
        times: Sequence[int],
        sent: Sequence[int],
        attempts: Sequence[int],
    ) -> None:
        """Replace the events from `start` up to `end` by others: their times and their costs."""
        path, leaf, entry = self._leaf(start)
        last = min(entry + end - start, leaf.count)
        self._set_leaf(path, leaf.replace_events(entry, last, times, sent, attempts))
        left, start = end - start - (last - entry), start + len(times)
        while left:
            path, leaf, entry = self._leaf(start)
            last = min(entry + left, leaf.count)
            nothing = None if leaf.attempts is leaf.sent else ()
            self._set_leaf(path, leaf.replace_events(entry, last, (), (), nothing))
            left -= last - entry

    def drop_first(self, index: int) -> int:
        """Drop the first leaf if its events are before `index`; return how many these were."""
        path, number, node = self._path_above_leaves(0)
        if not node.children or node.counts[1] > index:
            return 0
        self._removed.add(node.children[0])
        self._replace_children([*path, (number, node, 0)], 1, [])
        return node.counts[1]

    def _path_above_leaves(self, end: int) -> tuple[_Path, int, Node]:
        """Return the path to the first (0) or last (-1) node above leaves, its number, and it."""
        path: _Path = []
        number, node = OF_ROOT, self.root
        while node.level > 1:
            path.append((number, node, end % len(node.children)))
            number = node.children[end]
            node = self._node(number)
        return path, number, node

    def _leaf(self, index: int) -> tuple[_Path, Node, int]:
        """Return the path to the leaf of an event, the leaf, and the index in it."""
        path: _Path = []
        number, node = OF_ROOT, self.root
        while node.level:
            entry = bisect_right(node.counts, index) - 1
            path.append((number, node, entry))
            index -= node.counts[entry]
            number = node.children[entry]
            node = self._node(number)
        return path, node, index

    def _set_leaf(self, path: _Path, leaf: Node) -> None:
        _, parent, entry = path[-1]
        self._replace_children(path, entry + 1, self._pieces(parent.children[entry], leaf))

    def _replace_children(
        self, path: _Path, end: int, children: Sequence[tuple[int, Node]]
    ) -> None:
        """Replace the entries of the last node of a path, from its entry up to `end`."""
        for depth in reversed(range(len(path))):
            number, node, entry = path[depth]
            node = node.replace_children(entry, end, children)
            if depth == 0:
                self._set_root(node)
            else:
                children = self._pieces(number, node)
                end = path[depth - 1][2] + 1

    def _pieces(self, number: int | None, node: Node) -> list[tuple[int, Node]]:
        """Set a node, which may be too large or empty; return the nodes that it has become."""
        size = len(node.times)
        if not size:
            if number is not None:
                self._removed.add(number)
            return []
        pieces = -(-size // (2 * LEAF_SIZE))
        bounds = [size * i // pieces for i in range(pieces + 1)]
        nodes: list[tuple[int, Node]] = []
        for start, end in pairwise(bounds):
            piece = node if pieces == 1 else node.slice(start, end)
            if number is None:
                number = self.next_number
                self.next_number = (number + 1) % NODES_OF_A_LOG
            self._nodes[number] = piece
            nodes.append((number, piece))
            number = None
        return nodes

    def _set_root(self, root: Node) -> None:
        """Set the root; if it has too many entries, it gets a level above them."""
        if len(root.children) > MOST_IN_ROOT:
            above = Node(root.level + 1, array("q"), NO_TOTALS, NO_TOTALS, NO_TOTALS)
            # The last entries stay short, because most are added at the end.
            root = above.replace_children(0, 0, self._pieces(None, root))
        self.root = root if root.children else EMPTY_ROOT

    def store(self) -> None:
        """Store the nodes that have changed."""
        first, execute = self.log * NODES_OF_A_LOG, self._cursor.execute
        for number, node in self._nodes.items():
            if number not in self._removed:
                execute(
                    "INSERT OR REPLACE INTO log_node VALUES(?,?)", (first + number, node.pack())
                )
        for number in self._removed:
            execute("DELETE FROM log_node WHERE id=?", (first + number,))
        self._read.update(self._nodes)
        self._nodes.clear()
        self._removed.clear()
