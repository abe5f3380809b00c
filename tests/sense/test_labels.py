"""Class names: which lists are valid."""

from __future__ import annotations

import pytest

from panns_litert.errors import BundleError, LabelError
from panns_litert.sense import class_names, require_class_names

REFUSED = {
    "line break": (["Dog", "Ca\nt"], "line 2: .* holds the character U\\+000A"),
    "carriage return": (["Ca\rt"], "U\\+000D"),
    "tab": (["Dog", "Cat", "a\tb"], "line 3: .* U\\+0009"),
    "escape": (["\x1b[31mDog"], "U\\+001B"),
    "NUL": (["\0"], "U\\+0000"),
    "delete": (["a\x7f"], "U\\+007F"),
    "C1 control": (["a\x9b"], "U\\+009B"),
    "line separator": (["a\u2028b"], "U\\+2028"),
    "surrogate": (["a\ud800"], "U\\+D800"),
    "right-to-left override": (["a\u202eb"], "U\\+202E"),
    "isolate": (["\u2066a"], "U\\+2066"),
    "byte order mark": (["Dog", "\ufeffCat"], "U\\+FEFF"),
    "empty": (["Dog", ""], "line 2: an empty name"),
    "blank": (["Dog", "  "], "line 2: an empty name"),
    "twice": (["Dog", "Cat", "Dog"], "line 3: 'Dog' is on line 1, too"),
    "none": ([], "no names"),
    "one text": ("Dog", "expected a list"),
    "no list": (3, "expected a list"),
    "no text": (["Dog", 3], "line 2: 3 is no text"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_lists_that_are_refused(kind: str) -> None:
    names, message = REFUSED[kind]
    with pytest.raises(BundleError, match=f"labels.txt.*{message}") as caught:
        require_class_names(names, "labels.txt", error=BundleError)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()


def test_lists_that_are_accepted() -> None:
    names = ("=Dog", "Vehicle horn, car horn, honking", "Ü", "a<b>", "\N{WOMAN}\u200d\N{ROCKET}", "dog", "nan", "001")
    assert require_class_names(names) == require_class_names(iter(names)) == names
    assert class_names("\n".join(names), "it") == names
    assert class_names("\ufeff" + "\r\n".join(names) + "\r\n", "it") == names


@pytest.mark.parametrize("text", ["", "\n", "Dog\n\n", "\nDog", "Dog\x0bCat\n", "Dog\x85Cat", "Dog\rCat", "Dog\nDog\n"])
def test_texts_that_are_refused(text: str) -> None:
    with pytest.raises(LabelError, match=r"it.*: .*expected different names, one a line"):
        class_names(text, "it")
