"""A scripted team whose slots begin with a cell, over a small pool with captions or a web that is not there."""

import json
from dataclasses import dataclass
from pathlib import Path

from builders import write_png
from unit.supply.conftest import Team

from dpe_ray.models.downloads import Downloaded
from dpe_ray.models.rasters import Refusal, RefusedImage
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.sets import ImagePool
from dpe_ray.supply.annotate.slot import ACQUIRING, ROLES, SlotConfig
from dpe_ray.supply.tools.edit_limits import EditLimits
from dpe_ray.supply.tools.image_editor import EditorDoor
from dpe_ray.supply.tools.image_search import PoolSearchDoor, WebSearch
from dpe_ray.supply.tools.recorded import Tools

PLAN = {
    "query": "red ring", "must_show": "one ring", "question_type": "text", "difficulty": " Hard",
    "plan": "Ask its colour.", "edit": "",
}  # fmt: skip
FLIP = {"edit": {"operations": [{"op": "flip"}]}, "reason": "mirrored"}


class CellTeam(Team):
    """A Team with a planner that plans by cell, a selector that takes the first image and an editor that flips."""

    def __init__(self) -> None:
        super().__init__()
        self.replies = {"planner": PLAN, "image_selector": {"chosen": [1], "reason": "sharp"}, "image_editor": FLIP}
        for role in self.replies:
            self.says[role] = lambda request, role=role: json.dumps(self.replies[role])

    def reply(self, role: str, **values: object) -> None:
        """Make planner, selector or editor reply with other values."""
        self.replies[role] = self.replies[role] | values

    def config(self, **values: object) -> SlotConfig:
        """A config with this team behind every door."""
        return SlotConfig(doors=dict.fromkeys((*ROLES, *ACQUIRING), self.chat), **values)


def captioned(folder: Path, count: int = 12, caption: str = "a red ring, number {}") -> ImagePool:
    """A pool of `count` images with captions and a licence."""
    lines = []
    for number in range(count):
        write_png(folder / f"{number}.png", number)
        lines.append(json.dumps({"path": f"{number}.png", "caption": caption.format(number), "license": "by 4.0"}))
    (folder / "list.jsonl").write_text("\n".join(lines))
    return ImagePool(str(folder / "list.jsonl"), ImageStore(folder / "images"))


def pool_tools(folder: Path, *, edits: bool = False, forbidden: tuple[str, ...] = (), **values: object) -> Tools:
    """Search over `captioned`, and Pillow where edits are wanted."""
    pool = captioned(folder, **({"count": values.pop("count")} if "count" in values else {}))
    limits = EditLimits({"geometric": frozenset(forbidden)})
    editor = EditorDoor(ImageStore(folder / "images"), limits) if edits else None
    return Tools(PoolSearchDoor(pool.captions, pool.take), editor=editor, **values)


@dataclass
class Web:
    """A provider and the hosts of its images, in one place; a door to itself."""

    found: list
    pictures: dict[str, bytes]
    keeper: ImageStore
    name: str = "openverse"

    def __post_init__(self) -> None:
        self.asked, self.fetched = [], []

    def open(self) -> WebSearch:
        """The real search, over this web."""
        return WebSearch(self, self, self.keeper)

    async def search(self, query, count, page=0):
        """As `WebProvider.search`; there is one page."""
        self.asked.append((query, count, page))
        return [] if page else self.found[:count]

    async def fetch(self, url):
        """As `Downloader.fetch`."""
        self.fetched.append(url)
        if url not in self.pictures:
            raise RefusedImage(Refusal.UNREACHABLE, f"{url} gives HTTP 404")
        return Downloaded(self.pictures[url], url)
