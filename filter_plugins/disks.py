"""The kind of disk that holds a mount, from Ansible's facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SLOWEST_FIRST = ("hdd", "ssd", "nvme")


def disk_kind(devices: Mapping[str, Mapping[str, Any]], mounted: str) -> str:
    """hdd, ssd or nvme: the disks below the device `mounted`, the slowest of all where they cannot be told.

    `devices` is ansible_facts['devices']. A volume (LVM, RAID, LUKS) is found by the holders and
    masters that its disks and their partitions name.
    """
    physical = {
        name: device
        for name, device in devices.items()
        if not int(device.get("virtual", 0)) and str(device.get("removable", "0")) == "0"
    }
    name = mounted.removeprefix("/dev/").removeprefix("mapper/")
    below = [disk for disk in physical if _holds(disk, physical[disk], name, devices)]
    kinds = {_kind(disk, physical[disk]) for disk in below or physical}
    return next((kind for kind in SLOWEST_FIRST if kind in kinds), "ssd")


def _kind(name: str, device: Mapping[str, Any]) -> str:
    if name.startswith("nvme"):
        return "nvme"
    return "hdd" if str(device.get("rotational", "0")) == "1" else "ssd"


def _holds(disk: str, device: Mapping[str, Any], name: str, devices: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether `name` is the disk, a partition of it, or a volume on either, at any depth."""
    if re.fullmatch(re.escape(disk) + r"(p?\d+)?", name):
        return True
    parts: list[Mapping[str, Any]] = [device, *device.get("partitions", {}).values()]
    above = {held for part in parts for held in part.get("holders", ())}
    masters = {held for part in parts for held in part.get("links", {}).get("masters", ())}
    return name in above | masters or any(
        _holds(held, devices[held], name, devices) for held in masters if held in devices
    )


class FilterModule:
    """The filter that the role common's defaults use."""

    def filters(self) -> dict[str, Any]:
        return {"disk_kind": disk_kind}
