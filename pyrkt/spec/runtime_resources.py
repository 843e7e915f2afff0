"""linux.resources of config.json: what the cgroups of a container allow it (runtime-spec 1.3, config-linux.md)."""

from __future__ import annotations

from pyrkt.spec.document import (
    MAX_INT64,
    MAX_UINT32,
    MAX_UINT64,
    Document,
    filled,
    flag,
    int64,
    uint16,
    uint32,
    uint64,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.base.reader import Reader


class Memory(Document):
    """Limits of the memory controller, in bytes; -1 is "no limit"; ``swappiness`` is 0..100."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool = False
    use_hierarchy: bool = False
    check_before_update: bool = False

    @classmethod
    def parse(cls, r: Reader) -> Memory:
        """Read the object; Go's -1 as an unsigned swappiness (docker writes it) means "not set"."""
        swappiness = uint64(r["swappiness"])
        return cls(
            limit=int64(r["limit"]),
            reservation=int64(r["reservation"]),
            swap=int64(r["swap"]),
            kernel=int64(r["kernel"]),
            kernel_tcp=int64(r["kernelTCP"]),
            swappiness=None if swappiness == MAX_UINT64 else swappiness,
            disable_oom_killer=flag(r["disableOOMKiller"]),
            use_hierarchy=flag(r["useHierarchy"]),
            check_before_update=flag(r["checkBeforeUpdate"]),
        )


class Cpu(Document):
    """Shares of the processors; times are in microseconds, ``cpus`` and ``mems`` are lists such as "0-3,7"."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None

    @classmethod
    def parse(cls, r: Reader) -> Cpu:
        """Read the object."""
        return cls(
            shares=uint64(r["shares"]),
            quota=int64(r["quota"]),
            burst=uint64(r["burst"]),
            period=uint64(r["period"]),
            realtime_runtime=int64(r["realtimeRuntime"]),
            realtime_period=uint64(r["realtimePeriod"]),
            cpus=_one_line(r["cpus"]),
            mems=_one_line(r["mems"]),
            idle=int64(r["idle"]),
        )


def _one_line(r: Reader) -> str:
    text = r.text("")
    if not text.isprintable():  # the kernel reads a list to the end of its first line, and says nothing of the rest
        raise r.fail(f"{text!r} is not a list such as 0-3,7")
    return text


class Pids(Document):
    """``limit``: how many tasks; -1 is "no limit", 0 a real limit: none beyond the first."""

    limit: int | None = None

    @classmethod
    def parse(cls, r: Reader) -> Pids:
        """Read the object."""
        return cls(limit=int64(r["limit"]))


class WeightDevice(Document):
    """The weight of one block device."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None

    @classmethod
    def parse(cls, r: Reader) -> WeightDevice:
        """Read the object: one of the weights at least."""
        weight, leaf = uint16(r["weight"]), uint16(r["leafWeight"])
        if weight is None and leaf is None:
            raise r.fail("needs a weight or a leafWeight")
        return cls(
            major=r["major"].integer(0, MAX_INT64),
            minor=r["minor"].integer(0, MAX_INT64),
            weight=weight,
            leaf_weight=leaf,
        )


class ThrottleDevice(Document):
    """The highest rate of one block device: bytes or operations a second."""

    major: int
    minor: int
    rate: int

    @classmethod
    def parse(cls, r: Reader) -> ThrottleDevice:
        """Read the object."""
        return cls(
            major=r["major"].integer(0, MAX_INT64),
            minor=r["minor"].integer(0, MAX_INT64),
            rate=r["rate"].integer(0, MAX_UINT64),
        )


class BlockIO(Document):
    """Weights (10..1000, 0 is "not set") and throttles of block devices."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> BlockIO:
        """Read the object."""
        return cls(
            weight=uint16(r["weight"]),
            leaf_weight=uint16(r["leafWeight"]),
            weight_device=tuple(WeightDevice.parse(item) for item in r["weightDevice"].items()),
            throttle_read_bps_device=_throttles(r["throttleReadBpsDevice"]),
            throttle_write_bps_device=_throttles(r["throttleWriteBpsDevice"]),
            throttle_read_iops_device=_throttles(r["throttleReadIOPSDevice"]),
            throttle_write_iops_device=_throttles(r["throttleWriteIOPSDevice"]),
        )


def _throttles(r: Reader) -> tuple[ThrottleDevice, ...]:
    return tuple(ThrottleDevice.parse(item) for item in r.items())


class DeviceRule(Document):
    """One rule of the device controller; ``major`` or ``minor`` None (or -1) means all.

    ``type`` is "a" (all), "b" or "c"; "" means "a". ``access`` is made of r, w and m; "" means all three, and so
    does "a", which stood in configurations of old.
    """

    allow: bool
    type: str = ""
    major: int | None = None
    minor: int | None = None
    access: str = ""

    @classmethod
    def parse(cls, r: Reader) -> DeviceRule:
        """Read the object."""
        access = r["access"].text("")
        if access.strip("rwma"):
            raise r["access"].fail(f"{access!r} has letters other than r, w and m")
        return cls(
            allow=r["allow"].boolean(),
            type=r["type"].choice(("a", "b", "c", "u", "p", ""), ""),
            major=int64(r["major"]),
            minor=int64(r["minor"]),
            access=access,
        )


class HugepageLimit(Document):
    """The most bytes of huge pages of one size ("2MB")."""

    page_size: str
    limit: int

    @classmethod
    def parse(cls, r: Reader) -> HugepageLimit:
        """Read the object; the size is a number without leading zero and KB, MB or GB.

        ``pagesize`` is taken too: the engines' JSON reader knows no case, and such configurations are about.
        """
        size = (r["pageSize"] if r["pageSize"].present or not r["pagesize"].present else r["pagesize"]).text()
        number = size[:-2]
        if size[-2:] not in {"KB", "MB", "GB"} or not number.isascii() or not number.isdigit() or number[0] == "0":
            raise r["pageSize"].fail(f"{size!r} is no page size", hint="write it as 64KB, 2MB or 1GB")
        return cls(page_size=size, limit=r["limit"].integer(0, MAX_UINT64))


class InterfacePriority(Document):
    """The priority of the container's traffic on one network interface."""

    name: str
    priority: int

    @classmethod
    def parse(cls, r: Reader) -> InterfacePriority:
        """Read the object."""
        return cls(name=filled(r["name"]), priority=r["priority"].integer(0, MAX_UINT32))


class Network(Document):
    """The class of the container's packets (net_cls) and their priorities (net_prio)."""

    class_id: int | None = None
    priorities: tuple[InterfacePriority, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Network:
        """Read the object."""
        return cls(
            class_id=uint32(r["classID"]),
            priorities=tuple(InterfacePriority.parse(item) for item in r["priorities"].items()),
        )


class Rdma(Document):
    """How many handles and objects of one RDMA device."""

    hca_handles: int | None = None
    hca_objects: int | None = None

    @classmethod
    def parse(cls, r: Reader) -> Rdma:
        """Read the object: one of the limits at least."""
        handles, objects = uint32(r["hcaHandles"]), uint32(r["hcaObjects"])
        if handles is None and objects is None:
            raise r.fail("needs hcaHandles or hcaObjects")
        return cls(hca_handles=handles, hca_objects=objects)


_ABOUT_PROCESSES = ("cgroup.procs", "cgroup.threads", "cgroup.kill")
"""Written by root, the first two take any process of the host into the container's cgroup."""


class Resources(Document):
    """All limits; ``unified`` maps files of the v2 cgroup to what is written in them."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = {}  # noqa: RUF012 - a record's default, never written to
    unified: dict[str, str] = {}  # noqa: RUF012 - the same

    @classmethod
    def parse(cls, r: Reader) -> Resources:
        """Read the object; ``pyrkt-oci update --resources`` takes one by itself."""
        r = r.citing("runtime-spec 1.3, config-linux, control groups")
        for name, value in r["unified"].members():
            if not name or "/" in name or name.startswith("."):
                raise value.fail("is not the name of a cgroup file")
            if name in _ABOUT_PROCESSES:
                raise value.fail("moves or ends processes, which is no limit")
        return cls(
            devices=tuple(DeviceRule.parse(item) for item in r["devices"].items()),
            memory=Memory.parse(r["memory"]) if r["memory"].present else None,
            cpu=Cpu.parse(r["cpu"]) if r["cpu"].present else None,
            pids=Pids.parse(r["pids"]) if r["pids"].present else None,
            block_io=BlockIO.parse(r["blockIO"]) if r["blockIO"].present else None,
            hugepage_limits=tuple(HugepageLimit.parse(item) for item in r["hugepageLimits"].items()),
            network=Network.parse(r["network"]) if r["network"].present else None,
            rdma={name: Rdma.parse(value) for name, value in r["rdma"].members()},
            unified=r["unified"].text_map(),
        )
