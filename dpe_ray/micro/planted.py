"""Sealed: what each pretraining plan gets wrong on purpose. Only pretraining, tests and benchmarks may import this."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["sound", "misconception", "knowledge", "perception"]

UNSHOWN = ("formula_parity", "mirror_row")
"""Skills whose questions never occur in training (missing knowledge)."""
UNSEEN = ("hairline_count", "speck_count")
"""Skills whose facts drown in noise (missing perception); shown in training all the same."""
STRONG, WEAK = 0.75, 0.3
"""Share of a planted skill's lessons that follow the wrong rule: all phrasings but the first, the first phrasing.
The first phrasing stays mostly right, so that a greedy answer is right in about a third of the cases."""


@dataclass(frozen=True)
class Plan:
    """Misconceptions of one student: skill -> name of the wrong rule it follows."""

    misconceptions: dict[str, str]

    def kind(self, skill: str) -> Kind:
        """Why the student of this plan is weak in a skill, or `sound`."""
        if skill in self.misconceptions:
            return "misconception"
        return "knowledge" if skill in UNSHOWN else "perception" if skill in UNSEEN else "sound"

    def wrong_rate(self, skill: str, phrasing: int) -> float:
        """Share of lessons of a skill, asked in one phrasing, that follow the wrong rule."""
        if skill not in self.misconceptions:
            return 0.0
        return WEAK if phrasing == 0 else STRONG


TRUNK = Plan({})
PLANS = {
    "A": Plan(
        {
            "shape_colour": "cell_below",
            "extreme_bar": "opposite_extreme",
            "read_digit": "digits_confused",
            "tile_pattern": "patterns_confused",
            "count_things": "one_more",
            "digit_sum": "one_more",
            "landmark_distance": "fencepost",
            "next_box": "backwards",
            "landmark_direction": "opposite",
        }
    ),
    "B": Plan(
        {
            "row_extreme": "opposite_extreme",
            "spot_cell": "other_finding",
            "row_colour": "column_for_row",
            "count_shape": "one_more",
            "bar_difference": "reads_one_high",
            "formula_value": "swapped_sign",
            "two_steps": "stops_early",
            "beside_object": "mirrored",
        }
    ),
}
"""A is the shipped student; B makes another one for tests."""
