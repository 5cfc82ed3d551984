"""What every storage back end must do: the ports' rules as tests.

A back end's own test module derives a class from `StorageKit` and gives a fixture `pool`: an open back end with room
for a few small volumes, and a host's connector to it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from kevel.domain.errors import StepNever
from kevel.domain.ladder import Rung
from kevel.storage.base import Backend, Connector, Export, ExportName, LocalDisk, VolumeFile

MIB = 1 << 20


@dataclass
class PoolUnderTest:
    """An open back end, and what a test needs to use it."""

    backend: Backend
    connector: Connector
    #: The first bytes of a connected volume, as a guest reads them.
    read_start: Callable[[LocalDisk, int], bytes]
    #: A size in bytes that the pool cannot take.
    bytes_too_many: int


def new_volume(pool: PoolUnderTest, size_bytes: int = 4 * MIB) -> VolumeFile:
    """A volume that is not there yet."""
    return VolumeFile(volume_id=str(uuid.uuid4()), size_bytes=size_bytes, format=pool.backend.volume_format)


def export_to(volume: VolumeFile, generation: int = 1) -> Export:
    """An export of the volume to a host."""
    return Export(volume=volume, path_id=str(uuid.uuid4()), generation=generation, host="host-1")


async def connect(pool: PoolUnderTest, volume: VolumeFile) -> LocalDisk:
    """The volume as a host reaches it."""
    info = await pool.backend.export_volume(export_to(volume))
    return await pool.connector.connect_volume(volume, info)


class StorageKit:
    """The rules. Derive from it and give the fixture `pool`."""

    async def test_a_new_volume_is_there_with_its_size_and_reads_as_zeros(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        assert await pool.backend.list_volumes() == [volume.volume_id]
        disk = await connect(pool, volume)
        assert (disk.size_bytes, disk.format) == (volume.size_bytes, volume.format)
        assert pool.read_start(disk, 4096) == bytes(4096)

    async def test_creating_it_again_is_success_and_changes_nothing(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        await pool.backend.create_volume(volume)
        assert await pool.backend.list_volumes() == [volume.volume_id]
        assert (await connect(pool, volume)).size_bytes == volume.size_bytes

    async def test_creating_it_with_another_size_is_refused(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        other = VolumeFile(volume_id=volume.volume_id, size_bytes=8 * MIB, format=volume.format)
        with pytest.raises(StepNever):
            await pool.backend.create_volume(other)
        assert (await connect(pool, volume)).size_bytes == volume.size_bytes

    async def test_a_creation_that_cannot_succeed_leaves_nothing(self, pool: PoolUnderTest) -> None:
        with pytest.raises(StepNever):
            await pool.backend.create_volume(new_volume(pool, pool.bytes_too_many))
        assert await pool.backend.list_volumes() == []

    async def test_growing_makes_it_larger_and_never_smaller(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        larger = VolumeFile(volume_id=volume.volume_id, size_bytes=16 * MIB, format=volume.format)
        await pool.backend.grow_volume(larger)
        await pool.backend.grow_volume(larger)
        await pool.backend.grow_volume(volume)
        assert (await connect(pool, larger)).size_bytes == 16 * MIB

    async def test_growing_what_is_not_there_is_refused(self, pool: PoolUnderTest) -> None:
        with pytest.raises(StepNever):
            await pool.backend.grow_volume(new_volume(pool))
        assert await pool.backend.list_volumes() == []

    async def test_deleting_removes_it_and_nothing_else(self, pool: PoolUnderTest) -> None:
        kept, gone = new_volume(pool), new_volume(pool)
        await pool.backend.create_volume(kept)
        await pool.backend.create_volume(gone)
        await pool.backend.delete_volume(gone)
        assert await pool.backend.list_volumes() == [kept.volume_id]

    async def test_deleting_what_is_gone_is_success(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.delete_volume(volume)
        await pool.backend.create_volume(volume)
        await pool.backend.delete_volume(volume)
        await pool.backend.delete_volume(volume)
        assert await pool.backend.list_volumes() == []

    async def test_what_is_not_there_cannot_be_exported(self, pool: PoolUnderTest) -> None:
        with pytest.raises(StepNever):
            await pool.backend.export_volume(export_to(new_volume(pool)))

    async def test_exporting_again_gives_the_same_connection_info(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        export = export_to(volume)
        info = await pool.backend.export_volume(export)
        assert await pool.backend.export_volume(export) == info
        if Rung.EXPORTED in pool.backend.effect_free:
            assert pool.backend.describe_export(export) == info

    async def test_an_export_is_listed_until_it_is_revoked_unless_exporting_has_no_effect(
        self, pool: PoolUnderTest
    ) -> None:
        kept, gone = export_to(new_volume(pool)), export_to(new_volume(pool), generation=7)
        for export in (kept, gone):
            await pool.backend.create_volume(export.volume)
            await pool.backend.export_volume(export)
            await pool.backend.export_volume(export)
        names = [ExportName(path_id=one.path_id, generation=one.generation) for one in (kept, gone)]
        free = Rung.EXPORTED in pool.backend.effect_free
        listed = await pool.backend.list_exports()
        assert sorted(listed, key=repr) == ([] if free else sorted(names, key=repr))
        await pool.backend.revoke_export(gone)
        assert await pool.backend.list_exports() == ([] if free else names[:1])

    async def test_revoking_again_and_revoking_what_never_was_is_success(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        export = export_to(volume)
        await pool.backend.revoke_export(export)
        await pool.backend.revoke_export(export)

    async def test_a_back_end_that_can_revoke_shuts_a_host_out_and_never_makes_the_name_again(
        self, pool: PoolUnderTest
    ) -> None:
        if not pool.backend.can_revoke:
            pytest.skip("this back end cannot revoke, and says so")
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        export = export_to(volume)
        info = await pool.backend.export_volume(export)
        await pool.backend.revoke_export(export)
        with pytest.raises(StepNever):
            await pool.connector.connect_volume(volume, info)
        with pytest.raises(StepNever):
            await pool.backend.export_volume(export)

    async def test_connecting_and_disconnecting_twice_equals_once(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        info = await pool.backend.export_volume(export_to(volume))
        first = await pool.connector.connect_volume(volume, info)
        assert await pool.connector.connect_volume(volume, info) == first
        await pool.connector.disconnect_volume(volume, info)
        await pool.connector.disconnect_volume(volume, info)
        assert await pool.connector.connect_volume(volume, info) == first

    async def test_the_connection_info_of_another_volume_is_refused(self, pool: PoolUnderTest) -> None:
        volume, other = new_volume(pool), new_volume(pool)
        await pool.backend.create_volume(volume)
        await pool.backend.create_volume(other)
        info = await pool.backend.export_volume(export_to(other))
        with pytest.raises(StepNever):
            await pool.connector.connect_volume(volume, info)

    async def test_a_volume_that_is_smaller_than_its_record_is_not_connected(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        info = await pool.backend.export_volume(export_to(volume))
        larger = VolumeFile(volume_id=volume.volume_id, size_bytes=8 * MIB, format=volume.format)
        with pytest.raises(StepNever):
            await pool.connector.connect_volume(larger, info)

    async def test_while_an_extend_is_open_either_size_is_right(self, pool: PoolUnderTest) -> None:
        volume = new_volume(pool)
        await pool.backend.create_volume(volume)
        info = await pool.backend.export_volume(export_to(volume))
        larger = VolumeFile(volume_id=volume.volume_id, size_bytes=8 * MIB, format=volume.format)
        await pool.backend.grow_volume(larger)
        assert (await pool.connector.connect_volume(volume, info)).size_bytes == 8 * MIB
        assert (await pool.connector.connect_volume(larger, info)).size_bytes == 8 * MIB

    async def test_the_capacity_is_a_size_of_which_a_part_is_free(self, pool: PoolUnderTest) -> None:
        capacity = await pool.backend.capacity()
        assert 0 < capacity.free_bytes <= capacity.total_bytes
