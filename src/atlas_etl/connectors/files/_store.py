"""Where files are: the few operations that a store needs, and the local file system as the first store."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.files._glob import matching
from atlas_etl.errors import LockedError

_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
_GROUPS_FILE_MODE, _GROUPS_FOLDER_MODE = 0o640, 0o750


class StoredFile(Struct, frozen=True):
    """A file as a listing shows it; `version` changes whenever the file does."""

    path: str
    size: int
    # Of local files: modified at (nanoseconds), inode, and status changed at, which nobody can set.
    version: tuple[int, ...]


class NewFile(Protocol):
    """A file being written."""

    @property
    def sink(self) -> BinaryIO:
        """Where its bytes go; may be closed by who writes."""

    def keep(self) -> int:
        """Close it and make its bytes last; gives back how many. Where that fails, it is dropped."""

    def drop(self) -> None:
        """Close and delete it, instead of keeping it; never raises OSError."""


class Store(Protocol):
    """A tree of files. Paths are absolute text; every method raises OSError where it fails."""

    def is_folder(self, path: str) -> bool: ...

    def stat(self, path: str) -> StoredFile | None:
        """The file at this path, or None: a folder, a pipe or a device is no file."""

    def leaves(self, path: str, folder: str) -> bool:
        """Whether links lead from a path below a folder out of it, where they are not to be followed."""

    def find(self, pattern: str) -> list[StoredFile]:
        """The files that match a glob (`*`, `?`, `[a-z]`, `**`), by path; hidden ones need a literal dot.

        One that is also reached by links is found once, without them where it can be.
        """

    def folders(self, path: str) -> list[str]:
        """The visible folders directly in a folder, by name."""

    def open(self, path: str) -> pa.NativeFile:
        """Read from anywhere in a file."""

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, where they are missing, to last."""

    def create(self, path: str) -> NewFile:
        """Begin a file that is not there yet."""

    def rename(self, path: str, to: str) -> None:
        """Give a file another name in the same folder, at once, in place of a file that has it."""

    def settle(self, folder: str) -> None:
        """Make the names in a folder last."""

    def delete(self, path: str) -> None:
        """Remove a file, where it is there."""

    def lock(self, path: str) -> AbstractContextManager[None]:
        """Hold a lock that ends with the process at the latest. Raises LockedError where it is held."""


class LocalNewFile:
    """A file being written (NewFile)."""

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        if stat.S_IMODE(os.fstat(self._descriptor).st_mode) != mode:  # whatever the umask
            os.fchmod(self._descriptor, mode)
        # Arrow's compressing streams close what they write to, so syncing needs a descriptor of its own.
        self.sink: BinaryIO = os.fdopen(os.dup(self._descriptor), "wb")

    def keep(self) -> int:
        try:
            self.sink.close()
            os.fsync(self._descriptor)
            size = os.fstat(self._descriptor).st_size
        except BaseException:
            self.drop()
            raise
        os.close(self._descriptor)
        return size

    def drop(self) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        for step in (self.sink.close, lambda: os.close(descriptor), lambda: os.unlink(self._path)):
            with suppress(OSError):
                step()


class LocalStore:
    """The local file system, and what is mounted into it."""

    def __init__(self, *, follow_links: bool = False, group_readable: bool = False) -> None:
        self._follow_links = follow_links
        self._file_mode = _GROUPS_FILE_MODE if group_readable else _FILE_MODE
        self._folder_mode = _GROUPS_FOLDER_MODE if group_readable else _FOLDER_MODE

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def stat(self, path: str) -> StoredFile | None:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return StoredFile(path, found.st_size, (found.st_mtime_ns, found.st_ino, found.st_ctime_ns))

    def leaves(self, path: str, folder: str) -> bool:
        if self._follow_links:
            return False
        return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))

    def find(self, pattern: str) -> list[StoredFile]:
        found: dict[str, str] = {}
        for path in sorted(matching(pattern), key=lambda path: (_links(path), path)):
            found.setdefault(os.path.realpath(path), path)
        return [file for file in map(self.stat, sorted(found.values())) if file is not None]

    def folders(self, path: str) -> list[str]:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith((".", "_")))

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(os.fsencode(path), "rb")

    def make_folder(self, path: str) -> None:
        missing = [folder for folder in (Path(path), *Path(path).parents) if not folder.is_dir()]
        for folder in reversed(missing):
            folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            if stat.S_IMODE(folder.stat().st_mode) != self._folder_mode:
                folder.chmod(self._folder_mode)
            self.settle(str(folder.parent))

    def create(self, path: str) -> LocalNewFile:
        return LocalNewFile(path, self._file_mode)

    def rename(self, path: str, to: str) -> None:
        os.replace(path, to)

    def settle(self, folder: str) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as failure:
                if failure.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                raise LockedError(
                    f"another process is writing in {os.path.dirname(path)}",
                    hint="wait for it to end; the lock ends with its process",
                    retryable=True,
                ) from failure
            yield
        finally:
            os.close(descriptor)


def _links(path: str) -> int:
    """How many links a path goes by."""
    return sum(each.is_symlink() for each in (Path(path), *Path(path).parents))
