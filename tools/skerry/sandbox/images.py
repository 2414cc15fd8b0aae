"""Root file systems of sandbox hosts: made by mmdebstrap, kept by their definition's digest, imported into Docker."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from skerry import debian, paths
from skerry.errors import Exit, SkerryError
from skerry.sandbox.docker_api import Docker

LABEL = "dev.skerry.image"
REPOSITORY = "skerry-sandbox"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
KEPT_DAYS = 14  #: how long roots of former definitions stay after they were last imported
#: name in inventories -> Debian's suite
RELEASES = {"debian12": "bookworm", "debian13": "trixie"}
#: architecture as inventories write it -> Docker's platform
ARCHITECTURES = {"amd64": "linux/amd64", "arm64": "linux/arm64"}
#: What a small real server has on its first day. What our roles install (Docker, crun, wasmedge, k3s) is not here.
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "openssh-server",
    "sudo",
    "python3",
    "python3-apt",
    "iproute2",
    "iptables",
    "nftables",
    "iputils-ping",
    "netbase",
    "ca-certificates",
    "curl",
    "procps",
    "kmod",
    "conntrack",
    "ethtool",
    "socat",
    "less",
    "xz-utils",
    "debian-archive-keyring",
)
#: dpkg as on many cloud images: no manuals; and no fsync for each file, since a test host is made again, not repaired.
DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
)
APT_OPTIONS = (
    'Acquire::Languages "none"',
    'APT::Install-Recommends "false"',
    'DPkg::Lock::Timeout "300"',
    'Binary::apt::APT::Keep-Downloaded-Packages "true"',
    'APT::Keep-Downloaded-Packages "true"',
)
#: Shell run with the new root as $1. Keys and machine-id belong to a host, not to an image.
CUSTOMIZE = (
    'chroot "$1" useradd --create-home --shell /bin/bash --comment "Skerry operator" skerry',
    'chroot "$1" usermod --password "*" skerry',
    'install -m 0440 /dev/null "$1/etc/sudoers.d/skerry"; '
    'echo "skerry ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/skerry"',
    'rm -f "$1"/etc/ssh/ssh_host_*; : > "$1/etc/machine-id"; rm -f "$1/var/lib/dbus/machine-id" "$1/etc/hostname"',
    'chroot "$1" systemctl set-default multi-user.target',
    'chroot "$1" systemctl mask console-getty.service getty@.service systemd-firstboot.service apt-daily.timer '
    "apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-remount-fs.service "
    "dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount",
    'chroot "$1" systemctl enable ssh.service',
    'chroot "$1" apt-cache policy >/dev/null',
)


@dataclass(frozen=True)
class Definition:
    """Everything that decides what an image holds."""

    release: str
    arch: str
    sources: tuple[str, ...]  #: apt lines; empty: mmdebstrap's own defaults
    authorities: tuple[tuple[str, str], ...]  #: (file name, PEM) of this machine's own certificate authorities

    @property
    def digest(self) -> str:
        """SHA-256 over the definition, first 16 hexadecimal digits."""
        parts = [
            self.release,
            self.arch,
            self.sources,
            self.authorities,
            PACKAGES,
            DPKG_OPTIONS,
            APT_OPTIONS,
            CUSTOMIZE,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def tag(self) -> str:
        return f"{self.release}-{self.arch}-{self.digest}"

    @property
    def image(self) -> str:
        return f"{REPOSITORY}:{self.tag}"


def machine_sources(suite: str) -> tuple[str, ...]:
    """apt lines for ``suite`` from the mirrors that this machine itself uses; empty where it is no Debian machine."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    archive = security = ""
    names = {"stable", "oldstable", "testing", "sid", "bullseye", "forky", *RELEASES.values()}
    for line in listed.splitlines():
        uri, _, release = line.partition(" ")
        base, _, kind = release.partition("-")
        if base not in names:
            continue
        if kind.startswith("security"):
            security = security or uri
        elif not kind:
            archive = archive or uri
    signed = f"deb [signed-by={KEYRING}]"
    lines = [f"{signed} {archive} {suite} main", f"{signed} {archive} {suite}-updates main"] if archive else []
    if archive and security:
        lines.append(f"{signed} {security} {suite}-security main")
    return tuple(lines)


def machine_authorities() -> tuple[tuple[str, str], ...]:
    """This machine's own certificate authorities: what its administrator put beside Debian's."""
    place = Path("/usr/local/share/ca-certificates")
    return tuple((file.name, file.read_text(encoding="utf-8")) for file in sorted(place.glob("*.crt")))


def define(release: str, arch: str) -> Definition:
    """The definition of an image on this machine, now."""
    return Definition(release, arch, machine_sources(RELEASES[release]), machine_authorities())


def _mmdebstrap(definition: Definition, target: Path, authorities: Path) -> list[str]:
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--format=tar",
        f"--architectures={definition.arch}",
        f"--include={','.join(PACKAGES)}",
        "--skip=cleanup/apt/lists,cleanup/apt/cache",
    ]
    command += [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
    command += [f"--aptopt={option}" for option in APT_OPTIONS]
    if definition.authorities:
        # Before the packages: ca-certificates takes them up when it is set up.
        command += [
            '--essential-hook=mkdir -p "$1/usr/local/share/ca-certificates"',
            f"--essential-hook=copy-in {authorities}/. /usr/local/share/ca-certificates",
        ]
    command += [f"--customize-hook={hook}" for hook in CUSTOMIZE]
    command += ['--customize-hook=rm -f "$1"/var/cache/apt/archives/*.deb "$1"/var/log/*.log "$1"/var/log/apt/*']
    return [*command, RELEASES[definition.release], str(target), *definition.sources]


def make_root(definition: Definition, target: Path) -> None:
    """Make the root tar beside its place and rename it when it is whole.

    Raises:
        SkerryError: SANDBOX_002 (tools are missing), SANDBOX_006 (mmdebstrap failed).
    """
    try:
        debian.ensure("sandbox")
    except debian.PackagesMissingError as error:
        raise SkerryError("SANDBOX_002", str(error), error.command, Exit.PREREQUISITE) from error
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        authorities = Path(scratch) / "authorities"
        authorities.mkdir()
        for name, pem in definition.authorities:
            (authorities / name).write_text(pem, encoding="utf-8")
        partial = Path(scratch) / "root.tar"
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            _mmdebstrap(definition, partial, authorities),
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise SkerryError(
                "SANDBOX_006",
                f"the root of {definition.release} ({definition.arch}) could not be made: {done.stderr.strip()[-800:]}",
                "check that this machine's Debian mirror answers (apt-get update) and that the disk has 2 GB free",
                Exit.FAILED,
            )
        partial.rename(target)


def ensure(definition: Definition, docker: Docker) -> bool:
    """Make sure that Docker has the image; True when it had to be made or imported.

    The label is part of the imported image, so an image of that name with that label is a whole one.
    """
    labels = docker.image_labels(definition.image)
    if labels is not None and labels.get(LABEL) == definition.digest:
        return False
    place = paths.cache() / "images"
    place.mkdir(parents=True, exist_ok=True)
    tar = place / f"{definition.tag}.tar"
    with (place / f".{definition.tag}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # two commands that want the same image make it once
        if not tar.exists():
            for left in place.glob(f".{tar.name}.*"):  # of a run that was killed
                shutil.rmtree(left)
            make_root(definition, tar)
            _drop_unused(place, definition, docker)
        os.utime(tar)
        with tar.open("rb") as stream:
            docker.import_image(
                stream,
                REPOSITORY,
                definition.tag,
                [f"LABEL {LABEL}={definition.digest}"],
                ARCHITECTURES[definition.arch],
            )
    return True


def _drop_unused(place: Path, definition: Definition, docker: Docker) -> None:
    """Remove roots of former definitions that nobody imported for a while, and images of theirs that no host uses."""
    oldest = time.time() - KEPT_DAYS * 86400
    for tar in place.glob(f"{definition.release}-{definition.arch}-*.tar"):
        if tar.name != f"{definition.tag}.tar" and tar.stat().st_mtime < oldest:
            tar.unlink()
            docker.remove_image(f"{REPOSITORY}:{tar.stem}")
