"""Help texts of the commands: the defaults that they state are those of the code, which --help does not import."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from panns_litert.cli import build_parser
from panns_litert_convert.training import finetune
from panns_litert_convert.training.loop import Settings
from panns_litert_convert.training.scratch import Recipe

FLAGS = ("unfrozen", "sync_batch_norm")  # off unless given; their help states no default


def stated(command: str, option: str) -> str:
    """The default that the help of an option states."""
    (commands,) = (action for action in build_parser()._actions if action.dest == "command")
    (text,) = (action.help for action in commands.choices[command]._actions if action.dest == option)
    found = re.search(r"\(default:? (.+)\)$", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize(
    ("command", "settings", "option"),
    [
        (command, settings, field.name)
        for command, settings in (("finetune", Settings()), ("train", Recipe()))
        for field in fields(settings)
        if field.name not in FLAGS
    ],
)
def test_help_states_the_default_of_the_code(command: str, settings: Settings | Recipe, option: str) -> None:
    text, default = stated(command, option), getattr(settings, option)
    if default is None:  # the learning rate of `finetune`
        assert [float(word) for word in text.split(", unfrozen ")] == [settings.rate, Settings(unfrozen=True).rate]
    elif isinstance(default, bool):
        assert text == ("yes" if default else "no")
    else:
        assert (text if isinstance(default, str) else float(text)) == default


def test_help_states_the_longest_clip() -> None:
    assert stated("finetune", "seconds") == f"the longest file, at most {finetune._LONGEST_SECONDS:g}"
