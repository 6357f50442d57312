import asyncio

from dpe_ray.models.turnstile import Turnstile


async def test_many_are_inside_together_and_a_change_is_alone():
    turnstile, inside, seen = Turnstile(), [], []

    async def request(name):
        async with turnstile.together():
            inside.append(name)
            seen.append(tuple(inside))
            await asyncio.sleep(0.01)
            inside.remove(name)

    async def change():
        async with turnstile.alone():
            inside.append("change")
            seen.append(tuple(inside))
            await asyncio.sleep(0.01)
            inside.remove("change")

    await asyncio.gather(request("a"), request("b"), change(), change(), request("c"))
    assert ("a", "b") in seen
    assert seen.count(("change",)) == 2
    assert [names for names in seen if "change" in names and len(names) > 1] == []


async def test_a_change_that_waits_is_not_overtaken():
    turnstile, order = Turnstile(), []

    async def request(name, seconds):
        async with turnstile.together():
            order.append(name)
            await asyncio.sleep(seconds)

    async def change():
        async with turnstile.alone():
            order.append("change")

    first = asyncio.create_task(request("first", 0.05))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(change())
    await asyncio.sleep(0.01)
    await asyncio.gather(first, waiting, request("late", 0))
    assert order == ["first", "change", "late"]


async def test_whoever_gives_up_leaves_the_way_free():
    turnstile = Turnstile()
    holder = asyncio.create_task(_hold(turnstile))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        for _ in range(2):
            change = asyncio.create_task(_change(turnstile))
            await asyncio.sleep(0.01)
            change.cancel()
            await asyncio.gather(change, return_exceptions=True)
        async with turnstile.together():
            pass
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
        await _change(turnstile)
    assert holder.cancelled()


async def _hold(turnstile):
    async with turnstile.together():
        await asyncio.sleep(60)


async def _change(turnstile):
    async with turnstile.alone():
        pass
