"""Which files a stream reads: a file, a glob, a folder, or a folder that Atlas wrote.

- A file or a glob is taken as written, whatever the files' endings; hidden files need a literal dot.
- A folder means every file of the format below it, at any depth, but none whose name, or whose folder's
  name, begins with a dot or an underscore.
- A folder that Atlas wrote means the files that its manifest names, in the types that it names; and a file
  that Atlas wrote is never read, by a glob neither, unless the manifest beside it names it.
- In a connection whose path is a folder, each file directly in it and each folder in it is a stream of its
  own, named by its stem: that is what `table: orders` means, and what is read where a definition names no
  streams.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence

from msgspec import Struct

from atlas_etl.connectors.files._codec import uncompressed_name
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._folder import escaped, read_manifest
from atlas_etl.connectors.files._format import Format
from atlas_etl.connectors.files._manifest import Manifest
from atlas_etl.connectors.files._parts import is_own_name
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.errors import ConfigError, DestinationError, SourceError, nearest
from atlas_etl.model import Stream

_WILD = re.compile(r"[*?\[].*$", re.DOTALL)


class Selection(Struct, frozen=True):
    """The files of one stream as they were when it was opened."""

    path: str  # as the stream or the connection names it
    files: tuple[StoredFile, ...]
    manifest: Manifest | None = None

    @property
    def written_folders(self) -> frozenset[str]:
        """Those of the files' folders that Atlas writes."""
        split = (file.path.rpartition("/") for file in self.files)
        return frozenset(folder for folder, _, name in split if is_own_name(name))

    @property
    def partitions(self) -> tuple[str, ...]:
        """What folders that were found, and not named in `path`, give values to: `year` in `year=2026/`."""
        named = _WILD.sub("", self.path).split("/")
        folders = {part for file in self.files for part in os.path.dirname(file.path).split("/")}
        pairs = (part.partition("=") for part in sorted(folders.difference(named)))
        return tuple(dict.fromkeys(name for name, equals, _ in pairs if name and equals))


def select(store: Store, form: Format, root: str, stream: Stream) -> Selection:
    """The files of a stream of a connection whose path is `root`.

    Raises ConfigError for a query, SourceError (`file_not_found`, `table_not_found`, `read_failed`,
    `link_leaves_folder`).
    """
    if stream.query is not None:
        raise ConfigError(
            "files have no query language",
            hint="set `path`, or load the files and query the destination",
            code="no_query",
            stream=stream.name,
        )
    base = base_folder(store, root)
    if stream.table is not None:
        path = _group_path(store, form, root, stream)
    else:
        path = root if stream.path is None else os.path.join(base, stream.path)
    pattern = path if stream.path is None else os.path.join(escaped(base), stream.path)
    within = base if stream.path is None else os.path.join(base, os.path.dirname(_WILD.sub("", stream.path)))
    with reading(path):
        found = _files(store, form, path, pattern, within)
    if not found.files and found.manifest is None:
        raise SourceError(
            f"there is no {form.protocol} file at {path}",
            hint=_nearby(store, path)
            or "check `path`; a folder is searched for files that end in " + " or ".join(form.endings),
            code="file_not_found",
            stream=stream.name,
        )
    return found


def groups(store: Store, form: Format, root: str) -> dict[str, str]:
    """The streams that a connection offers, by name: the path of each."""
    if not store.is_folder(root) or _manifest(store, root) is not None:
        return {stream_name(root): root}
    found: dict[str, str] = {}
    with reading(root):
        here = [f for f in store.find(f"{escaped(root)}/*") if _is_data(os.path.basename(f.path), form)]
        entries = [f.path for f in _staying(store, here, root)]
        folders = [f"{root}/{name}" for name in store.folders(root)]
        entries += [folder for folder in folders if _files(store, form, folder, folder, folder).files]
    for path in sorted(entries):
        name = stream_name(path)
        found[name if name not in found else os.path.basename(path)] = path
    return found


def stream_name(path: str) -> str:
    """`data/orders-*.csv.gz` is `orders`; where the file is all wildcard, the folder names the stream."""
    for index, part in enumerate(reversed(path.split("/"))):
        stem = os.path.splitext(uncompressed_name(part))[0] if index == 0 else part
        name = _WILD.sub("", part[: len(stem)]).strip("-_. ")
        if name:
            return name
    return "files"


def base_folder(store: Store, root: str) -> str:
    """Where the paths of streams begin: the connection's folder, or that of its file or glob."""
    if store.is_folder(root):
        return root
    return os.path.dirname(_WILD.sub("", root)) if store.stat(root) is None else os.path.dirname(root)


def _files(store: Store, form: Format, path: str, pattern: str, within: str) -> Selection:
    """The files at a path; the pattern is the same as a glob, for where there is nothing of that name.

    `within` is the folder that the glob names without its wildcards.
    """
    if store.is_folder(path):
        manifest = _manifest(store, path)
        if manifest is not None:
            live = (store.stat(f"{path}/{file.name}") for file in manifest.files)
            return Selection(path, tuple(file for file in live if file is not None), manifest)
        below = store.find(f"{escaped(path)}/**/*")
        data = [file for file in below if _is_data(os.path.relpath(file.path, path), form)]
        return Selection(path, _committed(store, _staying(store, data, path)))
    single = store.stat(path)
    if single is not None:
        return Selection(path, (single,))
    found = store.find(pattern) if glob.has_magic(pattern) else []
    return Selection(path, _committed(store, _staying(store, found, within)))


def _staying(store: Store, files: Sequence[StoredFile], folder: str) -> Sequence[StoredFile]:
    """The files, none of which a link brings from elsewhere. Raises SourceError (`link_leaves_folder`)."""
    for file in files:
        if store.leaves(file.path, folder):
            raise SourceError(
                f"{file.path} is reached by a link that leads out of {folder}",
                hint="name the file by itself in `path`, or set `follow_links: true` in the connection, where"
                " you trust whoever writes into the folder",
                code="link_leaves_folder",
            )
    return files


def _committed(store: Store, files: Sequence[StoredFile]) -> tuple[StoredFile, ...]:
    """The files without those that Atlas wrote and no manifest names."""
    live: dict[str, set[str]] = {}
    kept: list[StoredFile] = []
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if is_own_name(name):
            if folder not in live:
                manifest = _manifest(store, folder)
                live[folder] = {data.name for data in manifest.files} if manifest else set()
            if name not in live[folder]:
                continue
        kept.append(file)
    return tuple(kept)


def _manifest(store: Store, path: str) -> Manifest | None:
    """The manifest of a folder that is read, or None. Raises SourceError (`corrupt_manifest`)."""
    try:
        return read_manifest(store, path)
    except DestinationError as failure:
        raise SourceError(failure.message, hint=failure.hint, code=failure.code) from failure


def _is_data(relative: str, form: Format) -> bool:
    """Whether a file below a folder is of the format, and neither it nor a folder above is hidden."""
    visible = not any(part.startswith((".", "_")) for part in relative.split("/"))
    return visible and uncompressed_name(relative).endswith(form.endings)


def _group_path(store: Store, form: Format, root: str, stream: Stream) -> str:
    offered = groups(store, form, root)
    if stream.table not in offered:
        raise SourceError(
            f"there is no file or folder {stream.table!r} in {root}",
            hint=nearest(stream.table or "", offered) or "`atlas connector discover` lists what can be read",
            code="table_not_found",
            stream=stream.name,
        )
    return offered[stream.table]


def _nearby(store: Store, path: str) -> str | None:
    folder = os.path.dirname(path)
    if not store.is_folder(folder):
        return None
    names: Sequence[str] = [os.path.basename(file.path) for file in store.find(f"{escaped(folder)}/*")]
    return nearest(os.path.basename(path), names)
