"""What every storage back end must do: the ports' rules as tests.

A back end's own test module derives a class from `StorageKit` and gives a fixture `pool`: an open back end with room
for a few small volumes, and a host's connector to it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.ladder import Rung
from kevel.storage.base import (
    Backend,
    Connector,
    CopyWatch,
    Export,
    ExportName,
    ImageFile,
    LocalDisk,
    LocalFile,
    SnapshotFile,
    VolumeFile,
)

MIB = 1 << 20


@dataclass
class PoolUnderTest:
    """An open back end, and what a test needs to use it."""

    backend: Backend
    connector: Connector
    #: The first bytes of a connected volume, as a guest reads them.
    read_start: Callable[[LocalDisk, int], bytes]
    #: Writes a byte over the first bytes of a connected volume, as a guest does: (disk, byte, how often).
    write_start: Callable[[LocalDisk, int, int], None]
    #: A size in bytes that the pool cannot take.
    bytes_too_many: int


def new_volume(pool: PoolUnderTest, size_bytes: int = 4 * MIB) -> VolumeFile:
    """A volume that is not there yet."""
    return VolumeFile(volume_id=str(uuid.uuid4()), size_bytes=size_bytes, format=pool.backend.volume_format)


def export_to(volume: VolumeFile, generation: int = 1) -> Export:
    """An export of the volume to a host."""
    return Export(volume=volume, path_id=str(uuid.uuid4()), generation=generation, host="host-1")


def snapshot_of(volume: VolumeFile) -> SnapshotFile:
    """A snapshot that is not there yet."""
    return SnapshotFile(snapshot_id=str(uuid.uuid4()), size_bytes=volume.size_bytes, format=volume.format)


async def written(pool: PoolUnderTest, byte: int) -> VolumeFile:
    """A volume with that byte in its first ones."""
    volume = new_volume(pool)
    await pool.backend.create_volume(volume)
    pool.write_start(await connect(pool, volume), byte, 4096)
    return volume


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

    async def test_a_volume_made_from_another_has_its_contents_and_is_independent_of_it(
        self, pool: PoolUnderTest
    ) -> None:
        source, copy = await written(pool, 7), new_volume(pool, 8 * MIB)
        await pool.backend.create_volume_from(copy, source, CopyWatch())
        disk = await connect(pool, copy)
        assert (disk.size_bytes, disk.format) == (8 * MIB, pool.backend.volume_format)
        assert pool.read_start(disk, 4096) == bytes([7]) * 4096
        pool.write_start(disk, 9, 4096)
        await pool.backend.delete_volume(copy)
        assert pool.read_start(await connect(pool, source), 4096) == bytes([7]) * 4096

    async def test_making_it_from_a_source_again_is_success_and_changes_nothing(self, pool: PoolUnderTest) -> None:
        source, copy = await written(pool, 7), new_volume(pool)
        await pool.backend.create_volume_from(copy, source, CopyWatch())
        pool.write_start(await connect(pool, copy), 9, 4096)
        await pool.backend.create_volume_from(copy, source, CopyWatch())
        assert pool.read_start(await connect(pool, copy), 4096) == bytes([9]) * 4096

    async def test_a_volume_from_a_larger_source_or_from_nothing_is_refused_and_leaves_nothing(
        self, pool: PoolUnderTest
    ) -> None:
        source = await written(pool, 7)
        with pytest.raises(StepNever):
            await pool.backend.create_volume_from(new_volume(pool, MIB), source, CopyWatch())
        with pytest.raises(StepNever):
            await pool.backend.create_volume_from(new_volume(pool), new_volume(pool), CopyWatch())
        assert await pool.backend.list_volumes() == [source.volume_id]

    async def test_a_stopped_copy_leaves_nothing(self, pool: PoolUnderTest) -> None:
        source, watch = await written(pool, 7), CopyWatch()
        watch.stop("The volume is deleted.")
        with pytest.raises(StepRetry, match="volume is deleted"):
            await pool.backend.create_volume_from(new_volume(pool), source, watch)
        with pytest.raises(StepRetry, match="volume is deleted"):
            await pool.backend.create_snapshot(snapshot_of(source), source, watch)
        assert await pool.backend.list_volumes() == [source.volume_id]
        assert await pool.backend.list_snapshots() == []

    async def test_a_snapshot_keeps_what_was_written_before_it(self, pool: PoolUnderTest) -> None:
        volume = await written(pool, 7)
        snapshot = snapshot_of(volume)
        await pool.backend.create_snapshot(snapshot, volume, CopyWatch())
        pool.write_start(await connect(pool, volume), 9, 4096)
        await pool.backend.create_snapshot(snapshot, volume, CopyWatch())
        assert await pool.backend.list_snapshots() == [snapshot.snapshot_id]
        copy = new_volume(pool)
        await pool.backend.create_volume_from(copy, snapshot, CopyWatch())
        assert pool.read_start(await connect(pool, copy), 4096) == bytes([7]) * 4096
        await pool.backend.rewrite_volume(volume, snapshot, CopyWatch())
        await pool.backend.rewrite_volume(volume, snapshot, CopyWatch())
        assert pool.read_start(await connect(pool, volume), 4096) == bytes([7]) * 4096

    async def test_a_snapshot_outlives_nothing_it_depends_on_and_is_deleted_twice_as_once(
        self, pool: PoolUnderTest
    ) -> None:
        volume = await written(pool, 7)
        snapshot = snapshot_of(volume)
        await pool.backend.create_snapshot(snapshot, volume, CopyWatch())
        copy = new_volume(pool)
        await pool.backend.create_volume_from(copy, snapshot, CopyWatch())
        await pool.backend.delete_snapshot(snapshot)
        await pool.backend.delete_snapshot(snapshot)
        assert await pool.backend.list_snapshots() == []
        assert pool.read_start(await connect(pool, copy), 4096) == bytes([7]) * 4096
        with pytest.raises(StepNever):
            await pool.backend.create_volume_from(new_volume(pool), snapshot, CopyWatch())

    async def test_a_snapshot_of_a_volume_that_grew_has_the_size_it_was_asked_for(self, pool: PoolUnderTest) -> None:
        volume = await written(pool, 7)
        snapshot = snapshot_of(volume)
        larger = VolumeFile(volume_id=volume.volume_id, size_bytes=8 * MIB, format=volume.format)
        await pool.backend.create_snapshot(snapshot, volume, CopyWatch())
        await pool.backend.grow_volume(larger)
        await pool.backend.rewrite_volume(larger, snapshot, CopyWatch())
        disk = await connect(pool, larger)
        assert disk.size_bytes == 8 * MIB
        assert pool.read_start(disk, 4096) == bytes([7]) * 4096

    async def test_an_image_is_written_out_and_becomes_a_volume_again(
        self, pool: PoolUnderTest, tmp_path: Path
    ) -> None:
        volume = await written(pool, 7)
        for image_format in ("raw", "qcow2"):
            if image_format != "raw" and shutil.which("qemu-img") is None:
                continue
            image = ImageFile(path=str(tmp_path / image_format), size_bytes=volume.size_bytes, format=image_format)
            await pool.backend.write_image(image, volume, CopyWatch())
            await pool.backend.write_image(image, volume, CopyWatch())
            copy = new_volume(pool, 8 * MIB)
            await pool.backend.create_volume_from(copy, image, CopyWatch())
            assert pool.read_start(await connect(pool, copy), 4096) == bytes([7]) * 4096

    async def test_an_image_that_is_gone_makes_no_volume(self, pool: PoolUnderTest, tmp_path: Path) -> None:
        image = ImageFile(path=str(tmp_path / "gone"), size_bytes=MIB, format="raw")
        with pytest.raises(StepNever, match="not there any more"):
            await pool.backend.create_volume_from(new_volume(pool), image, CopyWatch())
        assert await pool.backend.list_volumes() == []

    async def test_contents_are_read_and_written_as_files(self, pool: PoolUnderTest) -> None:
        volume, other = await written(pool, 7), new_volume(pool)
        async with pool.backend.read_contents(volume) as file:
            assert (file.format, file.size_bytes) == (volume.format, volume.size_bytes)
        async with pool.backend.write_contents(other) as target:
            assert (target.format, target.size_bytes) == ("raw", other.size_bytes)
            Path(target.path).write_bytes(bytes([9]) * other.size_bytes)
            assert await pool.backend.list_volumes() == [volume.volume_id]
        assert pool.read_start(await connect(pool, other), 4096) == bytes([9]) * 4096
        async with pool.backend.write_contents(volume):
            pass
        assert pool.read_start(await connect(pool, volume), 4096) == bytes(4096)
        with pytest.raises(StepNever):
            async with pool.backend.read_contents(new_volume(pool)):
                pytest.fail("there is nothing to read")

    async def test_what_is_read_for_another_pool_becomes_a_volume_there(self, pool: PoolUnderTest) -> None:
        volume, copy = await written(pool, 7), new_volume(pool)
        async with pool.backend.read_contents(volume, sealed=True) as file:
            await pool.backend.create_volume_from(copy, file, CopyWatch())
            await pool.backend.create_volume_from(copy, file, CopyWatch())
            with pytest.raises(StepNever):
                await pool.backend.create_volume_from(new_volume(pool, MIB // 2), file, CopyWatch())
        assert pool.read_start(await connect(pool, copy), 4096) == bytes([7]) * 4096
        with pytest.raises(StepNever, match="not there any more"):
            await pool.backend.create_volume_from(
                new_volume(pool), LocalFile(path=f"{file.path}-gone", format="raw", size_bytes=MIB), CopyWatch()
            )

    async def test_contents_whose_writer_fails_change_nothing(self, pool: PoolUnderTest) -> None:
        volume = await written(pool, 7)
        with pytest.raises(ZeroDivisionError):
            async with pool.backend.write_contents(volume):
                raise ZeroDivisionError
        assert pool.read_start(await connect(pool, volume), 4096) == bytes([7]) * 4096

    async def test_what_somebody_else_wrote_is_sealed_once(self, pool: PoolUnderTest) -> None:
        volume = await written(pool, 7)
        snapshot = snapshot_of(volume)
        with pytest.raises(StepNever):
            await pool.backend.seal_target(snapshot, CopyWatch())
        await pool.backend.make_target(snapshot)
        path = await pool.backend.make_target(snapshot)
        assert Path(path).is_absolute()
        assert await pool.backend.list_snapshots() == []
        await pool.backend.seal_target(snapshot, CopyWatch())
        await pool.backend.seal_target(snapshot, CopyWatch())
        assert await pool.backend.list_snapshots() == [snapshot.snapshot_id]
        await pool.backend.make_target(snapshot_of(volume))
        await pool.backend.delete_snapshot(snapshot)
        assert await pool.backend.list_snapshots() == []

    async def test_the_capacity_is_a_size_of_which_a_part_is_free(self, pool: PoolUnderTest) -> None:
        capacity = await pool.backend.capacity()
        assert 0 < capacity.free_bytes <= capacity.total_bytes

    async def test_what_is_in_the_pool_becomes_another_volume(self, pool: PoolUnderTest) -> None:
        old = new_volume(pool)
        new = VolumeFile(volume_id=str(uuid.uuid4()), size_bytes=8 * MIB, format=old.format)
        await pool.backend.create_volume(old)
        name = f"volume-{old.volume_id}"
        assert await pool.backend.list_files() == [name]
        assert await pool.backend.measure_file(name, old.format) == 4 * MIB
        await pool.backend.take_file(new, name)
        await pool.backend.take_file(new, name)
        assert await pool.backend.list_volumes() == [new.volume_id]
        assert await pool.backend.measure_file(f"volume-{new.volume_id}", new.format) == 8 * MIB

    async def test_what_is_absent_or_larger_becomes_no_volume_and_stays(self, pool: PoolUnderTest) -> None:
        old = new_volume(pool)
        await pool.backend.create_volume(old)
        with pytest.raises(StepNever):
            await pool.backend.measure_file("volume-none", old.format)
        with pytest.raises(StepNever):
            await pool.backend.take_file(new_volume(pool), "volume-none")
        with pytest.raises(StepNever):
            await pool.backend.take_file(new_volume(pool, MIB), f"volume-{old.volume_id}")
        assert await pool.backend.list_volumes() == [old.volume_id]
