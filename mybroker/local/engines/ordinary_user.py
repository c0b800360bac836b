"""As root: an ordinary user for PostgreSQL, which refuses to run as root, and places that this user can reach.

Nobody else's folder gets other permissions: where the user cannot reach a session's folder or the installed binaries
(a home is closed to others), PostgreSQL's files go below STATE_FOLDER, which is ours.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mybroker.local.engines.downloads import locked

USER_NAME = "mybroker"
FALLBACK_USER_NAME = "nobody"
STATE_FOLDER = Path("/var/lib/mybroker")
OPEN_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinaryUser:
    """Whom to run as; `uid` None is whoever we are."""

    uid: int | None
    gid: int | None

    def can_reach(self, path: Path) -> bool:
        """Say whether this user may go down to `path` and read it."""
        if self.uid is None:
            return True
        looked = subprocess.run(
            ["/bin/sh", "-c", 'test -r "$1"', "sh", str(path)],
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            check=False,
        )
        return looked.returncode == 0

    def own(self, path: Path) -> None:
        """Make a folder or file of ours this user's."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def ordinary_user() -> OrdinaryUser:
    """Return the user for an engine that must not be root; made at the first call as root."""
    if os.geteuid() != 0:
        return OrdinaryUser(uid=None, gid=None)
    entry = _entry(USER_NAME)
    if entry is None:
        with locked(STATE_FOLDER / "user.lock"):
            entry = _entry(USER_NAME) or _made_user() or pwd.getpwnam(FALLBACK_USER_NAME)
    return OrdinaryUser(uid=entry.pw_uid, gid=entry.pw_gid)


def reachable_folder(wanted: Path, user: OrdinaryUser) -> Path:
    """Return `wanted` where the user can reach its parent, else a folder of ours that stands for it."""
    if user.can_reach(wanted.parent):
        return wanted
    name = hashlib.sha256(str(wanted).encode()).hexdigest()[:16]
    _open_state_folder()
    return STATE_FOLDER / "sessions" / name


def reachable_copy(package: Path, parts: tuple[str, ...], version: str, user: OrdinaryUser) -> Path:
    """Return a folder that holds `parts` of `package` and that the user can reach: itself, or a copy of it.

    The parts keep their places relative to one another: programs find their libraries that way.
    """
    if all(user.can_reach(package / part) for part in parts):
        return package
    copy = STATE_FOLDER / "packages" / version
    with locked(STATE_FOLDER / "packages.lock"):
        if not copy.exists():
            _open_state_folder()
            fresh = copy.with_name(f"{copy.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            for part in parts:
                shutil.copytree(package / part, fresh / part, symlinks=True)
            for folder, _, _ in os.walk(fresh):
                Path(folder).chmod(OPEN_FOLDER_MODE)
            fresh.rename(copy)
    return copy


def _open_state_folder() -> None:
    for folder in (STATE_FOLDER, STATE_FOLDER / "packages", STATE_FOLDER / "sessions"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(OPEN_FOLDER_MODE)


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _made_user() -> pwd.struct_passwd | None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return None
    command = [useradd, "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    subprocess.run([*command, "--user-group", USER_NAME], capture_output=True, check=False)
    return _entry(USER_NAME)
