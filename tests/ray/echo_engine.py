"""An engine as another package would bring it: answers with what it was asked, embeds by counting letters.

Asked to wait it never answers, and meanwhile tells others how many wait. With `diary` it notes there that it dozes.
"""

import asyncio
import hashlib
import os

from dpe_ray.types import Completion


class EchoEngine:
    def __init__(self, source, options):
        self.version = 0
        self.diary = options.get("diary")
        self.waiting = 0

    async def chat(self, request):
        _, text, images = request.messages[-1]
        if text == "wait":
            await self.wait_for_ever()
        if text == "how many wait?":
            return [Completion(str(self.waiting))]
        shown = "".join(f" {hashlib.sha256(image).hexdigest()[:8]}" for image in images)
        form = f" {sorted(request.reply_schema)}" if request.reply_schema else ""
        return tuple(Completion(f"{i}: {text}{shown}{form}") for i in range(request.n))

    async def wait_for_ever(self):
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1

    def load_policy(self, policy):
        self.version = policy.version
        return self.version

    def doze(self):
        with open(self.diary, "a") as diary:
            diary.write(f"{os.getpid()}\n")

    async def embed(self, texts):
        return [[float(text.count(letter)) for letter in "abc"] for text in texts]
