r"""A rationale as ordered steps: numbered lines where it has them, sentences where it has not.

The closing answer is no step: a teacher that is told the answer always switches there at the latest. What stands
before the first item and, in paragraphs of its own, behind the last is cut into sentences. Display formulas, lead-ins
that end in a colon and scraps of a word or two stay with a neighbour.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

FEWEST_WORDS = 3
"""Sentences with fewer words are joined to a neighbour; numbered steps may be as short as they like."""

_LABEL = re.compile(
    r"""(?mx) ^ (?P<indent> [ \t]*) (?: [#>]+ [ \t]* )? [*_]{0,3}
    (?: (?i: step) [ \t]+ (?P<step> \d{1,2}) \b [.):]?
    | (?P<number> \d{1,2}) (?: [.)] (?= [\s*_] ) | : [ \t] ) ) [ \t]* """
)
_FORMULA = re.compile(r"\\\[.*?\\\]|\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
_BREAK = re.compile(
    r"""(?x) [.!?] ["')\]*_]* (?= \s+ ["'(\[*_\\$]* [A-Z0-9\\] )  # a stop, and what may begin a sentence
    | \n [ \t]* (?= \n )                                          # a blank line
    | \n (?= [ \t]* (?: [-+*\u2022] | \#{1,6} | \(? [A-Za-z0-9]{1,2} [.)] ) [ \t] )    # a line that begins an item
    | \n (?= [ \t]* [*_\\(\[]* (?: (?i: final | correct ) \s )? (?i: answers? ) \b )   # a line that gives the answer"""
)
_NO_STOP = re.compile(
    r"(?:^\s*[*_#(]*[A-Za-z0-9]{1,2}"  # the label of an item
    r"|(?:^|[\s(])(?:e\.g|i\.e|vs|cf|al|Figs?|Eqs?|Dr|Mrs?|Ms|St|No|Vol|approx)"
    r"|(?i:answer|option)\W{1,6}(?:is\W{1,4})?[A-Z][*_)]*)\.[*_)]*$"  # the letter of an option before its words
)
_FORMULA_NEXT = re.compile(r"\s*(?:\\\[|\$\$|\\begin\{)")
_CLOSING = re.compile(
    r"\banswers?\b[^.\n]{0,40}?(?:\b(?:is|are|be)\b|[:=])"
    r"|\b(?:correct|right|best|closest)\s+(?:option|choice|letter)\b[^.\n]{0,40}?(?:\b(?:is|are|be)\b|[:=])"
    r"|\b(?:option|choice)\s+\W{0,3}[A-Z]\b\W{0,3}\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
    r"|\\boxed\s*\{",
    re.IGNORECASE,
)
_LONE_LETTER = re.compile(r"\W*(?:option\s+)?[A-Z]\W*", re.IGNORECASE)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Step:
    """One step of a rationale. The spans of all steps follow each other without a gap from the source's beginning."""

    text: str
    """As it was written, without its number and the space around it."""
    start: int
    end: int
    """source[start:end] is the step with its number; what follows the last step's end is the closing answer."""


def split_steps(source: str) -> tuple[Step, ...]:
    """Cut a rationale into its steps, the closing answer left out; empty when there is nothing but an answer."""
    starts = _sentence_starts(source)
    ends = [*starts[1:], len(source)]
    while starts and _is_closing(source[starts[-1] : ends[-1]]):
        starts, ends = starts[:-1], ends[:-1]
    stop = ends[-1] if ends else 0
    items = _item_starts(source[:stop])
    if len(items) > 1:
        behind = _behind(source[:stop], items)
        before = _joined(source, [s for s in starts if s < items[0]], items[0])
        starts = [*before, *items, *_joined(source, [s for s in starts if s > behind], stop)]
        if before and _leads_on(source[before[-1] : items[0]]):
            starts.remove(items[0])
    else:
        starts = _joined(source, starts, stop)
    return tuple(Step(_text(source[start:end]), start, end) for start, end in pairwise([*starts, stop]))


def _sentence_starts(source: str) -> list[int]:
    """Where sentences begin, 0 first; each begins right behind the break that ends the one before."""
    formulas = [found.span() for found in _FORMULA.finditer(source)]
    starts = [0]
    for found in _BREAK.finditer(source):
        at = found.end()
        inside = any(start < at < end for start, end in formulas)
        goes_on = _FORMULA_NEXT.match(source, at) and not source[:at].rstrip().endswith((".", "!", "?"))
        line = source[source.rfind("\n", 0, found.start()) + 1 : at]
        if inside or goes_on or (found[0][0] == "." and _NO_STOP.search(line)):
            continue
        starts.append(at)
    return starts


def _is_closing(sentence: str) -> bool:
    says_nothing = not _WORD.search(sentence) or _is_lead_in(sentence)
    return says_nothing or bool(_CLOSING.search(sentence) or _LONE_LETTER.fullmatch(sentence.strip()))


def _item_starts(body: str) -> list[int]:
    """Where the items of the outermost list begin, `Step 1` before `1.`; a list that begins anew at 1 goes on."""
    labels = list(_LABEL.finditer(body))
    worded = [label for label in labels if label["step"]]
    labels = worded if len(worded) > 1 else labels
    outer = min((_depth(label) for label in labels), default=0)
    starts, last = [], 0
    for label in labels:
        number = int(label["step"] or label["number"])
        if _depth(label) == outer and (number == 1 or (last and number == last + 1)):
            starts.append(label.start())
            last = number
    return starts


def _depth(label: re.Match[str]) -> int:
    return len(label["indent"].expandtabs(4))


def _behind(body: str, items: list[int]) -> int:
    """Where the last item ends and text of its own begins, or the body's end.

    In a list whose earlier items also run over flush paragraphs, those of the last item are its own.
    """
    flush = re.compile(r"\n[ \t]*\n(?=[^\s\\$])")
    earlier = any(flush.search(body[start:end].rstrip()) for start, end in pairwise(items))
    found = None if earlier else flush.search(body, items[-1])
    return found.start() if found else len(body)


def _joined(source: str, starts: list[int], stop: int) -> list[int]:
    """Starts of the sentences that stand alone: scraps go to the one before, lead-ins to the one after."""
    kept: list[int] = []
    leads_on = False
    for start, end in pairwise([*starts, stop]):
        stands = len(_WORD.findall(source[start:end])) >= FEWEST_WORDS or _is_lead_in(source[start:end])
        if not kept or (stands and not leads_on):
            kept.append(start)
        leads_on = _leads_on(source[kept[-1] : end])
    return kept


def _leads_on(span: str) -> bool:
    """Whether a span says nothing without what follows."""
    return _is_lead_in(span) or len(_WORD.findall(span)) < FEWEST_WORDS


def _is_lead_in(span: str) -> bool:
    return span.rstrip(" \n*_").endswith(":")


def _text(span: str) -> str:
    """The words of a span without the label of its item; the label where there is nothing else."""
    words = span.strip()
    label = _LABEL.match(words)
    return (words[label.end() :].strip() if label else "") or words
