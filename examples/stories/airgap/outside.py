# SPDX-License-Identifier: Apache-2.0
"""What the kernel has counted in this network: tries to reach another machine, and datagrams (a question to DNS is one,
also one to a resolver of this machine)."""

import os


def table(path):
    with open(path, encoding="ascii") as file:
        lines = file.read().splitlines()
    if path.endswith("6"):
        return {name: int(value) for name, value in (line.split() for line in lines)}
    counted = {}
    for names, values in zip(lines[::2], lines[1::2]):
        kind = names.split(":")[0]
        counted |= {kind + name: int(value) for name, value in zip(names.split()[1:], values.split()[1:])}
    return counted


def interfaces():
    with open("/proc/net/dev", encoding="ascii") as file:
        return sorted(line.split(":")[0].strip() for line in file.readlines()[2:])


four = table("/proc/net/snmp")
six = table("/proc/net/snmp6") if os.path.exists("/proc/net/snmp6") else {}
print("interfaces:", *interfaces())
print("tries to reach another machine:", four["IpOutNoRoutes"] + six.get("Ip6OutNoRoutes", 0))
print("datagrams:", four["UdpOutDatagrams"] + six.get("Udp6OutDatagrams", 0))
