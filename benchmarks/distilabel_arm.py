"""The arm of `throughput.py` in which distilabel asks, run by the interpreter of an environment of its own.

    python -m venv ENV && ENV/bin/pip install "distilabel[openai]==1.5.3" pillow requests
    ENV/bin/python benchmarks/distilabel_arm.py --url URL --pictures FOLDER --items 1000

One pipeline: a step that reads, decodes and hashes the pictures, then `TextGenerationWithImage` with batches as large
as the calls in flight, each asked at once. Prints what `throughput.measured` needs as one JSON line: seconds of every
completion since the first row was read, bytes of all processes while they ask, processor seconds with those of their
start. The time of their start is left out, as Ray's is.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ["OPENAI_API_KEY"] = "none"  # read where the class of the client is made

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import GeneratorStep
from distilabel.steps.tasks import TextGenerationWithImage
from PIL import Image

IN_FLIGHT = 64
"""As `throughput_arms.IN_FLIGHT`."""
PROMPT = "Look at the image, then write one question about it that has four options. Answer in JSON. Number {}."
"""As `throughput_arms.PROMPT`."""


class Pictures(GeneratorStep):
    """Rows {instruction, image}: the pictures of a folder in turn."""

    folder: str
    items: int
    notes: str

    @property
    def outputs(self) -> list[str]:
        """Columns."""
        return ["instruction", "image"]

    def process(self, offset: int = 0) -> Any:
        """Yield (rows, whether these are the last)."""
        note(self.notes)
        files = sorted(Path(self.folder).glob("*.jpg"))
        for first in range(offset, self.items, self.batch_size):
            numbers = range(first, min(first + self.batch_size, self.items))
            rows = [{"instruction": PROMPT.format(n), "image": read_picture(files[n % len(files)])} for n in numbers]
            yield rows, numbers.stop == self.items


class NotingLLM(OpenAILLM):
    """The official client, as distilabel uses it; notes when an answer is there."""

    notes: str

    # not `agenerate`: distilabel reads its settings from that one's signature
    async def _generate_chat_completion(self, *arguments: Any, **settings: Any) -> Any:
        answer = await super()._generate_chat_completion(*arguments, **settings)
        note(self.notes)
        return answer


def read_picture(path: Path) -> str:
    """Read, decode and hash one picture; gives it as base64."""
    data = path.read_bytes()
    Image.open(io.BytesIO(data)).convert("RGB")
    hashlib.sha256(data).hexdigest()
    return base64.b64encode(data).decode()


def note(file: str) -> None:
    """Append the time: of the first row, then of every completion."""
    with open(file, "a") as notes:
        notes.write(f"{time.monotonic()}\n")


def main() -> None:
    """Run the pipeline and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--items", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        notes, memory = str(Path(folder) / "notes"), list[tuple[float, int]]()
        threading.Thread(target=look, args=(memory,), daemon=True).start()
        answered = run(args.url, args.pictures, args.items, notes)
        first, *completions = map(float, Path(notes).read_text().split())
    assert answered == len(completions) == args.items, f"{answered} rows, {len(completions)} answers"
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    asking = [seen for t, seen in memory if min(completions) <= t <= max(completions)]
    print(json.dumps({"done": sorted(t - first for t in completions), "memory": asking, "cpu": cpu}))


def run(url: str, pictures: str, items: int, notes: str) -> int:
    """Run the pipeline; gives the number of rows that it made."""
    with Pipeline("throughput") as pipeline:
        source = Pictures(folder=pictures, items=items, notes=notes, batch_size=IN_FLIGHT)
        settings = {"max_new_tokens": 512, "temperature": 0.0}
        llm = NotingLLM(model="m", base_url=url, api_key="none", notes=notes, generation_kwargs=settings)
        source >> TextGenerationWithImage(llm=llm, image_type="base64", input_batch_size=IN_FLIGHT)
    return sum(len(split["train"]) for split in pipeline.run(use_cache=False).values())


def look(memory: list[tuple[float, int]]) -> None:
    """Note the resident bytes of this process and all below it, four times a second."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        memory.append((time.monotonic(), sum(resident(pid) for pid in family(os.getpid())) * page))
        time.sleep(0.25)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it ended meanwhile
        children = []
    return [pid, *(one for child in children for one in family(int(child)))]


def resident(pid: int) -> int:
    """Pages."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    main()
