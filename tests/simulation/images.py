"""Images as the simulated world keeps them: names, and files that are all empty."""

from __future__ import annotations

import os
from typing import Final

from kevel.storage.image_files import WrittenBytes

#: The effects by what is called; as the failpoints name them.
EFFECTS: Final = {"make_part": "make_part", "take_written": "take_written", "remove_file": "remove_image"}


class SimImages:
    """`kevel.storage.image_files.ImageFiles`, as far as the worker of images calls it, in memory."""

    def __init__(self) -> None:
        #: The ground truth: names of files, whole or partly written.
        self.kept: set[str] = set()

    def name_file(self, fresh_id: str) -> str:
        return f"images/{fresh_id}"

    def file_path(self, name: str) -> str:
        return os.devnull

    def make_part(self, name: str) -> str:
        self.kept.add(name)
        return f"/{name}.part"

    def take_written(self, name: str) -> WrittenBytes:
        assert name in self.kept, f"nothing was written for {name}"
        return WrittenBytes(size_bytes=0, md5="", sha512="", head=b"")

    def remove_file(self, name: str) -> None:
        self.kept.discard(name)
