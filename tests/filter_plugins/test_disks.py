"""Kinds of disks from facts as Ansible gathers them."""

from __future__ import annotations

import pytest

from filter_plugins.disks import disk_kind


def disk(rotational, *, virtual=0, removable="0", partitions=(), holders=(), masters=()):
    return {
        "rotational": rotational, "virtual": virtual, "removable": removable,
        "partitions": dict(partitions),
        "holders": [*holders], "links": {"masters": [*masters]},
    }  # fmt: skip


def part(holders=(), masters=()):
    return {"holders": [*holders], "links": {"masters": [*masters]}}


LOOP = disk("0", virtual=1)
CDROM = disk("1", removable="1")


@pytest.mark.parametrize(
    ("devices", "mounted", "expected"),
    [
        ({"sda": disk("1")}, "/dev/sda1", "hdd"),
        ({"sda": disk("0")}, "/dev/sda1", "ssd"),
        ({"nvme0n1": disk("0")}, "/dev/nvme0n1p2", "nvme"),
        # Beside a loop device, which never rotates, and a drive that always does.
        ({"sda": disk("1"), "loop0": LOOP, "sr0": CDROM}, "/dev/sda1", "hdd"),
        ({"sda": disk("0"), "loop0": LOOP, "sr0": CDROM}, "/dev/sda1", "ssd"),
        # The data's disk counts, not the system's.
        ({"sda": disk("0"), "sdb": disk("1")}, "/dev/sdb1", "hdd"),
        ({"sda": disk("0"), "sdaa": disk("1")}, "/dev/sda1", "ssd"),
        # LVM on a partition; LVM inside LUKS; a RAID of two.
        ({"sda": disk("0"), "sdb": disk("1", partitions=[("sdb1", part(["vg-data"], ["dm-0"]))])},
         "/dev/mapper/vg-data", "hdd"),
        ({"sda": disk("1"), "nvme0n1": disk("0", holders=["crypt"], masters=["dm-0"]),
          "dm-0": disk("0", virtual=1, holders=["vg-data"], masters=["dm-1"])},
         "/dev/mapper/vg-data", "nvme"),
        ({"sda": disk("1", masters=["md0"]), "sdb": disk("0", masters=["md0"]), "sdc": disk("0")},
         "/dev/md0", "hdd"),
        # What cannot be told: the slowest; and where nothing is known.
        ({"sda": disk("1"), "nvme0n1": disk("0")}, "rpool/data", "hdd"),
        ({"loop0": LOOP}, "overlay", "ssd"),
        ({}, "", "ssd"),
    ],
)  # fmt: skip
def test_kind_of_the_disk_below_a_mount(devices, mounted, expected):
    assert disk_kind(devices, mounted) == expected
