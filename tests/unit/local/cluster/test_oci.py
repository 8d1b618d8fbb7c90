"""Images as files: the same content is the same bytes, and containerd finds what it looks for."""

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from trade2026.local.cluster.oci import ImageConfig, pack_archive, pack_layer

CONFIG = ImageConfig(entrypoint=("/run",), command=("--help",), environment=(("A", "b"),), folder="/home")


def fill(folder: Path) -> Path:
    folder.mkdir()
    (folder / "program").write_text("x")
    (folder / "program").chmod(0o755)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    (folder / "deep").mkdir()
    (folder / "deep" / "text").write_text("y")
    (folder / "link").symlink_to("deep")
    return folder


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {each.name: each for each in tar}


def read(archive: Path, digest: str) -> Any:
    with tarfile.open(archive) as tar:
        content = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
        assert content is not None
        return json.load(content)


def test_times_owners_and_the_callers_mask_change_no_byte(tmp_path: Path) -> None:
    first = fill(tmp_path / "a")
    second = fill(tmp_path / "b")
    for path in (second / "deep", second / "deep" / "text"):
        os.utime(path, (1, 1))
    (second / "deep" / "text").chmod(0o600)
    (second / "deep").chmod(0o700)
    one, two = (pack_layer(folder, "/app", tmp_path / f"{folder.name}.tar") for folder in (first, second))
    assert one.digest == two.digest == f"sha256:{hashlib.sha256(one.path.read_bytes()).hexdigest()}"
    configured = [pack_archive(tmp_path / name, "localhost/x:1", [one], CONFIG) for name in ("1.tar", "2.tar")]
    assert configured[0] == configured[1]
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_a_layer_lies_where_it_is_told_with_modes_that_count(tmp_path: Path) -> None:
    found = members(pack_layer(fill(tmp_path / "a"), "/usr/lib", tmp_path / "a.tar").path)
    assert list(found)[:2] == ["usr", "usr/lib"]
    assert found["usr/lib/program"].mode == 0o755
    assert found["usr/lib/deep/text"].mode == 0o644
    assert found["usr/lib/tmp"].mode == 0o1777
    assert (found["usr/lib/link"].issym(), found["usr/lib/link"].linkname) == (True, "deep")
    assert {(each.uid, each.gid, each.mtime) for each in found.values()} == {(0, 0, 0)}


def test_an_archive_names_the_image_and_says_how_it_starts(tmp_path: Path) -> None:
    layer = pack_layer(fill(tmp_path / "a"), "/", tmp_path / "a.tar")
    digest = pack_archive(tmp_path / "out.tar", "localhost/x:1", [layer, layer], CONFIG)
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = tar.getnames()
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert len(names) == len(set(names)), "the same layer twice is one file"
    (listed,) = index["manifests"]
    assert listed["digest"] == digest
    assert listed["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    assert listed["annotations"]["org.opencontainers.image.ref.name"] == "1"
    manifest = read(tmp_path / "out.tar", digest)
    assert [each["size"] for each in manifest["layers"]] == [layer.path.stat().st_size] * 2
    config = read(tmp_path / "out.tar", manifest["config"]["digest"])
    assert config["rootfs"]["diff_ids"] == [layer.digest] * 2
    assert config["config"] == {
        "Entrypoint": ["/run"],
        "Cmd": ["--help"],
        "Env": ["A=b"],
        "WorkingDir": "/home",
        "User": "65532:65532",
        "Labels": {},
    }


def test_a_layer_that_the_reader_has_is_named_and_not_packed(tmp_path: Path) -> None:
    layer = pack_layer(fill(tmp_path / "a"), "/", tmp_path / "a.tar")
    whole = pack_archive(tmp_path / "whole.tar", "localhost/x:1", [layer], CONFIG)
    assert pack_archive(tmp_path / "part.tar", "localhost/x:1", [layer], CONFIG, {layer.digest}) == whole
    missing = set(members(tmp_path / "whole.tar")) - set(members(tmp_path / "part.tar"))
    assert missing == {f"blobs/{layer.digest.replace(':', '/')}"}
