"""The platform's image without Docker: what the `Dockerfile` makes, from Debian's Python, the locked wheels and us.

Four layers, so that a change of our code makes the last one anew only: Python and the libraries it needs, no shell and
no package manager; Helm, with which the operator renders; the dependencies, checked against their hashes; the platform.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from trade2026 import __version__
from trade2026.local.cluster.binaries import Report, programs
from trade2026.local.cluster.oci import USER, ImageConfig, Layer, pack_archive, pack_layer, read_layer
from trade2026.local.cluster.place import FILES, ClusterError
from trade2026.local.infra.artefacts import cache_folder

NAME = f"localhost/trade2026:{__version__}"
"""What the image is called where nobody names it; `localhost` keeps everybody from looking for it elsewhere."""
PYTHON = "3.11"
"""Of Debian 12, as distroless images have it."""
PACKAGES_FOLDER = f"/usr/local/lib/python{PYTHON}/dist-packages"
"""Where dependencies and platform lie in the image; Debian's Python looks there by itself."""
HELM = "/usr/bin/helm"
HOME = "/home/nonroot"
EXTRAS = ("data", "operator")
"""What a service may need in a cluster: the locked requirements of these extras, of those that there are."""
PACKAGES = ("trade2026", "trade2026_operator")
"""What the last layer holds, of what is installed here."""
CONFIG = ImageConfig(
    entrypoint=(f"/usr/bin/python{PYTHON}", "-m", "trade2026"),
    command=("--help",),
    environment=(
        ("PATH", "/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ),
    folder=HOME,
    labels=(
        ("org.opencontainers.image.title", "trade2026"),
        ("org.opencontainers.image.version", __version__),
        ("org.opencontainers.image.licenses", "Apache-2.0"),
    ),
)

_DEBIAN = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libssl3", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libsqlite3-0", "libuuid1", "libcrypt1", "libnsl2", "libtirpc3", "ca-certificates", "tzdata"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
)
_NOT_NEEDED = (
    *(f"usr/share/{name}" for name in ("doc", "man", "lintian", "bash-completion", "bug", "perl5", "binfmts")),
    *("usr/share/ca-certificates", "usr/share/zoneinfo/right", "usr/share/zoneinfo/posix"),
    *("usr/lib/x86_64-linux-gnu/gconv", "usr/bin/ld.so", "usr/sbin/update-ca-certificates"),
    *(f"usr/lib/python{PYTHON}/{name}" for name in ("lib2to3", "idlelib", "pydoc_data", "ensurepip", "turtledemo")),
)
_ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:{HOME}:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_SECONDS_MAX = 900
_KEPT = 2
"""How many of each kind of layer the cache holds; an older one is removed."""


def build(
    out: Path, report: Report, name: str = NAME, without: Collection[str] = (), version: str = __version__
) -> str:
    """Write the platform's image as an archive.

    Args:
        name: Of the image, with its tag.
        without: Digests of layers that whoever reads the archive has already.
        version: That the platform in it says it has, so that an upgrade can be tried with one source tree.

    Returns:
        The digest of its manifest.

    Raises:
        ClusterError: something that it is made of can't be fetched.
    """
    cache = cache_folder() / "image"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock, tempfile.TemporaryDirectory(dir=cache, prefix=".platform-") as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = _cached(cache, "base", _base_key(), _base_root, "/", report)
        root = _unpacked(base, Path(work) / "base")
        helm = _helm(cache, report)
        requirements = requirement_files()

        def dependencies(folder: Path) -> None:
            _install(requirements, folder)
            _compile(root, folder, PACKAGES_FOLDER)

        key = hashlib.sha256(b"".join(path.read_bytes() for path in requirements) + base.digest.encode()).hexdigest()
        locked = _cached(cache, "dependencies", key, dependencies, PACKAGES_FOLDER, report)
        ours = Path(work) / "ours"
        _copy_platform(ours)
        _stamp(ours, version)
        _compile(root, ours, PACKAGES_FOLDER)
        platform = pack_layer(ours, PACKAGES_FOLDER, Path(work) / "platform.tar")
        # Ours is small, and nothing holds it in the cluster after the next one came: it is always there.
        there = {base.digest, helm.digest, locked.digest} & set(without)
        return pack_archive(out, name, [base, helm, locked, platform], _config(version), there)


def _helm(cache: Path, report: Report) -> Layer:
    """Helm as it was built for this machine's clusters: one version renders on both sides."""
    built = programs(report)

    def fill(folder: Path) -> None:
        shutil.copy2(built / "helm", folder / "helm")

    return _cached(cache, "helm", hashlib.sha256(built.name.encode()).hexdigest(), fill, str(Path(HELM).parent), report)


def requirement_files() -> list[Path]:
    """The locked requirements of the extras: of the source tree, or of the wheel that holds a copy.

    Raises:
        ClusterError: neither has any.
    """
    tree = FILES.parents[3] / "requirements"
    for folder in (tree, FILES / "requirements"):
        if found := [path for extra in EXTRAS if (path := folder / f"{extra}.txt").exists()]:
            return found
    raise ClusterError(
        f"{tree} has no locked requirements: build the image from the source tree, or from a wheel of it"
    )


_WHAT = {"base": "the Python", "helm": "Helm", "dependencies": "the dependencies"}


def _cached(
    cache: Path, kind: str, key: str, fill: Callable[[Path], None], prefix: str, report: Report
) -> Layer:  # fmt: skip
    """A layer that is made once for a key."""
    path = cache / f"{kind}-{key[:16]}.tar"
    if path.exists():
        path.touch()
        return read_layer(path)
    report(f"making the layer with {_WHAT.get(kind, kind)} of the image, once")
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{kind}-") as work:
        folder = Path(work) / "root"
        folder.mkdir()
        fill(folder)
        made = pack_layer(folder, prefix, Path(work) / "layer.tar")
        made.path.rename(path)
    for old in sorted(cache.glob(f"{kind}-*.tar"), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
        old.unlink()
    return Layer(path, made.digest)


def _base_key() -> str:
    """Changes with every package that Debian changes."""
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        raise ClusterError(
            "apt, which brings the Python of the image, is missing: build the image by the Dockerfile, "
            "and load it with `trade2026 cluster load IMAGE.tar`"
        )
    said = _ran([*_APT, "--print-uris", "download", *_DEBIAN], Path("/"))
    files = sorted(" ".join(line.split()[1:]) for line in said.splitlines() if line.startswith("'"))
    return hashlib.sha256("\n".join((*files, *_NOT_NEEDED, *_ACCOUNTS.values())).encode()).hexdigest()


_APT = ("apt-get", "--quiet=2", "-o", "APT::Sandbox::User=root")


def _base_root(root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent) as work:
        _ran([*_APT, "download", *_DEBIAN], Path(work))
        for folder in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / folder).mkdir(parents=True)
            (root / folder).symlink_to(f"usr/{folder}")
        for package in sorted(Path(work).glob("*.deb")):
            # By way of tar, which follows the links above; dpkg-deb would put folders in their place.
            _ran(["dpkg-deb", "--fsys-tarfile", str(package)], Path(work), out=Path(work) / "files.tar")
            _ran(["tar", "-xf", "files.tar", "-C", str(root), "--keep-directory-symlink"], Path(work))
    for folder in ("tmp", "proc", "sys", "dev", "run", "var/tmp", "etc/ssl/certs", HOME.lstrip("/")):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).chmod(0o1777)
    (root / "usr" / "bin" / "python3").symlink_to(f"python{PYTHON}")
    (root / "usr" / "bin" / "python").symlink_to(f"python{PYTHON}")
    authorities = sorted((root / "usr" / "share" / "ca-certificates" / "mozilla").glob("*.crt"))
    (root / "etc" / "ssl" / "certs" / "ca-certificates.crt").write_bytes(b"".join(a.read_bytes() for a in authorities))
    for name, text in _ACCOUNTS.items():
        (root / name).write_text(text)
    for name in _NOT_NEEDED:
        path = root / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    _compile(root, root / f"usr/lib/python{PYTHON}", f"/usr/lib/python{PYTHON}")


def _unpacked(layer: Layer, folder: Path) -> Path:
    folder.mkdir()
    _ran(["tar", "-xf", str(layer.path), "-C", str(folder)], folder)
    return folder


def _install(requirements: Sequence[Path], folder: Path) -> None:
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-conflicts"),
        *("--root-user-action=ignore", "--no-compile", "--no-deps", "--require-hashes", "--only-binary=:all:"),
        *("--implementation=cp", f"--python-version={PYTHON}"),
        *(f"--platform={platform}" for platform in _PLATFORMS),
        f"--target={folder}",
    ]
    for path in requirements:
        command += ["--requirement", str(path)]
    _ran(command, folder)
    shutil.rmtree(folder / "bin", ignore_errors=True)  # the scripts name the Python of this machine


def _copy_platform(folder: Path) -> None:
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            shutil.copytree(
                found.submodule_search_locations[0], folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )


def _stamp(folder: Path, version: str) -> None:
    """Say another version than that of the source tree."""
    place = folder / "trade2026" / "__init__.py"
    said, own = place.read_text(), f'__version__ = "{__version__}"'
    assert own in said, f"{place} does not say its version as it is looked for: {own}"
    place.write_text(said.replace(own, f'__version__ = "{version}"'))


def _config(version: str) -> ImageConfig:
    labels = {**dict(CONFIG.labels), "org.opencontainers.image.version": version}
    return replace(CONFIG, labels=tuple(labels.items()))


def _compile(root: Path, folder: Path, shown: str) -> None:
    """Compile modules with the Python of the image: a program starts three times as fast.

    They are not compared with their sources, whose times the image does not keep. A fixed seed makes the same bytes.
    """
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    _ran(
        [
            *(str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
            *(str(root / "usr" / "bin" / f"python{PYTHON}"), "-m", "compileall", "-q"),
            *("--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", shown, str(folder)),
        ],
        folder,
        environment={"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _ran(
    command: Sequence[str], folder: Path, out: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    with _opened(out) as output:
        try:
            done = subprocess.run(
                command, cwd=folder, stdout=output, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                env=os.environ | (environment or {}), timeout=_SECONDS_MAX, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{command[0]} has not ended within {_SECONDS_MAX} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        hint = "; try `apt-get update` first" if command[0] == "apt-get" else ""
        raise ClusterError(f"the image can't be made: {' '.join(said[-2:]) or command[0]}{hint}")
    return done.stdout or ""


@contextmanager
def _opened(path: Path | None) -> Iterator[int]:
    if path is None:
        yield subprocess.PIPE
        return
    with path.open("wb") as file:
        yield file.fileno()
