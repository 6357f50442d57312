import dataclasses
import json
import multiprocessing
import os
import signal

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


def chat(folder, inner, version=0):
    return JournaledChat(inner, Journal(folder, "teacher"), "teacher", "m", version)


async def test_an_equal_request_is_answered_from_the_journal(tmp_path):
    inner = Scripted()
    first = await chat(tmp_path, inner).chat(REQUEST)
    again = await chat(tmp_path, inner).chat(REQUEST)
    assert inner.calls == 1
    assert not first.cached
    assert again == dataclasses.replace(first, cached=True)
    assert first.call == call_key(REQUEST, "m")


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


def test_of_a_file_that_grew_only_the_tail_is_read(tmp_path):
    def line(key):
        reply = {"texts": [key], "answered_by": "m", "prompt_tokens": 0, "completion_tokens": 0}
        return json.dumps({"key": key, **reply}) + "\n"

    file = tmp_path / "other.jsonl"
    file.write_text(line("a"))
    journal = Journal(tmp_path, "w")
    half = line("b")[:20]
    file.write_text("?" * (len(line("a")) - 1) + "\n" + half)
    assert journal.find("b") is None
    with file.open("a") as more:
        more.write(line("b")[20:])
    assert [journal.find(key).texts for key in "ab"] == [("a",), ("b",)]


def test_a_broken_line_in_a_tail_is_named_by_its_number_in_the_file(tmp_path):
    file = tmp_path / "w.jsonl"
    file.write_text('{"key": "a", "error": "x"}\n' * 2)
    journal = Journal(tmp_path, "w")
    with file.open("a") as more:
        more.write("broken\n")
    with pytest.raises(StoreError, match=r"w\.jsonl:3"):
        journal.find("b")


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
    journal = Journal(folder, "w")
    for number in range(100_000):
        journal.append(
            {"key": str(number), "texts": ["x" * 3000], "answered_by": "m", "prompt_tokens": 0, "completion_tokens": 0}
        )
        pipe.send(number)


def test_what_was_reported_finished_survives_kill_9(tmp_path):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    writer = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=(tmp_path, theirs))
    writer.start()
    while ours.recv() < 20:
        pass
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    last = 20
    while ours.poll():
        last = ours.recv()
    keys = {line["key"] for line in read_journal(tmp_path)}
    assert {str(n) for n in range(last + 1)} <= keys


def test_a_failed_write_is_a_store_error_and_the_next_line_starts_a_clean_file(tmp_path):
    journal = Journal(tmp_path / "j", "w")
    (tmp_path / "j").write_text("a file where the folder should be")
    line = {"key": "k", "texts": ["t"], "answered_by": "m", "prompt_tokens": 0, "completion_tokens": 0}
    with pytest.raises(StoreError, match="free space"):
        journal.append(line)
    (tmp_path / "j").unlink()
    journal.append(line)
    assert [json.dumps(kept) for kept in read_journal(tmp_path / "j")] == [json.dumps(line)]
