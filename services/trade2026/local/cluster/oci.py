"""Images as files: folders packed as an OCI archive, without Docker and without a registry.

The same files give the same bytes, hence the same digest: names are sorted, owners and times are 0, and of a file's
mode only counts whether it may be run.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER = 65532
"""The user of images that need no root, as distroless images have it."""
_MEDIA = "application/vnd.oci.image"


@dataclass(frozen=True)
class Layer:
    """A layer of an image: a tar that is not compressed, and its digest."""

    path: Path
    digest: str


@dataclass(frozen=True)
class ImageConfig:
    """How a container of an image is started."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    folder: str = "/"
    user: str = f"{USER}:{USER}"
    labels: tuple[tuple[str, str], ...] = ()


def pack_layer(folder: Path, prefix: str, out: Path) -> Layer:
    """Pack what lies in a folder.

    Args:
        prefix: Where it lies in the image.
    """
    inside = prefix.strip("/")
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as tar:
        parts = inside.split("/") if inside else []
        for count in range(len(parts)):
            tar.addfile(_folder_entry("/".join(parts[: count + 1])))
        for path in sorted(folder.rglob("*")):
            _add(tar, path, "/".join((*parts, path.relative_to(folder).as_posix())))
    return read_layer(out)


def read_layer(path: Path) -> Layer:
    """A layer that was packed before."""
    with path.open("rb") as file:
        return Layer(path, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def _folder_entry(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode):
        entry = _folder_entry(name)
        entry.mode |= 0o1022 if found.st_mode & stat.S_ISVTX else 0  # /tmp
        tar.addfile(entry)
        return
    entry = tarfile.TarInfo(name)
    if stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
        tar.addfile(entry)
        return
    entry.size, entry.mode = found.st_size, 0o755 if found.st_mode & 0o111 else 0o644
    with path.open("rb") as content:
        tar.addfile(entry, content)


def pack_archive(
    out: Path, name: str, layers: Sequence[Layer], config: ImageConfig, without: Container[str] = ()
) -> str:
    """Write an image as an archive that `ctr images import`, `kind load image-archive` and `docker load` read.

    Args:
        name: Of the image, with its tag.
        without: Digests of layers that whoever reads the archive has already.

    Returns:
        The digest of the image's manifest.
    """
    document = _bytes(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(config.entrypoint),
                "Cmd": list(config.command),
                "Env": [f"{key}={value}" for key, value in config.environment],
                "WorkingDir": config.folder,
                "User": config.user,
                "Labels": dict(config.labels),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    manifest = _bytes(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _descriptor("config.v1+json", _digest(document), len(document)),
            "layers": [_descriptor("layer.v1.tar", each.digest, each.path.stat().st_size) for each in layers],
        }
    )
    # containerd names the image after the first annotation, Docker after the second.
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    listed = _descriptor("manifest.v1+json", _digest(manifest), len(manifest)) | {"annotations": names}
    part = out.with_name(f"{out.name}.part")
    with tarfile.open(part, "w") as archive:
        _put(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _put(archive, "index.json", _bytes({"schemaVersion": 2, "manifests": [listed]}))
        for blob in (manifest, document):
            _put(archive, _place(_digest(blob)), blob)
        for layer in {layer.digest: layer for layer in layers if layer.digest not in without}.values():
            entry = tarfile.TarInfo(_place(layer.digest))
            entry.size = layer.path.stat().st_size
            with layer.path.open("rb") as content:
                archive.addfile(entry, content)
    part.replace(out)
    return _digest(manifest)


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": f"{_MEDIA}.{kind}", "digest": digest, "size": size}


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
