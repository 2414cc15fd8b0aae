"""Images as the role leaves them: Docker has them, and their archives lie on the host."""

from __future__ import annotations

import json

REFERENCE = "docker.io/rancher/mirrored-pause:3.6"
ARCHIVE = "/var/lib/skerry/images/docker.io+rancher+mirrored-pause@3.6.tar"


def test_docker_has_the_image_and_can_run_it(host, support):
    done = host.run(f"docker run --rm --pull never --detach --name pause-of-mirror {REFERENCE}")
    try:
        assert done.rc == 0, done.stderr
        states = host.check_output("docker inspect --format '{{.State.Running}}' pause-of-mirror")
        assert states.strip() == "true"
    finally:
        host.run("docker rm --force pause-of-mirror")
    support.ran(host, "images", "loaded into Docker from a mirror")


def test_the_archive_is_noted_with_the_image_that_it_gave(host):
    record = json.loads(host.file("/var/lib/skerry/images.json").content_string)
    image = host.check_output(f"docker image inspect --format '{{{{.Id}}}}' {REFERENCE}")
    assert record["docker"][ARCHIVE]["image"] == image.strip()
    assert host.file(ARCHIVE).mode == 0o644
