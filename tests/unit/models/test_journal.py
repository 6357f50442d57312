import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import time
import tracemalloc

import pytest

from dpe_ray.errors import ModelUnavailable, StoreError
from dpe_ray.models.journal import Journal, JournaledChat, call_key, read_journal
from dpe_ray.ports import ChatReply, ChatRequest, Message
from dpe_ray.types import ImageRef

IMAGE = ImageRef("a" * 64, "0" * 16, 8, 8, "image/png", "/somewhere/a.png")
REQUEST = ChatRequest((Message("user", "Why?", (IMAGE,)),), "judge", "item-1", "judge@1", n=2)


class Scripted:
    """Answers with its number of calls; fails where the script says so."""

    def __init__(self, fail=()):
        self.calls, self.fail = 0, fail

    async def ask(self, request, call):
        self.calls += 1
        call.attempts = 3
        if self.calls in self.fail:
            raise ModelUnavailable("down")
        return ChatReply((f"answer {self.calls}",) * request.n, "m@v1", "", 7, 5)


def chat(folder, inner, version=0, look_every_s=0.0):
    return JournaledChat(inner, Journal(folder, "teacher", look_every_s), "teacher", "m", version)


def line_of(key, text="text"):
    return {"key": key, "texts": [text], "answered_by": "m", "prompt_tokens": 0, "completion_tokens": 0}


async def test_an_equal_request_is_answered_from_the_journal(tmp_path):
    inner = Scripted()
    first = await chat(tmp_path, inner).chat(REQUEST)
    again = await chat(tmp_path, inner).chat(REQUEST)
    assert inner.calls == 1
    assert not first.cached
    assert again == dataclasses.replace(first, cached=True)
    assert first.call == call_key(REQUEST, "m")


class Slow(Scripted):
    """Answers when all who ask have had time to."""

    async def ask(self, request, call):
        await asyncio.sleep(0.05)
        return await super().ask(request, call)


async def test_equal_requests_side_by_side_are_paid_once(tmp_path):
    inner = Slow()
    asking = chat(tmp_path, inner)
    replies = await asyncio.gather(*[asking.chat(REQUEST) for _ in range(5)])
    assert inner.calls == 1
    assert sorted(reply.cached for reply in replies) == [False, True, True, True, True]
    assert {reply.texts for reply in replies} == {("answer 1", "answer 1")}


async def test_when_the_first_of_equal_requests_fails_the_next_one_asks(tmp_path):
    inner = Slow(fail=(1,))
    asking = chat(tmp_path, inner)
    first, *others = await asyncio.gather(*[asking.chat(REQUEST) for _ in range(3)], return_exceptions=True)
    assert isinstance(first, ModelUnavailable)
    assert inner.calls == 2
    assert {reply.texts for reply in others} == {("answer 2", "answer 2")}


async def test_a_caller_that_leaves_does_not_leave_equal_ones_waiting(tmp_path):
    inner = Slow()
    asking = chat(tmp_path, inner)
    leaving = asyncio.create_task(asking.chat(REQUEST))
    staying = asyncio.create_task(asking.chat(REQUEST))
    await asyncio.sleep(0.01)
    leaving.cancel()
    assert (await asyncio.wait_for(staying, 5)).texts == ("answer 1", "answer 1")


async def test_a_line_says_who_asked_what_it_cost_and_what_came_back(tmp_path):
    await chat(tmp_path, Scripted()).chat(REQUEST)
    [line] = read_journal(tmp_path)
    asked = {"endpoint": "teacher", "role": "judge", "item": "item-1", "prompt_version": "judge@1", "n": 2}
    cost = {"attempts": 3, "prompt_tokens": 7, "completion_tokens": 5, "answered_by": "m@v1"}
    assert line.items() >= {**asked, **cost}.items()
    assert line["texts"] == ["answer 1", "answer 1"]
    assert line["seconds"] >= 0


async def test_a_torn_last_line_is_forgotten_and_asked_anew(tmp_path):
    inner = Scripted()
    model = chat(tmp_path, inner)
    await model.chat(REQUEST)
    other = dataclasses.replace(REQUEST, item="item-2")
    await model.chat(other)
    [file] = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    again = chat(tmp_path, inner)
    assert (await again.chat(REQUEST)).cached
    assert not (await again.chat(other)).cached
    assert (await chat(tmp_path, inner).chat(other)).cached  # the new life wrote a file of its own


async def test_what_another_process_paid_is_found_after_both_had_opened(tmp_path):
    inner = Scripted()
    first, second = chat(tmp_path, inner), chat(tmp_path, inner)
    paid = await first.chat(REQUEST)
    assert await second.chat(REQUEST) == dataclasses.replace(paid, cached=True)
    later = dataclasses.replace(REQUEST, item="item-2")
    await first.chat(later)
    assert (await second.chat(later)).cached, "the file was read before, and is longer now"
    assert inner.calls == 2


async def test_of_a_file_that_grew_only_the_tail_is_read(tmp_path):
    def line(key):
        return json.dumps(line_of(key, key)) + "\n"

    file = tmp_path / "other.jsonl"
    file.write_text(line("a"))
    journal = Journal(tmp_path, "w", look_every_s=0.0)
    half = line("b")[:20]
    file.write_text("?" * (len(line("a")) - 1) + "\n" + half)
    assert await journal.find("b") is None
    with file.open("a") as more:
        more.write(line("b")[20:])
    assert (await journal.find("b")).texts == ("b",)


async def test_a_journal_holds_no_replies(tmp_path):
    journal, text = Journal(tmp_path, "w"), "x" * 10_000
    tracemalloc.start()
    for number in range(300):
        await journal.append(line_of(f"{number:016x}", text))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 300_000
    assert (await journal.find(f"{299:016x}")).texts == (text,)


async def test_misses_look_at_the_folder_only_now_and_then(tmp_path):
    inner = Scripted()
    first, second = chat(tmp_path, inner), chat(tmp_path, inner, look_every_s=0.2)
    paid = await first.chat(REQUEST)
    assert not (await second.chat(REQUEST)).cached, "it has looked when it was opened"
    await first.chat(later := dataclasses.replace(REQUEST, item="item-2"))
    await asyncio.sleep(0.2)
    assert (await second.chat(later)).cached
    assert paid.texts == ("answer 1",) * 2


async def test_lines_that_come_while_others_are_synced_are_synced_together(tmp_path, monkeypatch):
    syncs = []

    def slow(file):
        time.sleep(0.05)
        syncs.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fdatasync", slow)
    journal = Journal(tmp_path, "w")
    sizes = await asyncio.gather(*[appended(journal, str(number), syncs) for number in range(200)])
    assert len(syncs) <= 3
    assert all(size > 0 for size in sizes), "nobody goes on before a sync has ended"
    assert len(list(read_journal(tmp_path))) == 200


async def appended(journal, key, syncs):
    await journal.append(line_of(key))
    return max(syncs, default=0)


def test_what_was_paid_is_kept_when_the_loop_ends_before_it_is_written(tmp_path):
    async def interrupted():
        journal = Journal(tmp_path, "w")
        tasks = [asyncio.create_task(journal.append(line_of(str(number)))) for number in range(20)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(journal.append(line_of(str(number)))) for number in range(20, 40)]
        await asyncio.sleep(0)

    asyncio.run(interrupted())
    assert {line["key"] for line in read_journal(tmp_path)} == {str(number) for number in range(40)}


async def test_a_broken_line_in_a_tail_is_named_by_its_number_in_the_file(tmp_path):
    file = tmp_path / "w.jsonl"
    file.write_text('{"key": "a", "error": "x"}\n' * 2)
    journal = Journal(tmp_path, "w", look_every_s=0.0)
    with file.open("a") as more:
        more.write("broken\n")
    with pytest.raises(StoreError, match=r"w\.jsonl:3"):
        await journal.find("b")


async def test_an_outage_is_recorded_but_asked_again(tmp_path):
    inner = Scripted(fail=(1,))
    with pytest.raises(ModelUnavailable):
        await chat(tmp_path, inner).chat(REQUEST)
    [line] = read_journal(tmp_path)
    assert (line["outage"], line["attempts"]) == (True, 3)
    assert (await chat(tmp_path, inner).chat(REQUEST)).texts == ("answer 2", "answer 2")


def test_everything_that_changes_the_answer_changes_the_key():
    image = dataclasses.replace(IMAGE, sha256="b" * 64)
    changed = [dataclasses.replace(REQUEST, messages=(Message("user", "Why?", (image,)),))]
    changes = {
        "role": "planner",
        "item": "x",
        "prompt_version": "judge@2",
        "n": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 1,
        "top_logprobs": 3,
    }
    changed += [dataclasses.replace(REQUEST, **{name: value}) for name, value in changes.items()]
    keys = {call_key(r, "m") for r in (REQUEST, *changed)} | {call_key(REQUEST, "m", 1), call_key(REQUEST, "other")}
    assert len(keys) == len(changed) + 3


def test_the_place_of_an_image_does_not_change_the_key():
    moved = Message("user", "Why?", (dataclasses.replace(IMAGE, uri="s3://elsewhere"),))
    assert call_key(dataclasses.replace(REQUEST, messages=(moved,)), "m") == call_key(REQUEST, "m")


def test_a_broken_line_that_no_kill_explains_is_an_error(tmp_path):
    (tmp_path / "w.jsonl").write_text('{"key": "a"}\nbroken\n{"key": "b"}\n')
    with pytest.raises(StoreError, match=r"w\.jsonl:2"):
        list(read_journal(tmp_path))


def write_until_killed(folder, pipe):
    async def calls(first):
        for number in range(first, 100_000, 8):
            await journal.append(line_of(str(number), "x" * 3000))
            pipe.send(number)

    async def eight():
        await asyncio.gather(*map(calls, range(8)))

    journal = Journal(folder, "w")
    asyncio.run(eight())


def test_what_was_reported_finished_survives_kill_9(tmp_path):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    writer = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=(tmp_path, theirs))
    writer.start()
    told = {str(ours.recv()) for _ in range(60)}
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    theirs.close()
    with contextlib.suppress(EOFError):  # all that it told before it died
        while True:
            told.add(str(ours.recv()))
    assert told <= {line["key"] for line in read_journal(tmp_path)}


async def test_a_failed_write_is_a_store_error_and_the_next_line_starts_a_clean_file(tmp_path):
    journal = Journal(tmp_path / "j", "w")
    (tmp_path / "j").write_text("a file where the folder should be")
    line = line_of("k")
    for done in await asyncio.gather(journal.append(line), journal.append(line), return_exceptions=True):
        assert isinstance(done, StoreError)
        assert "free space" in str(done)
    (tmp_path / "j").unlink()
    await journal.append(line)
    assert [json.dumps(kept) for kept in read_journal(tmp_path / "j")] == [json.dumps(line)]
