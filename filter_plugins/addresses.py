"""Addresses and networks of inventory hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def addresses_by_host(hostvars: Mapping[str, Any], hosts: Iterable[str]) -> dict[str, str]:
    """The IP address by which other hosts reach each of `hosts`: common_address, else ansible_host."""
    found = {}
    for host in hosts:
        variables = hostvars[host]
        address = variables.get("common_address", variables.get("ansible_host", host))
        try:
            found[host] = str(ipaddress.ip_address(address))
        except ValueError as error:
            raise AnsibleFilterError(
                f"{host}: {address!r} is not an IP address; set ansible_host to one, or "
                "common_address to the address by which the other hosts reach it"
            ) from error
    return found


def addresses_of(hostvars: Mapping[str, Any], hosts: Iterable[str]) -> list[str]:
    """The addresses of `hosts`, each once, sorted."""
    return sorted(set(addresses_by_host(hostvars, hosts).values()))


def networks_of(hostvars: Mapping[str, Any], hosts: Iterable[str], networks: Iterable[str] = ()) -> list[str]:
    """The addresses of `hosts` and the given `networks`, each as a CIDR block, sorted."""
    blocks = [*addresses_of(hostvars, hosts), *networks]
    try:
        return sorted({str(ipaddress.ip_network(block)) for block in blocks})
    except ValueError as error:
        raise AnsibleFilterError(
            f"common_client_networks: {error}; allowed: CIDR blocks such as 192.0.2.0/24"
        ) from error


def authorities(addresses: Iterable[str], ports: Iterable[Any]) -> str:
    """The addresses with their ports, as a URL has them: 192.0.2.1:5432,[2001:db8::1]:5432."""
    pairs = zip(addresses, ports, strict=True)
    return ",".join(
        f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address, port in pairs
    )


class FilterModule:
    """The filters that the templates of access rules use."""

    def filters(self) -> dict[str, Any]:
        return {
            "addresses_by_host": addresses_by_host,
            "addresses_of": addresses_of,
            "authorities": authorities,
            "networks_of": networks_of,
        }
