#!/bin/sh
# First program of a sandbox host: makes the container look like a machine, then becomes systemd.
# Runs at every start of the container, so each step may find its work done.
set -eu
given=/etc/skerry-sandbox

# Docker hides parts of /proc and /sys/firmware behind mounts; a real host has them. (The engine's option for it,
# systempaths=unconfined, exists only in the docker command.) Deepest first.
awk '$5 ~ "^(/proc|/sys/firmware|/sys/devices/virtual/powercap)/?." && $5 != "/proc" { print $5 }' /proc/self/mountinfo |
  sort -r | while read -r point; do umount "$point"; done

# systemd, Docker and the kubelet make control groups of their own.
awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { if ($(i + 1) ~ /^cgroup2?$/) print $5; break } }' /proc/self/mountinfo |
  while read -r point; do mount -o remount,rw,bind "$point"; done
mount --make-rshared /

# The host's own memory and cores, where the machine has lxcfs; afterwards nothing of it shows but the right figures.
view=/var/skerry/lxcfs
if [ -r "$view/proc/meminfo" ]; then
  for file in proc/meminfo proc/cpuinfo proc/swaps sys/devices/system/cpu/online; do
    mount --bind "$view/$file" "/$file"
  done
  umount "$view"
fi

# Keys come from the controller, so that the first login can be a checked one.
install -m 0600 "$given/ssh_host_ed25519_key" /etc/ssh/ssh_host_ed25519_key
install -m 0644 "$given/ssh_host_ed25519_key.pub" /etc/ssh/ssh_host_ed25519_key.pub
install -d -m 0700 -o skerry -g skerry /home/skerry/.ssh
install -m 0600 -o skerry -g skerry "$given/authorized_keys" /home/skerry/.ssh/authorized_keys

# Name servers of the machine instead of Docker's own, which lives in iptables rules that a host may well replace.
# The file is a mount: it is written, not replaced.
[ ! -s "$given/resolv.conf" ] || cat "$given/resolv.conf" > /etc/resolv.conf
while read -r address name; do
  grep -q "[[:space:]]$name\$" /etc/hosts || printf '%s %s\n' "$address" "$name" >> /etc/hosts
done < "$given/hosts"
cat "$given/apt-proxy.conf" > /etc/apt/apt.conf.d/80skerry-proxy
hostname > /etc/hostname

# Packages that a host of the same release has fetched before: apt finds them in its cache (and checks them as ever), and
# leaves there what it fetches itself.
cat > /etc/apt/apt.conf.d/80skerry-packages <<'END'
DPkg::Post-Invoke { "cd /var/cache/apt/archives && for f in *.deb; do [ ! -f $f ] || [ -L $f ] || [ -e /var/skerry/packages/$f ] || { cp $f /var/skerry/packages/.$f.$$ && mv /var/skerry/packages/.$f.$$ /var/skerry/packages/$f; }; done || true"; };
END
ln -sf /var/skerry/packages/*.deb /var/cache/apt/archives/ 2>/dev/null || true

# Under qemu's user mode the kernel interfaces for credentials and network namespaces of services are missing.
if [ -r /proc/sys/kernel/arch ] && [ "$(cat /proc/sys/kernel/arch)" != "$(uname -m)" ]; then
  for unit in systemd-sysusers systemd-sysctl systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-tmpfiles-clean; do
    mkdir -p "/etc/systemd/system/$unit.service.d"
    printf '[Service]\nLoadCredential=\nSetCredential=\nImportCredential=\n' \
      > "/etc/systemd/system/$unit.service.d/10-emulated.conf"
  done
  ln -sf /dev/null /etc/systemd/system/e2scrub_reap.service
fi

exec /sbin/init
