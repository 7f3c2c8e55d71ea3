"""Help names every flag, with readable defaults."""

import pytest

from datastill.command.help import WIDTH, overview
from datastill.command.understand import verb_help
from datastill.command.words import flag_of
from datastill.flags import VERBS
from datastill.ground.errors import ConfigError
from datastill.ground.options import options


def test_overview__names_every_verb() -> None:
    assert all(f"\n  {verb} " in overview() for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_verb_help__names_every_flag(verb: str) -> None:
    text = verb_help(verb, [])
    for option in options(VERBS[verb].flags):
        shown = flag_of(option.name) in text or option.name.upper().removesuffix("S") in text
        assert shown != (option.name == "resolved")


@pytest.mark.parametrize("verb", VERBS)
def test_verb_help__is_clean_text(verb: str) -> None:
    lines = verb_help(verb, []).splitlines()
    assert not [word for word in ("None", "null", "Literal", "<", "()") if word in "".join(lines)]
    assert all(len(line) <= WIDTH for line in lines if not line.startswith("For example"))


def test_verb_help__shows_the_options_of_the_named_component() -> None:
    assert "--method.targets" in verb_help("distill", ["--method", "random-subset"])
    assert "--finetune.steps" in verb_help("transfer", ["--task", "finetune"])


def test_verb_help__required_flags_stand_in_the_usage() -> None:
    first = verb_help("transfer", []).splitlines()[0]
    assert first == "usage: datastill transfer ORIGIN ... --to NAME,.. [--flag VALUE ...]"


def test_verb_help__unknown_component_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'krr-st'"):
        verb_help("distill", ["--method", "krr"])
