#!/bin/sh
# Make the root file system of a test host: Debian with systemd and sshd, as a tar archive.
#   image.sh RELEASE ARCHIVE
# Nothing that the roles install is in it. The image's tag is a hash of this file.
set -eu

release=$1
archive=$2

# python3-apt and the package lists, because a real Debian host has both and
# Ansible's apt module needs them to predict an installation in check mode.
# shellcheck disable=SC2016  # $1 is for mmdebstrap's own shell
mmdebstrap --quiet --variant=minbase --skip=cleanup/apt/lists \
  --include=systemd,systemd-sysv,dbus,python3,python3-apt,sudo,ca-certificates,iproute2,iputils-ping,procps,nftables,openssh-server \
  --customize-hook='ln -sf /dev/null "$1/etc/systemd/system/tmp.mount"' \
  --customize-hook='chroot "$1" useradd --create-home --shell /bin/bash ops' \
  --customize-hook='echo "ops ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/ops"' \
  --customize-hook='printf "AuthorizedKeysCommand /bin/cat /etc/ssh/authorized_keys/%%u\nAuthorizedKeysCommandUser root\nPasswordAuthentication no\n" >"$1/etc/ssh/sshd_config.d/test-host.conf"' \
  --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*' \
  --customize-hook='mkdir -p "$1/etc/systemd/system/ssh.service.d"' \
  --customize-hook='printf "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n" >"$1/etc/systemd/system/ssh.service.d/host-keys.conf"' \
  "$release" "$archive"
