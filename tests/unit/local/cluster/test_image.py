"""The image's layout is that of the Dockerfile, and its layers are made once."""

import re
from pathlib import Path

import pytest

from trade2026.local.cluster import image
from trade2026.local.cluster.place import ClusterError

ROOT = Path(__file__).parents[4]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instruction(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [" ".join(found.split()) for found in re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)]


def test_the_dockerfile_makes_the_same_layout() -> None:
    quoted = ", ".join(f'"{word}"' for word in image.CONFIG.entrypoint)
    assert instruction("ENTRYPOINT") == [f"[{quoted}]"]
    assert instruction("CMD") == ['["--help"]']
    assert instruction("USER") == [image.CONFIG.user]
    assert instruction("WORKDIR")[-1] == image.CONFIG.folder
    assert instruction("ENV")[-1].split() == [f"{name}={value}" for name, value in image.CONFIG.environment]
    copied = [line.split()[-1].rstrip("/") for line in instruction("COPY --from=build")]
    assert copied == [image.PACKAGES_FOLDER] * 2
    assert [line.split()[-1] for line in instruction("COPY --from=helm")] == [image.HELM]


def test_the_dockerfile_installs_the_same_requirements() -> None:
    installed = re.findall(r"-r requirements/(\w+)\.txt", DOCKERFILE)
    assert [path.stem for path in image.requirement_files()] == [name for name in installed if name != "build"]
    assert [path.parent for path in image.requirement_files()] == [ROOT / "requirements"] * len(
        image.requirement_files()
    )


def test_without_locked_requirements_it_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "FILES", tmp_path / "services" / "trade2026" / "local" / "cluster")
    with pytest.raises(ClusterError, match="has no locked requirements"):
        image.requirement_files()


def test_without_apt_it_names_the_other_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TRADE2026_CACHE", str(tmp_path))
    with pytest.raises(ClusterError, match="build the image by the Dockerfile"):
        image.build(tmp_path / "out.tar", print)


def test_a_layer_is_made_once_for_a_key_and_old_ones_go(tmp_path: Path) -> None:
    made: list[Path] = []

    def fill(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text(str(len(made)))

    first = image._cached(tmp_path, "base", "a" * 64, fill, "/", print)
    assert image._cached(tmp_path, "base", "a" * 64, fill, "/", print) == first
    assert len(made) == 1
    for key in "bcd":
        image._cached(tmp_path, "base", key * 64, fill, "/", print)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failing_program_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="the image can't be made: no luck"):
        image._ran(["sh", "-c", "echo no luck >&2; exit 3"], tmp_path)


def test_the_platforms_layer_holds_its_files_and_no_caches(tmp_path: Path) -> None:
    image._copy_platform(tmp_path / "out")
    assert (tmp_path / "out" / "trade2026" / "__main__.py").exists()
    assert (tmp_path / "out" / "trade2026" / "gateway" / "data").is_dir()
    assert not list((tmp_path / "out").rglob("__pycache__"))
