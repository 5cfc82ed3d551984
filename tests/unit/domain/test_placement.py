from __future__ import annotations

from kevel.domain.placement import Room, place_servers


def room(host: str, *, vcpus_left: int = 32, memory_mib_left: int = 1024) -> Room:
    return Room(
        host=host,
        availability_zone="nova",
        vcpus=2,
        vcpus_left=vcpus_left,
        memory_mib_left=memory_mib_left,
        volumes_max=4,
    )


def test_servers_spread_over_the_emptiest_hosts() -> None:
    placed = place_servers([room("a"), room("b", memory_mib_left=2048)], vcpus=1, memory_mib=1024, count=3)
    assert [one.host for one in placed] == ["b", "b", "a"]


def test_memory_is_never_shared() -> None:
    assert place_servers([room("a", memory_mib_left=1023)], vcpus=1, memory_mib=1024, count=1) == []


def test_a_guest_has_at_most_the_processors_of_its_host() -> None:
    assert place_servers([room("a")], vcpus=3, memory_mib=1, count=1) == []
    assert place_servers([room("a", vcpus_left=1)], vcpus=2, memory_mib=1, count=1) == []


def test_a_guest_has_at_most_the_volumes_that_its_host_can_give_it() -> None:
    assert len(place_servers([room("a")], vcpus=1, memory_mib=1, volumes=4, count=1)) == 1
    assert place_servers([room("a")], vcpus=1, memory_mib=1, volumes=5, count=1) == []


def test_without_hosts_nothing_is_placed() -> None:
    assert place_servers([], vcpus=1, memory_mib=1, count=2) == []
