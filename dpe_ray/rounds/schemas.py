"""Columns of the parquet files in a round's folder."""

import pyarrow as pa

_IMAGE = pa.struct(
    [
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("media_type", pa.string()),
        ("uri", pa.string()),
        ("origin", pa.string()),
        ("licence", pa.string()),
        ("source", pa.string()),
        ("query", pa.string()),
    ]
)
_ANSWER = pa.struct(
    [
        ("kind", pa.string()),
        ("value", pa.string()),
        ("aliases", pa.list_(pa.string())),
        ("tolerance", pa.float64()),
    ]
)
_STEP = pa.struct(
    [("role", pa.string()), ("prompt_version", pa.string()), ("model", pa.string()), ("call", pa.string())]
)
_PROVENANCE = pa.struct(
    [
        ("source", pa.string()),
        ("round", pa.int32()),
        ("cell", pa.string()),
        ("steps", pa.list_(_STEP)),
        ("recipe", pa.string()),
        ("parents", pa.list_(_IMAGE)),
    ]
)
_DIFFICULTY = pa.struct([("pass_rate", pa.float64()), ("n", pa.int32()), ("policy_version", pa.int32())])

SAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("images", pa.list_(_IMAGE)),
        ("question", pa.string()),
        ("options", pa.list_(pa.string())),
        ("answer", _ANSWER),
        ("rationale", pa.string()),
        ("category", pa.string()),
        ("skills", pa.list_(pa.string())),
        ("provenance", _PROVENANCE),
        ("difficulty", _DIFFICULTY),
    ]
)
REJECTED = pa.schema(
    [*SAMPLES, ("slot", pa.int64()), ("gate", pa.string()), ("reason", pa.string()), ("cell", pa.string())]
)
VERDICTS = pa.schema(
    [
        ("set", pa.string()),
        ("item", pa.string()),
        ("category", pa.string()),
        ("image", pa.string()),
        ("answer", pa.string()),
        ("verdict", pa.string()),
        ("grader", pa.string()),
        ("reason", pa.string()),
    ]
)
