"""An engine as another package would bring it: answers with what it was asked, embeds by counting letters."""

import hashlib

from dpe_ray.types import Completion


class EchoEngine:
    def __init__(self, source, options):
        self.version = 0

    async def chat(self, request):
        _, text, images = request.messages[-1]
        shown = "".join(f" {hashlib.sha256(image).hexdigest()[:8]}" for image in images)
        form = f" {sorted(request.reply_schema)}" if request.reply_schema else ""
        return tuple(Completion(f"{i}: {text}{shown}{form}") for i in range(request.n))

    async def embed(self, texts):
        return [[float(text.count(letter)) for letter in "abc"] for text in texts]
