"""Words of a text, as every lexical index and query counts them."""

import re
from functools import lru_cache

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(STOPWORDS_EN)
"""Lucene's 33. Longer lists hold above, below, under, same, more and most: words that name visual skills."""


def tokenise(text: str) -> list[str]:
    """Lower-case words in order, stop words left out, reduced to their Snowball stem (English).

    Underscores and hyphens separate, so that `shape_colour` gives the words of "shape colour".
    """
    return [_stem(word) for word in _WORD.findall(text.casefold()) if word not in _STOP]


@lru_cache(maxsize=1 << 20)
def _stem(word: str) -> str:
    # a stemmer may not be shared by threads, and making one costs less than a lock
    stem: str = Stemmer.Stemmer("english").stemWord(word)
    return stem
