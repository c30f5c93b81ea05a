"""Read the files that a letter attaches: from permitted folders alone, and of bounded size."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

from ratelimit_mail._util.text import show

__all__ = ["LARGEST", "Attachment", "AttachmentFolder"]

LARGEST: Final = 25 << 20
"""In bytes, of all attachments of a letter."""

Folder = str | os.PathLike[str]


@attrs.frozen
class Attachment:
    """A file that was read. written: its name as the letter has it. name: without folders."""

    written: str
    name: str
    content: bytes = attrs.field(repr=False)

    @property
    def media_type(self) -> tuple[str, str]:
        """The type and the subtype, by the end of the name."""
        guess, encoding = mimetypes.guess_type(self.name)
        if guess is None or encoding is not None:
            return "application", "octet-stream"
        maintype, _, subtype = guess.partition("/")
        return maintype, subtype


class AttachmentFolder:
    """The folders that attachments may be in.

    folder: where names are sought first. also: further folders.
    largest: the most bytes that all attachments of one letter may have.
    """

    def __init__(
        self, folder: Folder | None, also: Iterable[Folder] = (), largest: int = LARGEST
    ) -> None:
        folders = [*([] if folder is None else [folder]), *also]
        self._folders = [Path(each).resolve() for each in folders]
        self._largest = largest

    def read(self, names: Iterable[str]) -> list[Attachment]:
        """Return the files of these names.

        Raises ValueError for a file that is missing, is not in a permitted folder (symbolic links
        are followed first), is not a regular file, or makes the letter too large.
        """
        attachments: list[Attachment] = []
        left = self._largest
        for name in names:
            content = self._content(name, left)
            left -= len(content)
            attachments.append(Attachment(name, Path(name).name, content))
        return attachments

    def _content(self, name: str, left: int) -> bytes:
        if not name.isprintable():
            raise ValueError(f"attachment: {show(name)} is not the name of a file")
        path = self._path(name)
        try:
            # Without O_NONBLOCK, opening a pipe would wait for a writer.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(path, flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ValueError(f"attachment: {show(name)} is not a file")
                content = file.read(left + 1)
        except OSError as error:
            raise ValueError(f"attachment: {show(name)}: {error.strerror or error}") from None
        if len(content) > left:
            raise ValueError(
                f"attachment: with {show(name)}, the letter's attachments are larger than"
                f" {self._largest / (1 << 20):.3g} MiB"
            )
        return content

    def _path(self, name: str) -> Path:
        outside = False
        for folder in self._folders:
            try:
                path = (folder / name).resolve(strict=True)
            except (OSError, RuntimeError, ValueError):
                continue
            if any(path.is_relative_to(each) for each in self._folders):
                return path
            outside = True
        if outside:
            raise ValueError(
                f"attachment: {show(name)} is outside the folder of the CSV file; permit the"
                " folder that it is in (--attach-from, or AttachmentFolder(also=))"
            )
        raise ValueError(f"attachment: there is no file {show(name)}")
