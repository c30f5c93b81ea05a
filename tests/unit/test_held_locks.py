"""No exception leaves a lock held: also none that a signal handler raises where a loop jumps back.

Python 3.13.0 has jumps outside of the `with` or `try` block in which they stand, so an exception
there does not run the end of the block. Signals are handled where a loop jumps back.
"""

from __future__ import annotations

import ast
import dis
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import ratelimit_mail

SOURCE = Path(ratelimit_mail.__file__).parent

LOCKS = ("lock", "sending", "condition", "semaphore", "slots")
"""How the names of locks end."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def blocks_with_a_lock(
    node: ast.AST, function: Function | None = None
) -> Iterator[tuple[Function, range]]:
    """Yield each function with the lines of each block in it that holds a lock."""
    body: list[ast.stmt] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = node
    elif isinstance(node, ast.With | ast.AsyncWith):
        if any(ast.unparse(each.context_expr).lower().endswith(LOCKS) for each in node.items):
            body = node.body
    elif isinstance(node, ast.Try) and any("release()" in ast.unparse(x) for x in node.finalbody):
        body = node.body
    if body and function is not None:
        yield function, range(body[0].lineno, (body[-1].end_lineno or 0) + 1)
    for child in ast.iter_child_nodes(node):
        yield from blocks_with_a_lock(child, function)


def codes_in(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from codes_in(each)


def unguarded_jumps(text: str) -> tuple[int, list[tuple[str, int]]]:
    """Return how many blocks hold a lock, and the function and line of each jump outside of one."""
    blocks = [*blocks_with_a_lock(ast.parse(text))]
    codes = {
        (code.co_name, code.co_firstlineno): code
        for code in codes_in(compile(text, "source", "exec"))
    }
    jumps = []
    for function, lines in blocks:
        first = min(each.lineno for each in (function, *function.decorator_list))
        code = codes[function.name, first]
        entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]
        for each in dis.get_instructions(code):
            line = each.positions.lineno if each.positions else None
            if (
                each.opname == "JUMP_BACKWARD"
                and line in lines
                and not any(entry.start <= each.offset < entry.end for entry in entries)
            ):
                jumps.append((function.name, line or 0))
    return len(blocks), jumps


def test_no_loop_leaves_a_lock_held_where_it_jumps_back() -> None:
    number, found = 0, {}
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "lock" not in text.lower():
            continue
        blocks, jumps = unguarded_jumps(text)
        number += blocks
        if jumps:
            found[path.relative_to(SOURCE).as_posix()] = jumps
    assert found == {}
    assert number > 70


@pytest.mark.skipif(sys.version_info[:3] != (3, 13, 0), reason="it has the mistake")
def test_a_jump_outside_of_its_block_is_found() -> None:
    text = (
        "def count(lock, values):\n    with lock:\n        for each in values:\n"
        "            if each:\n                each()\n    return 1\n"
    )
    assert unguarded_jumps(text) == (1, [("count", 4)])
